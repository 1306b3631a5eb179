//! All sessions of this process: the public face, and what the sessions share.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::sync::{Notify, Semaphore, broadcast};
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;
use transports::tunnel::AgentId;
use transports::{ServerName, ServerSpec};

use crate::entrance::Entered;
use crate::entry::{Cell, Entry};
use crate::error::OpenError;
use crate::heartbeat::MAX_PINGS;
use crate::inspect::{Inspection, SessionNotice};
use crate::key::{Caller, Isolation, SessionId, UserId, WorkspaceId};
use crate::limits::SessionLimits;
use crate::opening::Eras;
use crate::roster::Roster;
use crate::session::SessionLease;
use crate::state::{Event, Moment, State};

/// Notices a slow watcher may fall behind by before it sees `Lagged`.
const NOTICES: usize = 1024;

/// The server a session is wanted with.
#[derive(Debug, Clone)]
pub struct Target {
    /// How to reach it.
    pub spec: Arc<ServerSpec>,
    /// Who shares a session of it.
    pub isolation: Isolation,
    /// The definition's version. A session of an older version is replaced (its calls in flight finish);
    /// who asks with an older one gets the newer's session.
    pub version: u64,
}

/// Everything the sessions share.
#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) limits: SessionLimits,
    roster: Mutex<Roster>,
    pub(crate) eras: Eras,
    pub(crate) notices: broadcast::Sender<SessionNotice>,
    /// One task for each session.
    pub(crate) tasks: TaskTracker,
    /// Ends every session.
    pub(crate) stop: CancellationToken,
    /// Heartbeats under way.
    pub(crate) pings: Semaphore,
    /// Woken whenever a session is given back while draining.
    pub(crate) returned: Notify,
    /// Woken whenever a session is gone.
    pub(crate) left: Notify,
    pub(crate) draining: AtomicBool,
    /// Leases given out so far: tells which of two was taken later.
    pub(crate) leases: AtomicU64,
}

impl Inner {
    pub(crate) fn roster(&self) -> MutexGuard<'_, Roster> {
        self.roster.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Applies an event, and tells watchers, waiters and the session's own task; true when the state changed.
    pub(crate) fn step(
        &self,
        entry: &Entry,
        cell: &mut Cell,
        (event, reason): (Event, Option<&str>),
    ) -> bool {
        let moment = Moment {
            now: Instant::now(),
            jitter: rand::random(),
            policy: &self.limits.reconnect,
        };
        let next = cell.state.after(event, moment);
        if next == cell.state {
            return false;
        }
        if next.name() != cell.state.name() {
            cell.since = SystemTime::now();
        }
        cell.state = next;
        if next == State::Closed {
            cell.end = cell.end.take().or_else(|| reason.map(str::to_owned));
        }
        if !matches!(next, State::Ready { .. }) {
            cell.link = None;
        }
        self.announce(entry, cell, reason);
        true
    }

    /// Tells watchers, waiters and the session's own task to look at the state. Under the session's lock,
    /// so that everybody hears of the states in their order.
    pub(crate) fn announce(&self, entry: &Entry, cell: &Cell, reason: Option<&str>) {
        entry.changed.send_modify(|count| *count += 1);
        entry.nudge.notify_one();
        // Nobody watching is fine.
        let _ = self.notices.send(SessionNotice::State {
            id: entry.id,
            key: entry.key.clone(),
            state: entry.name(cell),
            reason: reason.map(str::to_owned),
        });
    }
}

/// All sessions of this process. Cheap to clone; the sessions end with the last clone.
#[derive(Debug, Clone)]
pub struct Sessions {
    inner: Arc<Inner>,
    _end: Arc<DropGuard>,
}

impl Sessions {
    /// An empty registry.
    #[must_use]
    pub fn new(limits: SessionLimits) -> Self {
        let stop = CancellationToken::new();
        let inner = Arc::new(Inner {
            limits,
            roster: Mutex::default(),
            eras: Eras::default(),
            notices: broadcast::channel(NOTICES).0,
            tasks: TaskTracker::new(),
            stop: stop.clone(),
            pings: Semaphore::new(MAX_PINGS),
            returned: Notify::new(),
            left: Notify::new(),
            draining: AtomicBool::new(false),
            leases: AtomicU64::new(0),
        });
        Self {
            inner,
            _end: Arc::new(stop.drop_guard()),
        }
    }

    /// The session for a caller and server, opened if need be (single flight), ready to use.
    ///
    /// # Errors
    /// [`OpenError`]; never waits past `deadline`.
    pub async fn acquire(
        &self,
        caller: &Caller,
        target: &Target,
        deadline: Instant,
    ) -> Result<SessionLease, OpenError> {
        let entered = self.inner.enter(caller, target, deadline).await?;
        entered.ready(deadline).await
    }

