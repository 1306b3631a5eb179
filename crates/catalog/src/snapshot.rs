//! One server's offer at one moment: immutable, replaced whole.

use std::sync::Arc;

use transports::ServerName;

use crate::entry::{Entry, Hash};
use crate::listing::Listing;

/// One server's offer at one moment.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// The server.
    pub server: ServerName,
    /// Sorted by kind and ref.
    pub entries: Vec<Arc<Entry>>,
    /// Over the sorted (kind, ref, hash) list.
    pub hash: Hash,
    /// From the listing.
    pub ttl_ms: Option<u64>,
    /// From the listing.
    pub public: bool,
    /// From the listing.
    pub truncated: Option<String>,
}

/// What changed between two snapshots, by ref.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Delta {
    /// In the new one only.
    pub added: Vec<String>,
    /// In both, with another hash.
    pub changed: Vec<String>,
    /// In the old one only.
    pub removed: Vec<String>,
}

impl Snapshot {
    /// Builds the compact forms and hashes. Never fails: what cannot be read is left out or marked.
    /// CPU-bound for large lists; call it off the async threads.
    #[must_use]
    pub fn build(server: &ServerName, listing: &Listing) -> Self {
        let _ = (server, listing);
        todo!("catalog")
    }

    /// The raw definitions again, for the store: `Snapshot::build(server, &snapshot.to_listing())` equals this one.
    #[must_use]
    pub fn to_listing(&self) -> Listing {
        todo!("catalog")
    }

    /// What changed since `old`.
    #[must_use]
    pub fn delta_since(&self, old: &Self) -> Delta {
        let _ = old;
        todo!("catalog")
    }
}
