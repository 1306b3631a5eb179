//! One place in a chain: the number of an entry and the hash that covers it and everything before it.

use catalog::Hash;
use sha2::{Digest as _, Sha256};

use super::entry::Entry;

/// Where a chain stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Link {
    /// The entry's number; 0 before the first.
    pub seq: u64,
    /// SHA-256 of the entry's canonical JSON, in which the hash before it stands.
    pub hash: Hash,
}

impl Link {
    /// Before the first entry.
    pub const START: Self = Self {
        seq: 0,
        hash: Hash([0; 32]),
    };

    /// The next place: puts the entry behind this one and hashes it.
    pub(crate) fn next(self, entry: &mut Entry<'_>) -> Self {
        entry.seq = self.seq + 1;
        entry.prev = self.hash.hex();
        entry.hash = None;
        Self {
            seq: entry.seq,
            hash: Hash(Sha256::digest(entry.canonical()).into()),
        }
    }
}
