//! An approval's id: `apr_` and a `UUIDv7`.

use std::fmt;

use uuid::Uuid;

/// An approval's id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ApprovalId(pub Uuid);

impl ApprovalId {
    /// A new id; ids rise with time.
    #[must_use]
    pub fn mint() -> Self {
        Self(Uuid::now_v7())
    }

    /// Reads `apr_<uuid>`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Uuid::try_parse(text.strip_prefix("apr_")?).ok().map(Self)
    }
}

impl fmt::Display for ApprovalId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "apr_{}", self.0)
    }
}
