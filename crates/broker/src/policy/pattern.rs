//! Patterns over refs: `server.tool`, where `*` stands for any run of characters. Owns the one matcher.

use serde::{Deserialize, Serialize};

/// Longest pattern, in bytes: a server name and a long tool name fit.
const MAX_PATTERN_BYTES: usize = 320;

/// A pattern such as `github.get_*`; without a dot it means every tool of the server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Pattern {
    server: Box<str>,
    tool: Box<str>,
}

/// A text that is no pattern.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "expected server.tool, with * for any run of characters, in 1 to {MAX_PATTERN_BYTES} bytes"
)]
pub struct BadPattern;

impl Pattern {
    /// Every tool of every server.
    pub(super) fn everything() -> Self {
        Self {
            server: "*".into(),
            tool: "*".into(),
        }
    }

    /// Whether a ref is meant.
    pub(super) fn fits(&self, server: &str, tool: &str) -> bool {
        self.fits_server(server) && glob(self.tool.as_bytes(), tool.as_bytes())
    }

    /// Whether some tool of a server is meant.
    pub(super) fn fits_server(&self, server: &str) -> bool {
        glob(self.server.as_bytes(), server.as_bytes())
    }

    /// Whether every tool of a server is meant.
    pub(super) fn covers(&self, server: &str) -> bool {
        self.fits_server(server) && self.tool.bytes().all(|byte| byte == b'*')
    }
}

impl TryFrom<String> for Pattern {
    type Error = BadPattern;

    fn try_from(text: String) -> Result<Self, BadPattern> {
        let plain = text.bytes().all(|byte| byte.is_ascii_graphic());
        let (server, tool) = text.split_once('.').unwrap_or((&text, "*"));
        if text.len() > MAX_PATTERN_BYTES || !plain || server.is_empty() || tool.is_empty() {
            return Err(BadPattern);
        }
        Ok(Self {
            server: server.into(),
            tool: tool.into(),
        })
    }
}

impl From<Pattern> for String {
    fn from(pattern: Pattern) -> Self {
        format!("{}.{}", pattern.server, pattern.tool)
    }
}

/// `*` matches any run of characters. Only the last star is ever retried, so the cost is at most the product of
/// the two lengths, both of which are bounded.
pub(super) fn glob(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while t < text.len() {
        if pattern.get(p) == Some(&b'*') {
            star = Some((p, t));
            p += 1;
        } else if pattern.get(p) == Some(&text[t]) {
            p += 1;
            t += 1;
        } else if let Some((at, from)) = star {
            p = at + 1;
            t = from + 1;
            star = Some((at, t));
        } else {
            return false;
        }
    }
    pattern[p..].iter().all(|byte| *byte == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(text: &str) -> Pattern {
        Pattern::try_from(text.to_owned()).unwrap()
    }

    #[test]
    fn a_pattern_means_what_it_says_and_nothing_beside_it() {
        assert!(pattern("git.log.*").fits("git", "log.all"));
        assert!(pattern("g*.l*.a*l").fits("git", "log.all"));
        assert!(!pattern("git.log").fits("git", "log.all"));
        assert!(!pattern("git.*").fits("gitlab", "log"));
        assert!(pattern("git").covers("git"));
        assert!(!pattern("git.l*").covers("git"));
        assert!(pattern("*.drop_*").fits_server("whatever"));
    }

    #[test]
    fn what_is_no_pattern_is_refused() {
        for bad in [
            "",
            ".",
            "git.",
            ".log",
            "git.a b",
            "git.ä",
            &"x".repeat(400),
        ] {
            assert_eq!(Pattern::try_from(bad.to_owned()), Err(BadPattern), "{bad}");
        }
        assert_eq!(String::from(pattern("git")), "git.*");
    }
}
