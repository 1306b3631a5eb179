//! A call's id: `call_` and a `UUIDv7`.

use std::fmt;

use uuid::Uuid;

/// A call's id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CallId(pub Uuid);

impl CallId {
    /// A new id; ids rise with time.
    #[must_use]
    pub fn mint() -> Self {
        Self(Uuid::now_v7())
    }

    /// When it was made, in unix milliseconds.
    pub(crate) fn began_ms(self) -> i64 {
        i64::try_from(self.0.as_u128() >> 80).unwrap_or(0)
    }

    /// Reads `call_<uuid>`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Uuid::try_parse(text.strip_prefix("call_")?).ok().map(Self)
    }
}

impl fmt::Display for CallId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "call_{}", self.0)
    }
}
