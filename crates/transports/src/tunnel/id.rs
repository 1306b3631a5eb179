//! The names on an envelope: whose agent, which call, which connection.

use std::borrow::Borrow;
use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::limits::REQ_ID_BYTES;

/// Longest agent id, in bytes.
pub const AGENT_ID_BYTES: usize = 64;

/// An agent's name, unique per user: `[A-Za-z0-9][A-Za-z0-9_-]{2,63}`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct AgentId(Arc<str>);

/// The text is no agent id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("an agent id is 3 to 64 of A-Z, a-z, 0-9, '_' and '-', and starts with a letter or digit")]
pub struct InvalidAgentId;

/// The id of one call, the same over every connection: 1 to [`REQ_ID_BYTES`] visible ASCII characters but
/// `"` and `\`, so that it stands in JSON as it is.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ReqId(Arc<str>);

/// The text is no `req_id`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a req_id is 1 to 128 visible ASCII characters but '\"' and '\\'")]
pub struct InvalidReqId;

impl AgentId {
    /// Checks and wraps a name.
    ///
    /// # Errors
    /// [`InvalidAgentId`] when the text does not match the grammar.
    pub fn new(name: &str) -> Result<Self, InvalidAgentId> {
        let bytes = name.as_bytes();
        let rest_ok = bytes
            .iter()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'));
        let first_ok = bytes.first().is_some_and(u8::is_ascii_alphanumeric);
        if first_ok && rest_ok && (3..=AGENT_ID_BYTES).contains(&bytes.len()) {
            Ok(Self(Arc::from(name)))
        } else {
            Err(InvalidAgentId)
        }
    }
}

impl ReqId {
    /// Checks and wraps an id.
    ///
    /// # Errors
    /// [`InvalidReqId`] when the text does not match the grammar.
    pub fn new(id: impl Into<Arc<str>>) -> Result<Self, InvalidReqId> {
        let id = id.into();
        let plain = |byte: u8| byte.is_ascii_graphic() && byte != b'"' && byte != b'\\';
        if (1..=REQ_ID_BYTES).contains(&id.len()) && id.bytes().all(plain) {
            Ok(Self(id))
        } else {
            Err(InvalidReqId)
        }
    }
}

macro_rules! id_text {
    ($name:ident, $invalid:ident) => {
        impl $name {
            /// The id as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", &*self.0)
            }
        }

        impl TryFrom<String> for $name {
            type Error = $invalid;
            fn try_from(text: String) -> Result<Self, $invalid> {
                Self::new(&*text)
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> Self {
                id.0.to_string()
            }
        }

        impl From<$name> for Arc<str> {
            fn from(id: $name) -> Self {
                id.0
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl Deref for $name {
            type Target = str;
            fn deref(&self) -> &str {
                &self.0
            }
        }
    };
}

id_text!(AgentId, InvalidAgentId);
id_text!(ReqId, InvalidReqId);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agent_ids_follow_the_grammar() {
        for good in ["abc", "0-_", "Laptop_1", &"a".repeat(64)] {
            assert!(AgentId::new(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "ab",
            "-abc",
            "_abc",
            "a.b",
            "a b c",
            "éab",
            &"a".repeat(65),
        ] {
            assert_eq!(AgentId::new(bad), Err(InvalidAgentId), "{bad}");
        }
    }

    #[test]
    fn call_ids_are_visible_and_bounded() {
        for good in ["x", "call_0199-7", &"a".repeat(128)] {
            assert!(ReqId::new(good).is_ok(), "{good}");
        }
        for bad in ["", "a b", "a\"b", "a\\b", "é", "a\n", &"a".repeat(129)] {
            assert_eq!(ReqId::new(bad), Err(InvalidReqId), "{bad}");
        }
    }
}
