//! Which verified credentials still hold. One number in the store says whether anything about keys or
//! memberships changed, so that a busy key costs no reads of its own.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use chrono::Utc;
use foldhash::fast::RandomState;
use moka::sync::Cache;
use tokio::sync::watch;
use tokio::time::Instant;

use super::verify::Reach;
use crate::store::Store;

/// Verified credentials remembered.
const MAX_VERIFIED: u64 = 10_000;
/// How long nobody asks the store whether something changed. Revoking here forgets all at once; this bounds how
/// long another node may go on.
const UNASKED_FOR: Duration = Duration::from_millis(750);
/// How often it is looked whether the store is to be asked for those who hold streams open: with
/// [`UNASKED_FOR`] no more than a second.
const WATCH_EVERY: Duration = Duration::from_millis(250);
/// A credential is looked up again after this, whatever the store says.
const LOOKED_UP_EVERY: Duration = Duration::from_mins(5);
/// One that cannot be looked up, because the store is away, is good for as long again: read-only calls go on.
const REMEMBERED_FOR: Duration = Duration::from_mins(10);

/// What a key or a login opens, as verified once.
#[derive(Debug)]
pub(crate) struct Verified {
    pub(crate) reach: Reach,
    /// The key behind it; `None` when a token of the issuer is.
    pub(super) key_id: Option<String>,
    pub(super) looked_up: Instant,
    /// Nothing that was verified in another generation holds.
    pub(super) generation: u64,
    pub(super) touched_s: AtomicI64,
}

impl Verified {
    pub(super) fn is_expired(&self) -> bool {
        self.reach.expires_at.is_some_and(|end| end <= Utc::now())
    }

    pub(super) fn is_due(&self) -> bool {
        self.looked_up.elapsed() >= LOOKED_UP_EVERY
    }
}

/// Everything verified. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Trust {
    store: Store,
    verified: Cache<[u8; 32], Arc<Verified>, RandomState>,
    generation: Arc<AtomicU64>,
    /// The generation, for those who wait for the next.
    told: watch::Sender<u64>,
    /// When the store was asked last.
    asked: Arc<Mutex<Option<Instant>>>,
    /// What it said; locked while it is asked, so that one asks for all.
    epoch: Arc<tokio::sync::Mutex<Option<i64>>>,
}

impl Trust {
    pub(super) fn new(store: Store) -> Self {
        let verified = Cache::builder()
            .max_capacity(MAX_VERIFIED)
            .time_to_live(REMEMBERED_FOR)
            .build_with_hasher(RandomState::default());
        Self {
            store,
            verified,
            generation: Arc::default(),
            told: watch::Sender::new(0),
            asked: Arc::default(),
            epoch: Arc::default(),
        }
    }

    /// Notices within a second what another node changed. While the store is away everything stays as it was.
    pub(super) async fn keep_up(&self) {
        if self.asked_lately() {
            return;
        }
        let mut epoch = self.epoch.lock().await;
        if self.asked_lately() {
            return; // Somebody asked while this one waited for its turn.
        }
        let asked = Instant::now();
        match self.store.principals_epoch().await {
            Ok(now) if *epoch == Some(now) => {}
            Ok(now) => {
                *epoch = Some(now);
                self.forget_all();
            }
            Err(error) => {
                tracing::debug!(error = %error, "keys.keep_up: the store cannot say whether keys changed");
            }
        }
        *self.asked.lock().unwrap_or_else(PoisonError::into_inner) = Some(asked);
    }

    fn asked_lately(&self) -> bool {
        let asked = *self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        asked.is_some_and(|asked| asked.elapsed() < UNASKED_FOR)
    }

    pub(super) fn generation(&self) -> u64 {
        self.generation.load(Ordering::SeqCst)
    }

    pub(super) fn get(&self, digest: &[u8; 32]) -> Option<Arc<Verified>> {
        let generation = self.generation();
        self.verified
            .get(digest)
            .filter(|known| known.generation == generation)
    }

    pub(super) fn insert(&self, digest: [u8; 32], verified: &Arc<Verified>) {
        self.verified.insert(digest, Arc::clone(verified));
    }

    pub(super) fn remove(&self, digest: &[u8; 32]) {
        self.verified.invalidate(digest);
    }

    /// Nothing verified so far holds any longer.
    pub(super) fn forget_all(&self) {
        let generation = self.generation.fetch_add(1, Ordering::SeqCst) + 1;
        self.verified.invalidate_all();
        self.told.send_replace(generation);
    }

    /// Wakes with every generation.
    pub(super) fn changes(&self) -> watch::Receiver<u64> {
        self.told.subscribe()
    }

    /// While somebody waits for changes: asks the store as often as requests would.
    pub(super) async fn keep_watch(&self) {
        loop {
            tokio::time::sleep(WATCH_EVERY).await;
            if self.told.receiver_count() > 0 {
                self.keep_up().await;
            }
        }
    }
}
