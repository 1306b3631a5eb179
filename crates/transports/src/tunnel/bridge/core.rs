//! What the handles of an agent and its connections share: the machine under one short lock.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures_util::task::AtomicWaker;
use tokio::sync::watch;
use tokio::time::Instant;

use super::agent::{AgentFacts, AgentOwner};
use super::catalogue::AgentCatalogue;
use super::machine::{LinkMachine, Now, Opening};
use super::outcome::Listening;
use crate::tunnel::frame::{AgentMeta, Tools};
use crate::tunnel::id::AgentId;

/// The machine as it is used here.
pub(super) type Machine = LinkMachine<Listening>;

/// What is behind an agent's lock.
#[derive(Debug)]
pub(super) struct State {
    pub(super) machine: Machine,
    /// Wakes the task of the present connection.
    bell: Option<Arc<AtomicWaker>>,
    catalogue: Arc<AgentCatalogue>,
    meta: AgentMeta,
    since_unix_s: u64,
    last_seen_unix_s: u64,
    epoch: u64,
}

/// One agent.
#[derive(Debug)]
pub(super) struct Core {
    pub(super) id: AgentId,
    pub(super) owner: Arc<dyn AgentOwner>,
    pub(super) changes: watch::Sender<u64>,
    pub(super) online: watch::Sender<bool>,
    /// Notifications lost to callers that do not listen fast enough.
    pub(super) notes_lost: AtomicU64,
    born: Instant,
    state: Mutex<State>,
    /// Held while a coming or going is made and told, so that both are told in the order in which they were made.
    turn: Mutex<()>,
}

impl Core {
    pub(super) fn new(id: AgentId, owner: Arc<dyn AgentOwner>) -> Self {
        Self {
            state: Mutex::new(State {
                machine: LinkMachine::new(id.clone()),
                bell: None,
                catalogue: Arc::default(),
                meta: AgentMeta::default(),
                since_unix_s: 0,
                last_seen_unix_s: 0,
                epoch: 0,
            }),
            id,
            owner,
            changes: watch::Sender::new(0),
            online: watch::Sender::new(false),
            notes_lost: AtomicU64::new(0),
            born: Instant::now(),
            turn: Mutex::default(),
        }
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        // Nothing in here panics between two halves of a change.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn turn(&self) -> MutexGuard<'_, ()> {
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn now(&self) -> Now {
        Now {
            at: self.born.elapsed(),
            unix_s: unix_s(),
        }
    }

    /// The moment the machine calls `at`.
    pub(super) fn instant(&self, at: Duration) -> Instant {
        self.born + at
    }

    /// Changes the machine, and wakes the connection for what there is to send now.
    pub(super) fn change<T>(&self, change: impl FnOnce(&mut Machine) -> T) -> T {
        let (changed, bell) = {
            let mut state = self.state();
            let changed = change(&mut state.machine);
            (changed, state.bell.clone())
        };
        if let Some(bell) = bell {
            bell.wake();
        }
        changed
    }

    /// A connection stands. False when a newer one does.
    pub(super) fn attach(&self, opening: &Opening<'_>, bell: &Arc<AtomicWaker>) -> bool {
        let now = self.now();
        let _turn = self.turn();
        let older = {
            let mut state = self.state();
            if !state.machine.connected(now, opening) {
                return false;
            }
            state.meta = opening.hello.agent_meta.clone();
            state.since_unix_s = now.unix_s;
            state.epoch = opening.epoch;
            state.bell.replace(Arc::clone(bell))
        };
        // The older connection finds that it is replaced.
        if let Some(older) = older {
            older.wake();
        }
        self.online.send_replace(true);
        self.owner.online(&self.facts());
        true
    }

    /// A connection is gone.
    pub(super) fn detach(&self, epoch: u64, why: &str) {
        let now = self.now();
        let _turn = self.turn();
        {
            let mut state = self.state();
            let heard = state.machine.heard_at();
            if !state.machine.disconnected(epoch) {
                return;
            }
            state.bell = None;
            state.last_seen_unix_s = seen(now, heard);
            state.since_unix_s = now.unix_s;
        }
        self.online.send_replace(false);
        self.owner.offline(why);
    }

    /// TOOLS came.
    pub(super) fn told(&self, tools: Tools) {
        let catalogue = {
            let mut state = self.state();
            let catalogue = Arc::new(AgentCatalogue::of(tools, &state.catalogue));
            let same = state.catalogue.digest == catalogue.digest;
            state.catalogue = Arc::clone(&catalogue);
            if same {
                return;
            }
            catalogue
        };
        self.changes.send_modify(|version| *version += 1);
        self.owner.catalogue(catalogue);
    }

    pub(super) fn catalogue(&self) -> Arc<AgentCatalogue> {
        Arc::clone(&self.state().catalogue)
    }

    pub(super) fn restore_catalogue(&self, kept: AgentCatalogue) {
        {
            let mut state = self.state();
            if !state.catalogue.digest.is_empty() {
                return;
            }
            state.catalogue = Arc::new(kept);
        }
        self.changes.send_modify(|version| *version += 1);
    }

    pub(super) fn facts(&self) -> AgentFacts {
        let now = self.now();
        let state = self.state();
        let counts = state.machine.counts();
        let heard = state.machine.heard_at();
        AgentFacts {
            online: heard.is_some(),
            since_unix_s: state.since_unix_s,
            epoch: state.epoch,
            meta: state.meta.clone(),
            in_flight: counts.in_flight,
            last_seen_unix_s: match heard {
                Some(_) => seen(now, heard),
                None => state.last_seen_unix_s,
            },
            dropped_bytes: counts.dropped_bytes,
            bad_frames: counts.bad_frames,
        }
    }

    pub(super) fn count_lost(&self) {
        self.notes_lost.fetch_add(1, Ordering::Relaxed);
    }
}

fn seen(now: Now, heard: Option<Duration>) -> u64 {
    let ago = heard.map_or(0, |heard| now.at.saturating_sub(heard).as_secs());
    now.unix_s.saturating_sub(ago)
}

fn unix_s() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}
