//! The ends of this node's audit chains, as of the last commit, and what a transaction adds to them.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use catalog::Hash;
use sessions::WorkspaceId;
use sqlx::any::AnyRow;
use sqlx::{Any, Row as _, Transaction};

use crate::audit::{Entry, Link};

/// Ends remembered; a bridge with more workspaces than this reads them again.
const MAX_KNOWN: usize = 10_000;

/// Ends by workspace. Written by the writing task alone, and only what is committed.
#[derive(Debug, Default)]
pub(super) struct Heads(Mutex<HashMap<WorkspaceId, Link>>);

impl Heads {
    fn known(&self) -> MutexGuard<'_, HashMap<WorkspaceId, Link>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What was added is committed.
    pub(super) fn keep(&self, draft: Draft<'_>) {
        let mut known = self.known();
        if known.len() >= MAX_KNOWN {
            known.clear();
        }
        known.extend(draft.ends);
    }

    /// A transaction failed, and nobody knows how far it came: the next one reads the ends from the store.
    pub(super) fn forget(&self) {
        self.known().clear();
    }

    /// The ends known now.
    pub(super) fn all(&self) -> Vec<(WorkspaceId, Link)> {
        let known = self.known();
        known
            .iter()
            .map(|(workspace, link)| (workspace.clone(), *link))
            .collect()
    }
}

/// The ends as one transaction moves them.
#[derive(Debug)]
pub(super) struct Draft<'h> {
    heads: &'h Heads,
    pub(super) chain: &'h str,
    ends: HashMap<WorkspaceId, Link>,
}

impl<'h> Draft<'h> {
    pub(super) fn new(heads: &'h Heads, chain: &'h str) -> Self {
        Self {
            heads,
            chain,
            ends: HashMap::new(),
        }
    }

    /// Makes sure the end of a workspace's chain is known.
    pub(super) async fn load(
        &mut self,
        tx: &mut Transaction<'_, Any>,
        workspace: &WorkspaceId,
    ) -> Result<(), sqlx::Error> {
        if self.ends.contains_key(workspace) {
            return Ok(());
        }
        let known = self.heads.known().get(workspace).copied();
        let end = match known {
            Some(end) => end,
            None => read_end(tx, workspace, self.chain).await?,
        };
        self.ends.insert(workspace.clone(), end);
        Ok(())
    }

    /// The place an entry would get. Its workspace was loaded.
    pub(super) fn place(&self, workspace: &WorkspaceId, entry: &mut Entry<'_>) -> Link {
        let end = self.ends.get(workspace).copied();
        end.unwrap_or(Link::START).next(entry)
    }

    /// The entry with this place is written.
    pub(super) fn take(&mut self, workspace: &WorkspaceId, link: Link) {
        if let Some(end) = self.ends.get_mut(workspace) {
            *end = link;
        }
    }
}

/// The last entry of a chain, or the anchor when retention has taken all of them.
async fn read_end(
    tx: &mut Transaction<'_, Any>,
    workspace: &WorkspaceId,
    chain: &str,
) -> Result<Link, sqlx::Error> {
    let places = [
        "SELECT seq, hash FROM calls WHERE workspace = $1 AND chain = $2 AND seq IS NOT NULL ORDER BY seq DESC LIMIT 1",
        "SELECT seq, hash FROM actions WHERE workspace = $1 AND chain = $2 AND seq IS NOT NULL ORDER BY seq DESC LIMIT 1",
        "SELECT seq, hash FROM audit_heads WHERE workspace = $1 AND chain = $2 AND kind = 'anchor'",
    ];
    let mut end = Link::START;
    for sql in places {
        let row = sqlx::query(sql)
            .bind(workspace.as_str())
            .bind(chain)
            .fetch_optional(&mut **tx)
            .await?;
        let link = row.as_ref().map(read_link).transpose()?;
        end = link.filter(|link| link.seq > end.seq).unwrap_or(end);
    }
    Ok(end)
}

/// A place, from the columns `seq` and `hash`. A hash nobody could have written counts as zeros: then whatever
/// follows does not hold, which is what verifying tells.
pub(super) fn read_link(row: &AnyRow) -> Result<Link, sqlx::Error> {
    let seq: i64 = row.try_get("seq")?;
    let hash: Option<String> = row.try_get("hash")?;
    Ok(Link {
        seq: seq.unsigned_abs(),
        hash: hash
            .and_then(|hex| Hash::from_hex(&hex))
            .unwrap_or(Hash([0; 32])),
    })
}
