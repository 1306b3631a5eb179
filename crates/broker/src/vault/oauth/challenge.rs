//! What a server's `WWW-Authenticate` says of where to ask for a grant. Untrusted.

use serde::{Deserialize, Serialize};
use url::Url;

/// Longest value taken over.
const MAX_VALUE_BYTES: usize = 1024;

/// The parameters of a challenge that matter here.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Challenge {
    /// Where the server's metadata is (RFC 9728).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resource_metadata: Option<Url>,
    /// What the request would have needed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<String>,
}

impl Challenge {
    pub(super) fn read(text: &str) -> Self {
        Self {
            resource_metadata: parameter(text, "resource_metadata")
                .and_then(|url| Url::parse(&url).ok()),
            scope: parameter(text, "scope"),
        }
    }
}

/// `name="value"` or `name=token`, without escapes: no URL and no scope holds any.
fn parameter(text: &str, name: &str) -> Option<String> {
    let lower = text.to_ascii_lowercase();
    let mut from = 0;
    while let Some(at) = lower[from..].find(name) {
        let start = from + at;
        let end = start + name.len();
        from = end;
        let before = lower[..start].chars().next_back();
        let apart = before.is_none_or(|c| c == ' ' || c == ',');
        let Some(rest) = text[end..].trim_start().strip_prefix('=') else {
            continue;
        };
        if !apart {
            continue;
        }
        let rest = rest.trim_start();
        let value = match rest.strip_prefix('"') {
            Some(quoted) => quoted.split('"').next(),
            None => rest.split([',', ' ']).next(),
        };
        return value
            .filter(|value| !value.is_empty() && value.len() <= MAX_VALUE_BYTES)
            .map(str::to_owned);
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_found_wherever_they_stand_and_by_their_whole_name() {
        let read = Challenge::read(
            r#"Bearer error="invalid_token", Resource_Metadata="https://s.example/.well-known/oauth-protected-resource", scope="a b""#,
        );
        assert_eq!(
            read.resource_metadata.unwrap().as_str(),
            "https://s.example/.well-known/oauth-protected-resource"
        );
        assert_eq!(read.scope.as_deref(), Some("a b"));
        let other = Challenge::read(r#"Bearer x_scope="no", scope=yes"#);
        assert_eq!(other.scope.as_deref(), Some("yes"));
        assert_eq!(Challenge::read("Basic"), Challenge::default());
        assert_eq!(Challenge::read("scope"), Challenge::default());
        assert_eq!(
            Challenge::read("Bearer scope=\"é"),
            Challenge {
                scope: Some("é".into()),
                resource_metadata: None
            }
        );
    }
}
