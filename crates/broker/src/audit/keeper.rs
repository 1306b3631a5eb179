//! Signs the ends of the chains: at intervals, on request, and at the end.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use chrono::Utc;
use sessions::WorkspaceId;
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::{Link, Place, PlaceKind, SignedPlace, Signer};
use crate::store::{Store, StoreError};

/// How often it is looked whether a chain wants a signature.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// A chain that grew is signed at least so often: what may vanish unseen is at most what came since.
const SIGN_EVERY: Duration = Duration::from_mins(1);
/// … or after so many entries.
const SIGN_AFTER: u64 = 10_000;
/// Whole chains verified at once: each reads every row of a workspace.
const VERIFIERS: usize = 2;

/// What was signed last, by workspace.
type Signed = HashMap<WorkspaceId, (u64, Instant)>;

/// Keeps the chains of this node signed. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Keeper {
    store: Store,
    signed: Arc<Mutex<Signed>>,
    /// Who may walk whole chains now.
    pub(crate) verifiers: Arc<Semaphore>,
}

impl Keeper {
    /// Starts to sign; ends with `stop`.
    pub(crate) fn start(store: &Store, (tasks, stop): (&TaskTracker, &CancellationToken)) -> Self {
        let keeper = Self {
            store: store.clone(),
            signed: Arc::default(),
            verifiers: Arc::new(Semaphore::new(VERIFIERS)),
        };
        let (own, stop) = (keeper.clone(), stop.clone());
        tasks.spawn(async move {
            loop {
                tokio::select! {
                    () = tokio::time::sleep(LOOK_EVERY) => own.sign_due(SIGN_EVERY).await,
                    () = stop.cancelled() => return,
                }
            }
        });
        keeper
    }

    fn signed(&self) -> std::sync::MutexGuard<'_, Signed> {
        self.signed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Signs every chain of this node that grew; for a shutdown.
    pub(crate) async fn sign_all(&self) {
        self.sign_due(Duration::ZERO).await;
    }

    async fn sign_due(&self, every: Duration) {
        for (workspace, link) in self.store.chain_ends() {
            let last = self.signed().get(&workspace).copied();
            let due = last.is_none_or(|(seq, at)| {
                link.seq >= seq + SIGN_AFTER || (link.seq > seq && at.elapsed() >= every)
            });
            if due && let Err(error) = self.sign(&workspace, link).await {
                tracing::warn!(error = %error, "the audit head could not be signed; trying again later");
                return;
            }
        }
    }

    /// Signs a place of this node's chain as its end, and keeps it.
    pub(crate) async fn sign(
        &self,
        workspace: &WorkspaceId,
        link: Link,
    ) -> Result<SignedPlace, StoreError> {
        let signed = self
            .signer()
            .await?
            .sign(place(workspace, self.store.chain(), link));
        self.store.keep_place(&signed).await?;
        let at = (link.seq, Instant::now());
        self.signed().insert(workspace.clone(), at);
        Ok(signed)
    }

    /// Signs the end of another node's chain, for somebody who asks; it is that node's to keep.
    pub(crate) async fn attest(
        &self,
        workspace: &WorkspaceId,
        chain: &str,
        link: Link,
    ) -> Result<SignedPlace, StoreError> {
        if chain == self.store.chain() {
            return self.sign(workspace, link).await;
        }
        Ok(self.signer().await?.sign(place(workspace, chain, link)))
    }

    /// The key of this bridge.
    pub(crate) async fn signer(&self) -> Result<Signer, StoreError> {
        self.store.audit_signer().await
    }
}

fn place(workspace: &WorkspaceId, chain: &str, link: Link) -> Place {
    Place {
        workspace: workspace.to_string(),
        chain: chain.to_owned(),
        kind: PlaceKind::Head,
        link,
        signed_at: Utc::now(),
    }
}
