//! Takes values out of texts by the name they stand under: what is called a password is one, whoever
//! sent it. Secrets that are known by value are `definition::Redactions`.

use std::borrow::Cow;
use std::sync::LazyLock;

use regex::{Captures, Regex};

/// What stands in place of a value.
pub const MASK: &str = "[redacted]";
/// How names of secrets end, in lower case and without `_` and `-`.
const SECRET_ENDINGS: [&str; 12] = [
    "password",
    "passwd",
    "passphrase",
    "secret",
    "token",
    "apikey",
    "accesskey",
    "privatekey",
    "authorization",
    "cookie",
    "credential",
    "credentials",
];
/// Names that end so and are no secrets: MCP's own, and places in lists.
const NO_SECRETS: [&str; 3] = ["progresstoken", "pagetoken", "nextpagetoken"];
/// `"name": "value"` as in JSON, and `name=value` as in environments and queries.
const NAMED: &str = r#"(?i)(?P<name>[a-z0-9_.-]*(?:password|passwd|passphrase|secret|token|api[_-]?key|access[_-]?key|private[_-]?key|authorization|cookie|credentials?))(?:(?P<json>\\?"\s*:\s*\\?")(?P<text>(?:[^"\\]|\\[^"])*)|(?P<sign>=)(?P<word>[^\s"'&;,\\]+))"#;

/// Whether a value under this name is not to be shown.
#[must_use]
pub fn is_secret_name(name: &str) -> bool {
    let plain: String = name
        .chars()
        .filter(char::is_ascii_alphanumeric)
        .map(|letter| letter.to_ascii_lowercase())
        .collect();
    SECRET_ENDINGS.iter().any(|ending| plain.ends_with(ending))
        && !NO_SECRETS.contains(&plain.as_str())
}

/// A text without the values that stand in it under a secret name; JSON stays JSON.
pub(crate) fn by_name(text: &str) -> Cow<'_, str> {
    static NAMED_VALUES: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(NAMED).ok());
    let Some(named) = &*NAMED_VALUES else {
        return Cow::Borrowed(text);
    };
    named.replace_all(text, |found: &Captures<'_>| {
        let part = |name: &str| found.name(name).map_or("", |part| part.as_str());
        if !is_secret_name(part("name")) {
            return found
                .get(0)
                .map_or_else(String::new, |whole| whole.as_str().to_owned());
        }
        format!("{}{}{}{MASK}", part("name"), part("json"), part("sign"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_secrets_are_known_however_they_are_written() {
        for name in [
            "password",
            "API-Key",
            "userToken",
            "session_cookie",
            "Authorization",
        ] {
            assert!(is_secret_name(name), "{name}");
        }
        for name in ["plain", "tokens", "progressToken", "cookies_allowed"] {
            assert!(!is_secret_name(name), "{name}");
        }
    }

    #[test]
    fn texts_lose_what_stands_under_a_secret_name() {
        for (text, clean) in [
            ("API_TOKEN=abc def", "API_TOKEN=[redacted] def"),
            ("/x?api_key=abc&y=1", "/x?api_key=[redacted]&y=1"),
            (
                r#"{"data":{"password":"a \u00e9 b","user":"ann"}}"#,
                r#"{"data":{"password":"[redacted]","user":"ann"}}"#,
            ),
            (r#"{"progressToken":"abc"}"#, r#"{"progressToken":"abc"}"#),
            ("the token is bad: expired", "the token is bad: expired"),
            ("max_tokens=5", "max_tokens=5"),
        ] {
            assert_eq!(by_name(text), clean);
        }
    }
}
