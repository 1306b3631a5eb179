//! One server's catalogue for one partition: what is held, how fresh it is, and one refresh at a time.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use catalog::{Delta, Entry, Kind, Ref, Snapshot};
use chrono::{DateTime, Utc};
use sessions::{UserId, WorkspaceId};
use tokio::sync::watch;
use tokio::time::Instant;
use transports::ServerName;
use transports::tunnel::AgentId;

use crate::error::BrokerError;
use crate::instant::rfc3339;

/// Earlier snapshots remembered per slot, for `since`.
const REMEMBERED: usize = 16;
/// Time between refreshes that a server causes itself by `list_changed`.
const LIST_CHANGED_PAUSE: Duration = Duration::from_secs(1);
/// Time before a failed refresh is tried again because somebody looked.
const RETRY_PAUSE: Duration = Duration::from_secs(5);
/// A server's `ttlMs` below this is taken for this, so that no server makes us list it all the time.
const SHORTEST_TTL: Duration = Duration::from_secs(1);

/// Whose catalogue of which server.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct SlotKey {
    pub workspace: WorkspaceId,
    pub server: ServerName,
    /// `None`: shared in the workspace.
    pub user: Option<UserId>,
    /// The user's own agent it is a server of. Such a catalogue is nobody else's, whatever the server says of it,
    /// and the agent's own is what the store keeps.
    pub agent: Option<AgentId>,
}

