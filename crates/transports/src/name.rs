//! The name of a server: the part of a ref before its first dot.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// Longest server name, in bytes; one DNS label, so that a name can stand in a URL path or host.
pub const MAX_SERVER_NAME_BYTES: usize = 63;

/// A server's name: `[a-z0-9][a-z0-9-]{0,62}`. Holds no dot, so `server.tool` splits at the first.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ServerName(Arc<str>);

/// The text is no server name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a server name is 1 to 63 of a-z, 0-9 and '-', and starts with a letter or digit")]
pub struct InvalidServerName;

impl ServerName {
    /// Checks and wraps a name.
    ///
    /// # Errors
    /// [`InvalidServerName`] when the text does not match the grammar.
    pub fn new(name: &str) -> Result<Self, InvalidServerName> {
        let bytes = name.as_bytes();
        let plain = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit();
        let first_ok = bytes.first().is_some_and(plain);
        let rest_ok = bytes.iter().all(|b| plain(b) || *b == b'-');
        if first_ok && rest_ok && bytes.len() <= MAX_SERVER_NAME_BYTES {
            Ok(Self(Arc::from(name)))
        } else {
            Err(InvalidServerName)
        }
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ServerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for ServerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", &*self.0)
    }
}

impl TryFrom<String> for ServerName {
    type Error = InvalidServerName;
    fn try_from(name: String) -> Result<Self, Self::Error> {
        Self::new(&name)
    }
}

impl From<ServerName> for String {
    fn from(name: ServerName) -> Self {
        name.0.as_ref().to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_the_grammar() {
        for good in ["a", "0", "everything", "my-server-2", &"a".repeat(63)] {
            assert!(ServerName::new(good).is_ok(), "{good}");
        }
        for bad in ["", "-a", "A", "a.b", "a_b", "é", "a b", &"a".repeat(64)] {
            assert_eq!(ServerName::new(bad), Err(InvalidServerName), "{bad}");
        }
    }
}