    /// Opens explicitly and keeps for `ttl` even when idle. Otherwise as [`Sessions::acquire`].
    ///
    /// # Errors
    /// [`OpenError`].
    pub async fn open(
        &self,
        caller: &Caller,
        target: &Target,
        (ttl, deadline): (Option<Duration>, Instant),
    ) -> Result<Inspection, OpenError> {
        let lease = self.acquire(caller, target, deadline).await?;
        if let Some(ttl) = ttl {
            lease.entry.keep_for(ttl);
        }
        Ok(lease.entry.inspect(&self.inner.limits))
    }

    /// Every session, by id. Those that were replaced or closed are `closing` until they are gone.
    #[must_use]
    pub fn list(&self) -> Vec<Inspection> {
        let mut entries = self.inner.entries();
        entries.sort_by_key(|entry| entry.id);
        let limits = &self.inner.limits;
        entries.iter().map(|entry| entry.inspect(limits)).collect()
    }

    /// How many sessions there are, those that are closing included.
    #[must_use]
    pub fn count(&self) -> usize {
        self.inner.roster().len()
    }

    fn find(&self, id: SessionId) -> Option<Arc<Entry>> {
        self.inner.roster().find(id)
    }

    /// One session.
    #[must_use]
    pub fn inspect(&self, id: SessionId) -> Option<Inspection> {
        self.find(id).map(|entry| entry.inspect(&self.inner.limits))
    }

    /// Closes one session and waits for its process or socket to be gone. False when unknown.
    /// Calls in flight on it fail.
    pub async fn close(&self, id: SessionId) -> bool {
        let Some(entry) = self.find(id) else {
            return false;
        };
        self.inner.end(&entry, "closed by request");
        entry.gone.cancelled().await;
        true
    }

    /// Drops the connection and opens a new one for the same session.
    ///
    /// # Errors
    /// `None` when unknown or closing, else as [`Sessions::acquire`].
    pub async fn refresh(
        &self,
        id: SessionId,
        deadline: Instant,
    ) -> Option<Result<Inspection, OpenError>> {
        let entry = {
            let roster = self.inner.roster();
            let entry = roster.find(id).filter(|entry| !entry.is_leaving())?;
            entry.in_flight.fetch_add(1, Ordering::SeqCst);
            entry
        };
        let entered = Entered::new(&self.inner, Arc::clone(&entry));
        let event = (Event::Refresh, Some("refreshed"));
        self.inner.step(&entry, &mut entry.cell(), event);
        let outcome = entered.ready(deadline).await;
        Some(outcome.map(|_| entry.inspect(&self.inner.limits)))
    }

    /// Closes the sessions of a server whose definition went away or changed; calls in flight finish first.
    pub fn retire(&self, workspace: &WorkspaceId, server: &ServerName) {
        self.inner.eras.forget(workspace, server);
        let mut roster = self.inner.roster();
        let gone =
            |entry: &&Arc<Entry>| entry.key.workspace == *workspace && entry.key.server == *server;
        let entries: Vec<_> = roster.entries().filter(gone).cloned().collect();
        for entry in entries {
            self.inner
                .retire_in(&mut roster, &entry, "its definition went away");
        }
    }

    /// The same for the sessions of one user alone.
    pub fn retire_user(&self, (workspace, server): (&WorkspaceId, &ServerName), user: &UserId) {
        let mut roster = self.inner.roster();
        let gone = |entry: &&Arc<Entry>| {
            let key = &entry.key;
            key.workspace == *workspace && key.server == *server && key.user.as_ref() == Some(user)
        };
        let entries: Vec<_> = roster.entries().filter(gone).cloned().collect();
        for entry in entries {
            self.inner
                .retire_in(&mut roster, &entry, "its user's credentials changed");
        }
    }

    /// Lets the sessions of an agent that wait before their next try go on at once: it is there again.
    /// `whose`: the user; `None` = every session that leads through an agent of this id.
    pub fn agent_is_back(&self, whose: Option<(&WorkspaceId, &UserId)>, agent: &AgentId) {
        let mine = |entry: &&Arc<Entry>| {
            let key = &entry.key;
            let own = whose.is_none_or(|(workspace, user)| {
                key.workspace == *workspace && key.user.as_ref() == Some(user)
            });
            own && key.via.as_ref() == Some(agent)
        };
        let entries: Vec<_> = self
            .inner
            .roster()
            .entries()
            .filter(mine)
            .cloned()
            .collect();
        for entry in entries {
            let mut cell = entry.cell();
            if matches!(cell.state, State::Backoff { .. }) {
                self.inner.step(&entry, &mut cell, (Event::Refresh, None));
            }
        }
    }

    /// Watches state changes and upstream notifications. A slow watcher sees `Lagged`.
    #[must_use]
    pub fn notices(&self) -> broadcast::Receiver<SessionNotice> {
        self.inner.notices.subscribe()
    }

    /// Refuses new sessions, lets calls in flight finish until `deadline`, closes everything.
    pub async fn drain(&self, deadline: Instant) {
        self.inner.drain(deadline).await;
    }
}