/// One server's catalogue for one partition.
#[derive(Debug)]
pub(crate) struct Slot {
    pub key: SlotKey,
    state: Mutex<State>,
    finished: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct State {
    held: Option<Held>,
    earlier: VecDeque<Arc<Snapshot>>,
    error: Option<(BrokerError, Instant)>,
    era: Option<&'static str>,
    running: bool,
    again: bool,
    due: bool,
    started: Option<Instant>,
}

#[derive(Debug, Clone)]
struct Held {
    snapshot: Arc<Snapshot>,
    /// `None` when it came from the store and was not confirmed since.
    confirmed: Option<Instant>,
    at: DateTime<Utc>,
}

impl State {
    /// The server's `ttlMs` less the age of its list.
    fn fresh_for(&self) -> Option<Duration> {
        let held = self.held.as_ref()?;
        let ttl = Duration::from_millis(held.snapshot.ttl_ms?);
        let sound = !self.due && self.error.is_none();
        let confirmed = held.confirmed.filter(|_| sound);
        Some(confirmed.map_or(Duration::ZERO, |at| ttl.saturating_sub(at.elapsed())))
    }
}

/// What a slot shows.
#[derive(Debug, Clone)]
pub(crate) struct Shown {
    pub snapshot: Option<Arc<Snapshot>>,
    pub error: Option<BrokerError>,
    pub era: Option<&'static str>,
    /// The last listing failed or was never confirmed; since when, RFC 3339.
    pub stale_since: Option<String>,
    /// No try has ended yet.
    pub untried: bool,
    /// For how long yet what is held is fresh by the server's word; nothing where it said no word, zero where
    /// something speaks against it.
    pub fresh_for: Option<Duration>,
}

impl Slot {
    pub(crate) fn new(key: SlotKey) -> Self {
        Self {
            key,
            state: Mutex::default(),
            finished: watch::Sender::new(0),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is held, without regard to its age.
    pub(crate) fn snapshot(&self) -> Option<Arc<Snapshot>> {
        self.state()
            .held
            .as_ref()
            .map(|held| Arc::clone(&held.snapshot))
    }

    /// Everything a listing tells about the slot.
    pub(crate) fn shown(&self) -> Shown {
        let state = self.state();
        let unconfirmed = |held: &&Held| state.error.is_some() || held.confirmed.is_none();
        Shown {
            snapshot: state.held.as_ref().map(|held| Arc::clone(&held.snapshot)),
            error: state.error.as_ref().map(|(error, _)| error.clone()),
            era: state.era,
            stale_since: state
                .held
                .as_ref()
                .filter(unconfirmed)
                .map(|held| rfc3339(held.at)),
            untried: state.held.is_none() && state.error.is_none(),
            fresh_for: state.fresh_for(),
        }
    }

    /// Puts what the store kept in place, to be confirmed.
    pub(crate) fn restore(&self, snapshot: Snapshot, at: DateTime<Utc>) {
        let mut state = self.state();
        if state.held.is_none() {
            state.held = Some(Held {
                snapshot: Arc::new(snapshot),
                confirmed: None,
                at,
            });
        }
    }

    /// Whether somebody who looks should cause a refresh behind the answer.
    pub(crate) fn is_due(&self, max_age: Duration) -> bool {
        let state = self.state();
        if state.running {
            return false;
        }
        if let Some((_, at)) = &state.error {
            return at.elapsed() >= RETRY_PAUSE;
        }
        let Some(held) = &state.held else { return true };
        let ttl = held.snapshot.ttl_ms.map(Duration::from_millis);
        let age = ttl.map_or(max_age, |ttl| ttl.max(SHORTEST_TTL).min(max_age));
        state.due || held.confirmed.is_none_or(|at| at.elapsed() >= age)
    }

    /// Whether what is held was confirmed within `age`, and nothing says that it changed since.
    pub(crate) fn is_fresh(&self, age: Duration) -> bool {
        let state = self.state();
        let confirmed = state.held.as_ref().and_then(|held| held.confirmed);
        !state.due && !state.running && confirmed.is_some_and(|at| at.elapsed() < age)
    }

    /// Marks it as changed upstream: the next look refreshes.
    pub(crate) fn mark_due(&self) {
        self.state().due = true;
    }

    /// Whether [`Slot::mark_due`] was said since the last listing began.
    pub(crate) fn is_marked(&self) -> bool {
        self.state().due
    }

    /// Claims the right to refresh. `None` when somebody has it; `again` makes them go round once more.
    pub(crate) fn begin(self: &Arc<Self>, again: bool) -> Option<Claim> {
        let mut state = self.state();
        if state.running {
            state.again |= again;
            return None;
        }
        state.running = true;
        Some(Claim {
            slot: Arc::clone(self),
        })
    }

    /// Counts finished refreshes; subscribe before [`Slot::begin`] to miss none.
    pub(crate) fn finished(&self) -> watch::Receiver<u64> {
        self.finished.subscribe()
    }

    /// One entry of what is held.
    pub(crate) fn entry(&self, kind: Kind, reference: &Ref) -> Option<Arc<Entry>> {
        let state = self.state();
        let entries = &state.held.as_ref()?.snapshot.entries;
        let found = entries
            .binary_search_by(|entry| (entry.kind, &entry.reference).cmp(&(kind, reference)));
        found.ok().map(|at| Arc::clone(&entries[at]))
    }

    /// Forgets what is held, when it turned out to belong to another partition.
    pub(crate) fn forget(&self) {
        let mut state = self.state();
        state.held = None;
        state.earlier.clear();
    }
}

/// The right to refresh one slot; given back when dropped.
#[derive(Debug)]
pub(crate) struct Claim {
    slot: Arc<Slot>,
}

impl Claim {
    /// The slot.
    pub(crate) fn slot(&self) -> &Arc<Slot> {
        &self.slot
    }

    /// How long to wait so that a chatty server is listed at most once a second.
    pub(crate) fn pause(&self) -> Duration {
        let started = self.slot.state().started;
        started.map_or(Duration::ZERO, |at| {
            LIST_CHANGED_PAUSE.saturating_sub(at.elapsed())
        })
    }

    /// A listing begins: what the server says from now on needs another.
    pub(crate) fn started(&self) {
        let mut state = self.slot.state();
        state.started = Some(Instant::now());
        state.again = false;
        state.due = false;
    }

    /// Puts a new snapshot in place; answers what changed, `None` at the first.
    pub(crate) fn install(
        &self,
        snapshot: Snapshot,
        era: &'static str,
    ) -> (Arc<Snapshot>, Option<Delta>) {
        let mut state = self.slot.state();
        state.error = None;
        state.era = Some(era);
        let (confirmed, at) = (Some(Instant::now()), Utc::now());
        let old = state.held.take();
        let (snapshot, delta) = match old {
            Some(old) if same_offer(&old.snapshot, &snapshot) => {
                (old.snapshot, Some(Delta::default()))
            }
            Some(old) => {
                let delta = snapshot.delta_since(&old.snapshot);
                state.earlier.push_back(old.snapshot);
                if state.earlier.len() > REMEMBERED {
                    state.earlier.pop_front();
                }
                (Arc::new(snapshot), Some(delta))
            }
            None => (Arc::new(snapshot), None),
        };
        state.held = Some(Held {
            snapshot: Arc::clone(&snapshot),
            confirmed,
            at,
        });
        (snapshot, delta)
    }

    /// Puts what an agent last told in place, as of then: whether it still holds is not known, and why not is said.
    pub(crate) fn install_stale(&self, snapshot: Snapshot, at: DateTime<Utc>, error: BrokerError) {
        let mut state = self.slot.state();
        let snapshot = match state.held.take() {
            Some(held) if same_offer(&held.snapshot, &snapshot) => held.snapshot,
            _ => Arc::new(snapshot),
        };
        state.held = Some(Held {
            snapshot,
            confirmed: None,
            at,
        });
        state.error = Some((error, Instant::now()));
    }

    /// Notes that a listing failed; what is held stays, stale.
    pub(crate) fn failed(&self, error: BrokerError) {
        self.slot.state().error = Some((error, Instant::now()));
    }

    /// Whether the server changed again while it was listed.
    pub(crate) fn again(&self) -> bool {
        self.slot.state().again
    }
}

/// Nothing a caller could see differs, so that what refers to the old one stays good.
fn same_offer(old: &Snapshot, new: &Snapshot) -> bool {
    old.hash == new.hash
        && old.ttl_ms == new.ttl_ms
        && old.public == new.public
        && old.truncated == new.truncated
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.slot.state().running = false;
        self.slot.finished.send_modify(|count| *count += 1);
    }
}
