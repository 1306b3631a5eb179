//! A call's id: `call_` and a `UUIDv7`.

use std::fmt;

use uuid::Uuid;

const PREFIX: &str = "call_";

/// A call's id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CallId(pub Uuid);

impl CallId {
    /// Its length as text.
    const BYTES: usize = PREFIX.len() + uuid::fmt::Hyphenated::LENGTH;

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
        Uuid::try_parse(text.strip_prefix(PREFIX)?).ok().map(Self)
    }
}

impl fmt::Display for CallId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // In one piece: a text made of it then needs no second place.
        let mut text = [0; Self::BYTES];
        let (prefix, id) = text.split_at_mut(PREFIX.len());
        prefix.copy_from_slice(PREFIX.as_bytes());
        self.0.hyphenated().encode_lower(id);
        f.write_str(std::str::from_utf8(&text).unwrap_or_default())
    }
}
