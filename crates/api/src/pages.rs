//! Pages of the catalogue as bytes, kept for as long as nothing they show has changed.
//!
//! A page is the same for equal stamps ([`CatalogStamp`]) and equal queries, so an equal stamp needs no ranking and no
//! JSON. Holds nothing that its stamp does not name.

use broker::operations::catalog::CatalogStamp;
use bytes::Bytes;

/// Bytes of all kept pages: some hundred of the largest.
const MAX_BYTES: u64 = 16 * 1024 * 1024;
/// Longest query a page is kept for; searches by whole paragraphs are seldom repeated.
const MAX_QUERY_BYTES: usize = 512;
/// Bytes a page takes beside its body, about.
const PAGE_FRAME_BYTES: usize = 256;

type Key = (CatalogStamp, Box<str>);

/// Kept pages.
#[derive(Debug)]
pub struct Pages(moka::sync::Cache<Key, Bytes>);

impl Default for Pages {
    fn default() -> Self {
        let weigh = |(_, query): &Key, body: &Bytes| {
            u32::try_from(body.len() + query.len() + PAGE_FRAME_BYTES).unwrap_or(u32::MAX)
        };
        let pages = moka::sync::Cache::builder().max_capacity(MAX_BYTES);
        Self(pages.weigher(weigh).build())
    }
}

impl Pages {
    /// The page for a query, if it is kept.
    #[must_use]
    pub fn get(&self, stamp: &CatalogStamp, query: Option<&str>) -> Option<Bytes> {
        self.0.get(&key(stamp, query)?)
    }

    /// Keeps a page that was made while `stamp` held.
    pub fn keep(&self, stamp: &CatalogStamp, query: Option<&str>, body: &Bytes) {
        if let Some(key) = key(stamp, query) {
            self.0.insert(key, body.clone());
        }
    }
}

fn key(stamp: &CatalogStamp, query: Option<&str>) -> Option<Key> {
    let query = query.unwrap_or_default();
    (query.len() <= MAX_QUERY_BYTES).then(|| (stamp.clone(), query.into()))
}
