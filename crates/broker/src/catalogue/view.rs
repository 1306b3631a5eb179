//! The merged catalogue of one principal: searched by an index built once per content, and compared with earlier ones.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};

use catalog::{Entry, Hash, Index, Kind, Ref, Snapshot};
use sessions::{UserId, WorkspaceId};
use sha2::{Digest, Sha256};

use super::Slot;
use crate::error::{BrokerError, ErrorCode, Fault};
use crate::registry::Server;

/// Entries held by indexes in all; an index takes one to two KiB per entry.
const MAX_INDEXED_ENTRIES: u64 = 200_000;
/// Earlier catalogues remembered by hash. They are weak: the slots decide how long snapshots live.
const MAX_REMEMBERED: u64 = 4096;

/// The merged catalogue of one set of snapshots.
#[derive(Debug)]
pub(crate) struct View {
    /// On the wire, short.
    pub hash: String,
    /// Searches and lists.
    pub index: Index,
    snapshots: Vec<Arc<Snapshot>>,
}

/// What changed between two views, by kind and ref.
#[derive(Debug, Default)]
pub(crate) struct ViewDelta {
    pub added: Vec<Arc<Entry>>,
    pub changed: Vec<Arc<Entry>>,
    pub removed: Vec<Arc<Entry>>,
}

/// Views by content, and which views a principal saw.
#[derive(Debug, Clone)]
pub(crate) struct Views {
    by_content: moka::future::Cache<[u8; 32], Arc<View>>,
    seen: moka::sync::Cache<Seen, Arc<Vec<Weak<Snapshot>>>>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Seen {
    workspace: WorkspaceId,
    user: UserId,
    hash: String,
}

impl Views {
    pub(crate) fn new() -> Self {
        let weigh = |_: &[u8; 32], view: &Arc<View>| {
            u32::try_from(view.index.entries().len() + 1).unwrap_or(u32::MAX)
        };
        Self {
            by_content: moka::future::Cache::builder()
                .max_capacity(MAX_INDEXED_ENTRIES)
                .weigher(weigh)
                .build(),
            seen: moka::sync::Cache::new(MAX_REMEMBERED),
        }
    }

    /// The view over what the slots hold now; remembered as seen by this principal.
    ///
    /// # Errors
    /// `internal`, when the index could not be built.
    pub(crate) async fn over(
        &self,
        who: (&WorkspaceId, &UserId),
        slots: &[(Arc<Server>, Arc<Slot>)],
    ) -> Result<Arc<View>, BrokerError> {
        let mut digest = Sha256::new();
        let mut snapshots = Vec::with_capacity(slots.len());
        let mut corrected = false;
        for (server, slot) in slots
            .iter()
            .filter(|(server, _)| !server.definition.disabled)
        {
            let Some(snapshot) = slot.snapshot() else {
                continue;
            };
            digest.update(server.name.as_str());
            digest.update([0]);
            digest.update(snapshot.hash.0);
            if !server.definition.hints.is_empty() {
                // What the owner corrects is seen by callers, so it is part of what they compare.
                corrected = true;
                digest.update(serde_json::to_vec(&server.definition.hints).unwrap_or_default());
            }
            snapshots.push(snapshot);
        }
        let content: [u8; 32] = digest.finalize().into();
        let building = build(snapshots, corrected.then_some(content));
        let view = self.by_content.try_get_with(content, building).await;
        let view = view.map_err(|fault: Arc<BrokerError>| (*fault).clone())?;
        self.remember(who, &view);
        Ok(view)
    }

    fn remember(&self, (workspace, user): (&WorkspaceId, &UserId), view: &View) {
        let seen = Seen {
            workspace: workspace.clone(),
            user: user.clone(),
            hash: view.hash.clone(),
        };
        if !self.seen.contains_key(&seen) {
            let snapshots = view.snapshots.iter().map(Arc::downgrade).collect();
            self.seen.insert(seen, Arc::new(snapshots));
        }
    }

    /// What changed since a view this principal saw; `None` when it is remembered no more.
    pub(crate) fn since(
        &self,
        who: (&WorkspaceId, &UserId),
        hash: &str,
        now: &View,
    ) -> Option<ViewDelta> {
        let seen = Seen {
            workspace: who.0.clone(),
            user: who.1.clone(),
            hash: hash.get(..12)?.to_owned(),
        };
        let earlier = self.seen.get(&seen)?;
        let earlier: Option<Vec<Arc<Snapshot>>> = earlier.iter().map(Weak::upgrade).collect();
        Some(delta(&earlier?, &now.snapshots))
    }
}

async fn build(
    snapshots: Vec<Arc<Snapshot>>,
    corrected: Option<[u8; 32]>,
) -> Result<Arc<View>, BrokerError> {
    let built = tokio::task::spawn_blocking(move || {
        let index = Index::build(&snapshots);
        let hash = corrected.map_or_else(|| index.hash(), Hash).short();
        Arc::new(View {
            hash,
            index,
            snapshots,
        })
    });
    built
        .await
        .map_err(|_| Fault::new(ErrorCode::Internal, "building the index failed"))
}

fn delta(old: &[Arc<Snapshot>], new: &[Arc<Snapshot>]) -> ViewDelta {
    type ByRef<'a> = BTreeMap<(Kind, &'a Ref), &'a Arc<Entry>>;
    let changed_only =
        |these: &'_ [Arc<Snapshot>], those: &[Arc<Snapshot>]| -> Vec<Arc<Snapshot>> {
            let same = |one: &&Arc<Snapshot>| !those.iter().any(|other| Arc::ptr_eq(one, other));
            these.iter().filter(same).cloned().collect()
        };
    let (old, new) = (changed_only(old, new), changed_only(new, old));
    let entries = |these: &'_ [Arc<Snapshot>]| -> Vec<Arc<Entry>> {
        these
            .iter()
            .flat_map(|one| one.entries.iter().cloned())
            .collect()
    };
    let (old, new) = (entries(&old), entries(&new));
    let before: ByRef<'_> = old.iter().map(|e| ((e.kind, &e.reference), e)).collect();
    let after: ByRef<'_> = new.iter().map(|e| ((e.kind, &e.reference), e)).collect();
    let mut found = ViewDelta::default();
    for (key, entry) in &after {
        match before.get(key) {
            None => found.added.push(Arc::clone(entry)),
            Some(old) if old.hash != entry.hash => found.changed.push(Arc::clone(entry)),
            Some(_) => {}
        }
    }
    let gone = before.iter().filter(|(key, _)| !after.contains_key(key));
    found.removed = gone.map(|(_, entry)| Arc::clone(entry)).collect();
    found
}
