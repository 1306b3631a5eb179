//! A listing as the store keeps it: the upstream's own definitions, to be built into a snapshot again.

use std::sync::Arc;

use catalog::Listing;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// A listing as the store keeps it.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct KeptListing {
    tools: Vec<Box<RawValue>>,
    resources: Vec<Box<RawValue>>,
    templates: Vec<Box<RawValue>>,
    prompts: Vec<Box<RawValue>>,
    ttl_ms: Option<u64>,
    public: bool,
    truncated: Option<String>,
    left_out: usize,
}

impl From<KeptListing> for Listing {
    fn from(kept: KeptListing) -> Self {
        let shared = |list: Vec<Box<RawValue>>| list.into_iter().map(Arc::from).collect();
        Self {
            tools: shared(kept.tools),
            resources: shared(kept.resources),
            templates: shared(kept.templates),
            prompts: shared(kept.prompts),
            ttl_ms: kept.ttl_ms,
            public: kept.public,
            truncated: kept.truncated,
            left_out: kept.left_out,
        }
    }
}

impl From<Listing> for KeptListing {
    fn from(listing: Listing) -> Self {
        let owned = |list: Vec<Arc<RawValue>>| list.iter().map(|one| (**one).to_owned()).collect();
        Self {
            tools: owned(listing.tools),
            resources: owned(listing.resources),
            templates: owned(listing.templates),
            prompts: owned(listing.prompts),
            ttl_ms: listing.ttl_ms,
            public: listing.public,
            truncated: listing.truncated,
            left_out: listing.left_out,
        }
    }
}
