//! Plain read-only calls that ended lately. The store keeps their rows without results
//! (docs/decisions/0006-results-of-reads.md); here their results are readable for a while.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use foldhash::HashMap;
use tokio::time::Instant;

use super::CallId;
use super::live::Live;

/// How many are kept, how much of them, and for how long. Under full load that is less than a second's calls:
/// whoever needs a result later gives the call an idempotency key.
const KEPT_CALLS: usize = 4096;
const KEPT_BYTES: usize = 16 * 1024 * 1024;
const KEPT_FOR: Duration = Duration::from_mins(10);
/// What a call takes besides its result.
const BASE_BYTES: usize = 1024;

/// The newest of them.
#[derive(Debug, Default)]
pub(crate) struct Recent(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    calls: HashMap<CallId, Arc<Live>>,
    oldest_first: VecDeque<Mark>,
    bytes: usize,
}

#[derive(Debug, Clone, Copy)]
struct Mark {
    id: CallId,
    weight: usize,
    since: Instant,
}

impl Recent {
    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps a call that ended.
    pub(crate) fn insert(&self, live: &Arc<Live>) {
        let result = live.result_bytes();
        let mark = Mark {
            id: live.id,
            weight: result + BASE_BYTES,
            since: Instant::now(),
        };
        if mark.weight > KEPT_BYTES / 4 {
            return; // One result must not push all the others out.
        }
        let mut kept = self.kept();
        kept.bytes += mark.weight;
        kept.oldest_first.push_back(mark);
        kept.calls.insert(live.id, Arc::clone(live));
        kept.trim(mark.since);
    }

    /// A call that ended lately.
    pub(crate) fn get(&self, id: CallId) -> Option<Arc<Live>> {
        self.kept().calls.get(&id).cloned()
    }

    /// Forgets what was kept long enough.
    pub(crate) fn expire(&self) {
        self.kept().trim(Instant::now());
    }
}

impl Kept {
    fn trim(&mut self, now: Instant) {
        while let Some(oldest) = self.oldest_first.front().copied() {
            let room = self.oldest_first.len() <= KEPT_CALLS && self.bytes <= KEPT_BYTES;
            if room && now.duration_since(oldest.since) < KEPT_FOR {
                break;
            }
            self.oldest_first.pop_front();
            self.calls.remove(&oldest.id);
            self.bytes -= oldest.weight;
        }
    }
}
