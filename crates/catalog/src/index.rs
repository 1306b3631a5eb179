//! Searching and looking up over the snapshots of many servers. Pure; rebuilt per catalogue hash, never per query.

use std::sync::Arc;

use crate::entry::{Entry, Hash, Kind, Ref};
use crate::snapshot::Snapshot;

/// What is looked for.
#[derive(Debug, Clone, Default)]
pub struct Query {
    /// Sub-queries, merged into one ranking. Empty = everything, by ref.
    pub texts: Vec<String>,
    /// Only this server.
    pub server: Option<String>,
    /// Only these kinds; empty = all.
    pub kinds: Vec<Kind>,
}

/// Ranked or listed entries.
#[derive(Debug, Clone)]
pub struct Ranked {
    /// Best first (or by ref), with a score for searches in (0, 1].
    pub hits: Vec<(Arc<Entry>, Option<f32>)>,
    /// The search found nothing that clears the threshold.
    pub nothing_fits: bool,
}

/// The merged, searchable catalogue of one set of snapshots.
#[derive(Debug)]
pub struct Index {}

impl Index {
    /// Builds the index. CPU-bound; call it off the async threads.
    #[must_use]
    pub fn build(snapshots: &[Arc<Snapshot>]) -> Self {
        let _ = snapshots;
        todo!("catalog")
    }

    /// Over the sorted (ref, hash) list of all snapshots.
    #[must_use]
    pub fn hash(&self) -> Hash {
        todo!("catalog")
    }

    /// All entries, by kind and ref.
    #[must_use]
    pub fn entries(&self) -> &[Arc<Entry>] {
        todo!("catalog")
    }

    /// One entry.
    #[must_use]
    pub fn get(&self, kind: Kind, reference: &Ref) -> Option<&Arc<Entry>> {
        let _ = (kind, reference);
        todo!("catalog")
    }

    /// Refs of `kind` closest to a wrong one, for did-you-mean; at most `limit`. `visible` is asked first.
    #[must_use]
    pub fn near(
        &self,
        kind: Kind,
        wrong: &str,
        limit: usize,
        visible: &dyn Fn(&Entry) -> bool,
    ) -> Vec<String> {
        let _ = (kind, wrong, limit, visible);
        todo!("catalog")
    }

    /// Searches or lists; `visible` filters before ranking.
    #[must_use]
    pub fn find(&self, query: &Query, visible: &dyn Fn(&Entry) -> bool) -> Ranked {
        let _ = (query, visible);
        todo!("catalog")
    }
}
