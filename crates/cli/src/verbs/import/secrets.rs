//! Which values are secrets, and how other programs refer to variables. Pure; never shows a value.

use std::path::Path;

/// Words in a field's name that say its value is a secret. A superset of what the bridge refuses as literal.
const SECRET_WORDS: [&str; 18] = [
    "token",
    "secret",
    "password",
    "passwd",
    "passphrase",
    "pwd",
    "apikey",
    "authorization",
    "auth",
    "cookie",
    "credential",
    "credentials",
    "bearer",
    "pat",
    "key",
    "dsn",
    "jwt",
    "signature",
];

/// Beginnings of well-known tokens, whatever their field is called.
const SECRET_BEGINNINGS: [&str; 14] = [
    "ghp_",
    "gho_",
    "ghs_",
    "github_pat_",
    "glpat-",
    "sk-",
    "sk_live_",
    "rk_live_",
    "xoxb-",
    "xoxp-",
    "AKIA",
    "AIza",
    "eyJ",
    "ntn_",
];

/// A value that may name a variable or file instead of holding text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Text {
    /// As it stands.
    Plain,
    /// A reference with text before it.
    Reference {
        /// Put before the secret.
        prefix: String,
        /// `env:NAME` or `file:/path`.
        reference: String,
        /// A default was given, which has no place in ours.
        default_lost: bool,
    },
    /// It names variables in a way ours cannot: several, in the middle, or the program's own.
    Mixed,
}

/// Whether a field of this name holds a secret.
pub(crate) fn is_secret_name(name: &str) -> bool {
    // `apiKey` and `X-API-Key` both end in the word `key`.
    let mut words = String::with_capacity(name.len() + 4);
    let mut before_was_lower = false;
    for character in name.chars() {
        if character.is_ascii_uppercase() && before_was_lower {
            words.push(' ');
        }
        before_was_lower = character.is_ascii_lowercase();
        words.push(if character.is_ascii_alphanumeric() {
            character.to_ascii_lowercase()
        } else {
            ' '
        });
    }
    words.split(' ').any(|word| SECRET_WORDS.contains(&word))
}

/// Whether a value looks like a secret by itself: a known token, or a URL with a password.
pub(crate) fn is_secret_value(value: &str) -> bool {
    let bare = value.strip_prefix("Bearer ").unwrap_or(value);
    let known = SECRET_BEGINNINGS
        .iter()
        .any(|beginning| bare.starts_with(beginning) && bare.len() >= beginning.len() + 8);
    let password = url::Url::parse(value).is_ok_and(|url| url.password().is_some());
    known || password
}

/// Reads `${VAR}`, `${VAR:-default}`, `${env:VAR}`, `${input:id}`, `{env:VAR}`, `{file:path}`.
pub(crate) fn read(text: &str, home: &Path) -> Text {
    let Some(start) = ["${", "{env:", "{file:"]
        .iter()
        .filter_map(|mark| text.find(mark))
        .min()
    else {
        return Text::Plain;
    };
    let (prefix, rest) = text.split_at(start);
    let Some((inner, after)) = rest.split_once('}') else {
        return Text::Plain;
    };
    if !after.is_empty() {
        return Text::Mixed;
    }
    let inner = inner.trim_start_matches('$').trim_start_matches('{');
    let (inner, default_lost) = match inner.split_once(":-") {
        Some((name, _default)) => (name, true),
        None => (inner, false),
    };
    let reference = match inner.split_once(':') {
        Some(("env", name)) => variable(name),
        Some(("input", id)) => variable(&as_variable(id)),
        Some(("file", path)) => Some(absolute(path, home)),
        Some(_) => None,
        None => variable(inner),
    };
    match reference {
        Some(reference) => Text::Reference {
            prefix: prefix.to_owned(),
            reference,
            default_lost,
        },
        None => Text::Mixed,
    }
}

/// A name for the variable that is to hold a secret.
pub(crate) fn as_variable(name: &str) -> String {
    let mut variable: String = name
        .chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() {
                c.to_ascii_uppercase()
            } else {
                '_'
            }
        })
        .collect();
    if variable.starts_with(|c: char| c.is_ascii_digit()) {
        variable.insert(0, '_');
    }
    variable
}

fn variable(name: &str) -> Option<String> {
    let starts_well = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    let plain = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    // VS Code's own: `${workspaceFolder}`, `${userHome}`, `${pathSeparator}`.
    let camel = name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.contains(|c: char| c.is_ascii_uppercase());
    (starts_well && plain && !camel).then(|| format!("env:{name}"))
}

fn absolute(path: &str, home: &Path) -> String {
    let path = match path.strip_prefix("~/") {
        Some(rest) => home.join(rest),
        None => Path::new(path).to_path_buf(),
    };
    let path = std::path::absolute(&path).unwrap_or(path);
    format!("file:{}", path.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_values_give_secrets_away() {
        for name in [
            "GITHUB_TOKEN",
            "Authorization",
            "X-API-Key",
            "apiKey",
            "DB_PASSWORD",
            "AWS_SECRET_ACCESS_KEY",
            "PAT",
        ] {
            assert!(is_secret_name(name), "{name}");
        }
        for name in [
            "MAX_TOKENS",
            "PATH",
            "KEYBOARD",
            "AUTHOR",
            "DEBUG",
            "TOKENIZERS_PARALLELISM",
        ] {
            assert!(!is_secret_name(name), "{name}");
        }
        assert!(is_secret_value("ghp_0123456789abcdef"));
        assert!(is_secret_value("postgres://me:pw@db/x"));
        assert!(!is_secret_value("https://example.com/x") && !is_secret_value("sk-short"));
    }

    #[test]
    fn references_of_every_program_are_read() {
        let home = Path::new("/home/me");
        let reference = |text: &str| match read(text, home) {
            Text::Reference {
                prefix, reference, ..
            } => format!("{prefix}|{reference}"),
            other => format!("{other:?}"),
        };
        assert_eq!(reference("${TOKEN}"), "|env:TOKEN");
        assert_eq!(reference("Bearer ${env:TOKEN}"), "Bearer |env:TOKEN");
        assert_eq!(reference("${input:my-key}"), "|env:MY_KEY");
        assert_eq!(reference("Bearer {env:T}"), "Bearer |env:T");
        assert_eq!(reference("{file:~/key}"), "|file:/home/me/key");
        assert_eq!(reference("plain $5"), "Plain");
        assert_eq!(reference("${A}-${B}"), "Mixed");
        assert_eq!(reference("${workspaceFolder}"), "Mixed");
        assert!(matches!(
            read("${A:-x}", home),
            Text::Reference {
                default_lost: true,
                ..
            }
        ));
    }
}
