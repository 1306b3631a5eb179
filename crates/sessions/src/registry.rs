//! All sessions of this process.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, broadcast};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use transports::{Era, ServerName, ServerSpec};

use crate::error::OpenError;
use crate::inspect::{Inspection, SessionNotice};
use crate::keeper;
use crate::key::{Caller, Isolation, SessionId, SessionKey, UserId, WorkspaceId};
use crate::session::{Entry, Session, SessionLease};
use crate::state::{Event, State};

/// Notices a slow watcher may fall behind by before it sees `Lagged`.
const NOTICES: usize = 1024;

/// Waits between reconnects: doubling from `initial`, full jitter, reset by a connection that held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReconnectPolicy {
    /// First wait.
    pub initial: Duration,
    /// Longest wait.
    pub max: Duration,
    /// Tries before the session is closed; 0 = no end.
    pub attempts: u32,
}

/// Bounds and timers of all sessions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionLimits {
    /// A session nobody used for this long is closed; zero = never.
    pub idle: Duration,
    /// A session older than this is closed once idle; zero = never.
    pub ttl: Duration,
    /// Sessions of the process.
    pub max: usize,
    /// Sessions of one user.
    pub max_per_user: usize,
    /// Time between heartbeats; zero = none.
    pub heartbeat: Duration,
    /// Waits between reconnects.
    pub reconnect: ReconnectPolicy,
}

impl Default for SessionLimits {
    fn default() -> Self {
        Self {
            idle: Duration::from_mins(30),
            ttl: Duration::ZERO,
            max: 10_000,
            max_per_user: 100,
            heartbeat: Duration::from_secs(30),
            reconnect: ReconnectPolicy {
                initial: Duration::from_millis(500),
                max: Duration::from_mins(1),
                attempts: 0,
            },
        }
    }
}

/// The server a session is wanted with.
#[derive(Debug, Clone)]
pub struct Target {
    /// How to reach it.
    pub spec: Arc<ServerSpec>,
    /// Who shares a session of it.
    pub isolation: Isolation,
    /// The definition's version. A session of an older version is replaced (its calls in flight finish).
    pub version: u64,
}

/// Everything the sessions share.
#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) limits: SessionLimits,
    maps: Mutex<Maps>,
    /// The era each server version spoke last.
    eras: Mutex<HashMap<(WorkspaceId, ServerName, u64), Era>>,
    pub(crate) notices: broadcast::Sender<SessionNotice>,
    pub(crate) tasks: TaskTracker,
    pub(crate) stop: CancellationToken,
    /// Woken whenever a lease is given back.
    returned: Notify,
    draining: AtomicBool,
}

#[derive(Debug, Default)]
struct Maps {
    by_key: HashMap<SessionKey, Arc<Entry>>,
    by_id: HashMap<SessionId, Arc<Entry>>,
    per_user: HashMap<UserId, usize>,
}

impl Maps {
    fn insert(&mut self, entry: &Arc<Entry>) {
        self.by_key.insert(entry.key.clone(), Arc::clone(entry));
        self.by_id.insert(entry.id, Arc::clone(entry));
        if let Some(user) = &entry.key.user {
            *self.per_user.entry(user.clone()).or_default() += 1;
        }
    }

    fn remove(&mut self, entry: &Entry) {
        if self.by_id.remove(&entry.id).is_none() {
            return;
        }
        // A newer session may have the key by now.
        if self
            .by_key
            .get(&entry.key)
            .is_some_and(|now| now.id == entry.id)
        {
            self.by_key.remove(&entry.key);
        }
        if let Some(user) = &entry.key.user
            && let Some(count) = self.per_user.get_mut(user)
        {
            *count -= 1;
            if *count == 0 {
                self.per_user.remove(user);
            }
        }
    }

    /// The least recently used session nobody uses, of one user or of all.
    fn least_used(&self, user: Option<&UserId>) -> Option<Arc<Entry>> {
        let mine = |entry: &&Arc<Entry>| user.is_none() || entry.key.user.as_ref() == user;
        let free =
            |entry: &&Arc<Entry>| entry.in_flight.load(Ordering::SeqCst) == 0 && !entry.is_kept();
        self.by_id
            .values()
            .filter(mine)
            .filter(free)
            .max_by_key(|entry| entry.idle_for())
            .cloned()
    }
}

impl Inner {
    fn maps(&self) -> MutexGuard<'_, Maps> {
        self.maps.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn eras(&self) -> MutexGuard<'_, HashMap<(WorkspaceId, ServerName, u64), Era>> {
        self.eras.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn era_key(entry: &Entry) -> (WorkspaceId, ServerName, u64) {
        (
            entry.key.workspace.clone(),
            entry.key.server.clone(),
            entry.target.version,
        )
    }

    pub(crate) fn known_era(&self, entry: &Entry) -> Option<Era> {
        self.eras().get(&Self::era_key(entry)).copied()
    }

    /// Remembers what was spoken, or forgets it after a failure.
    pub(crate) fn learn_era(&self, entry: &Entry, era: Option<Era>) {
        let mut eras = self.eras();
        match era {
            Some(era) => eras.insert(Self::era_key(entry), era),
            None => eras.remove(&Self::era_key(entry)),
        };
    }

    pub(crate) fn entries(&self) -> Vec<Arc<Entry>> {
        self.maps().by_id.values().cloned().collect()
    }

    /// Finds or makes the entry and counts the caller in, under one lock: from here on no eviction hits it.
    fn enter(self: &Arc<Self>, caller: &Caller, target: &Target) -> Result<Arc<Entry>, OpenError> {
        let key = SessionKey::of(caller, &target.spec.name, target.isolation);
        let mut maps = self.maps();
        // Under the lock, so that nobody enters after `drain` has looked.
        if self.draining.load(Ordering::SeqCst) {
            return Err(OpenError::Draining);
        }
        if let Some(entry) = maps.by_key.get(&key) {
            if entry.target.version == target.version {
                entry.in_flight.fetch_add(1, Ordering::SeqCst);
                return Ok(Arc::clone(entry));
            }
            let old = Arc::clone(entry);
            self.retire_entry(&mut maps, &old);
        }
        self.make_room(&mut maps, key.user.as_ref())?;
        let entry = Arc::new(Entry::new(key, target.clone()));
        // A call's own session leaves with its only user, also when it never became usable.
        entry
            .retired
            .store(target.isolation == Isolation::Call, Ordering::SeqCst);
        entry.in_flight.fetch_add(1, Ordering::SeqCst);
        maps.insert(&entry);
        drop(maps);
        keeper::announce(self, &entry, None);
        keeper::start_opening(self, &entry);
        Ok(entry)
    }

    fn make_room(
        self: &Arc<Self>,
        maps: &mut Maps,
        user: Option<&UserId>,
    ) -> Result<(), OpenError> {
        let own = user
            .and_then(|user| maps.per_user.get(user))
            .copied()
            .unwrap_or_default();
        if user.is_some() && own >= self.limits.max_per_user {
            let limit = self.limits.max_per_user;
            let entry = maps
                .least_used(user)
                .ok_or(OpenError::TooMany { limit, own: true })?;
            self.retire_entry(maps, &entry);
        }
        if maps.by_id.len() >= self.limits.max {
            let limit = self.limits.max;
            let entry = maps
                .least_used(None)
                .ok_or(OpenError::TooMany { limit, own: false })?;
            self.retire_entry(maps, &entry);
        }
        Ok(())
    }

    /// Takes a session out; it closes at once or when its last lease is given back.
    fn retire_entry(self: &Arc<Self>, maps: &mut Maps, entry: &Arc<Entry>) {
        maps.remove(entry);
        entry.retired.store(true, Ordering::SeqCst);
        if entry.in_flight.load(Ordering::SeqCst) == 0 {
            let (inner, entry) = (Arc::clone(self), Arc::clone(entry));
            self.tasks
                .spawn(async move { keeper::close(&inner, &entry, "retired").await });
        }
    }

    /// A lease is given back.
    pub(crate) fn release(self: &Arc<Self>, entry: &Arc<Entry>) {
        entry.touch();
        let left = entry.in_flight.fetch_sub(1, Ordering::SeqCst) - 1;
        if left == 0 && entry.retired.load(Ordering::SeqCst) {
            let mut maps = self.maps();
            maps.remove(entry);
            // Somebody may have entered between the count and the lock.
            if entry.in_flight.load(Ordering::SeqCst) == 0 {
                let (inner, entry) = (Arc::clone(self), Arc::clone(entry));
                self.tasks
                    .spawn(async move { keeper::close(&inner, &entry, "used up").await });
            }
        }
        if self.draining.load(Ordering::Relaxed) {
            self.returned.notify_waiters();
        }
    }

    /// Closes a session whose time is over, unless somebody came in the meantime.
    pub(crate) fn evict(self: &Arc<Self>, entry: &Arc<Entry>) {
        let mut maps = self.maps();
        let free = entry.in_flight.load(Ordering::SeqCst) == 0;
        if free && entry.is_over(self.limits.idle, self.limits.ttl) {
            self.retire_entry(&mut maps, entry);
        }
    }

    /// Takes a session out because its state is `Closed`.
    pub(crate) fn forget(&self, entry: &Entry) {
        self.maps().remove(entry);
    }
}

/// All sessions of this process. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Sessions {
    inner: Arc<Inner>,
}

impl Sessions {
    /// An empty registry; starts its sweeper on the current runtime.
    #[must_use]
    pub fn new(limits: SessionLimits) -> Self {
        let inner = Arc::new(Inner {
            limits,
            maps: Mutex::default(),
            eras: Mutex::default(),
            notices: broadcast::channel(NOTICES).0,
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
            returned: Notify::new(),
            draining: AtomicBool::new(false),
        });
        inner
            .tasks
            .spawn(keeper::sweep(Arc::downgrade(&inner), inner.stop.clone()));
        Self { inner }
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
        let entry = self.inner.enter(caller, target)?;
        let mut entered = Entered {
            inner: &self.inner,
            entry: Some(entry),
        };
        let entry = entered.entry.as_ref().map(Arc::clone);
        let Some(entry) = entry else {
            return Err(OpenError::Draining);
        };
        let (connection, generation) = self.wait_ready(&entry, deadline).await?;
        entered.entry = None;
        Ok(SessionLease::new(
            Session {
                entry,
                connection,
                generation,
            },
            Arc::clone(&self.inner),
        ))
    }

    async fn wait_ready(
        &self,
        entry: &Arc<Entry>,
        deadline: Instant,
    ) -> Result<(Arc<transports::Connection>, u64), OpenError> {
        let mut changed = entry.changed.subscribe();
        let (started, mut waited) = (Instant::now(), false);
        loop {
            if let Some(outcome) = keeper::look(&self.inner, entry, waited) {
                return outcome;
            }
            waited = true;
            if tokio::time::timeout_at(deadline, changed.changed())
                .await
                .is_err()
            {
                return Err(OpenError::Timeout {
                    after: started.elapsed(),
                });
            }
        }
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
        Ok(self.show(&lease.entry))
    }

    fn show(&self, entry: &Entry) -> Inspection {
        entry.inspect(self.inner.limits.idle, self.inner.limits.ttl)
    }

    /// Every session, by id.
    #[must_use]
    pub fn list(&self) -> Vec<Inspection> {
        let mut entries = self.inner.entries();
        entries.sort_by_key(|entry| entry.id);
        entries.iter().map(|entry| self.show(entry)).collect()
    }

    /// How many sessions there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.inner.maps().by_id.len()
    }

    fn find(&self, id: SessionId) -> Option<Arc<Entry>> {
        self.inner.maps().by_id.get(&id).cloned()
    }

    /// One session.
    #[must_use]
    pub fn inspect(&self, id: SessionId) -> Option<Inspection> {
        self.find(id).map(|entry| self.show(&entry))
    }

    /// Closes one session and waits for its process or socket to be gone. False when unknown.
    /// Calls in flight on it fail.
    pub async fn close(&self, id: SessionId) -> bool {
        let Some(entry) = self.find(id) else {
            return false;
        };
        self.inner.forget(&entry);
        keeper::close(&self.inner, &entry, "closed by request").await;
        true
    }

    /// Drops the connection and opens a new one for the same session.
    ///
    /// # Errors
    /// `None` when unknown, else as [`Sessions::acquire`].
    pub async fn refresh(
        &self,
        id: SessionId,
        deadline: Instant,
    ) -> Option<Result<Inspection, OpenError>> {
        let entry = self.find(id)?;
        entry.in_flight.fetch_add(1, Ordering::SeqCst);
        let entered = Entered {
            inner: &self.inner,
            entry: Some(Arc::clone(&entry)),
        };
        keeper::refresh(&self.inner, &entry);
        let outcome = self
            .wait_ready(&entry, deadline)
            .await
            .map(|_| self.show(&entry));
        drop(entered);
        Some(outcome)
    }

    /// Closes the sessions of a server whose definition went away or changed; calls in flight finish first.
    pub fn retire(&self, workspace: &WorkspaceId, server: &ServerName) {
        let mut maps = self.inner.maps();
        let gone =
            |entry: &&Arc<Entry>| entry.key.workspace == *workspace && entry.key.server == *server;
        let entries: Vec<_> = maps.by_id.values().filter(gone).cloned().collect();
        for entry in entries {
            self.inner.retire_entry(&mut maps, &entry);
        }
    }

    /// Watches state changes and upstream notifications. A slow watcher sees `Lagged`.
    #[must_use]
    pub fn notices(&self) -> broadcast::Receiver<SessionNotice> {
        self.inner.notices.subscribe()
    }

    /// Refuses new sessions, lets calls in flight finish until `deadline`, closes everything.
    pub async fn drain(&self, deadline: Instant) {
        {
            let _maps = self.inner.maps();
            self.inner.draining.store(true, Ordering::SeqCst);
        }
        let finished = async {
            loop {
                let returned = self.inner.returned.notified();
                tokio::pin!(returned);
                returned.as_mut().enable();
                if self
                    .inner
                    .entries()
                    .iter()
                    .all(|entry| entry.in_flight.load(Ordering::SeqCst) == 0)
                {
                    return;
                }
                returned.await;
            }
        };
        let _ = tokio::time::timeout_at(deadline, finished).await;
        self.inner.stop.cancel();
        for entry in self.inner.entries() {
            self.inner.forget(&entry);
            let inner = Arc::clone(&self.inner);
            self.inner
                .tasks
                .spawn(async move { keeper::close(&inner, &entry, "shutting down").await });
        }
        self.inner.tasks.close();
        self.inner.tasks.wait().await;
    }
}

/// Counts a caller out again if he leaves before he has a lease.
struct Entered<'a> {
    inner: &'a Arc<Inner>,
    entry: Option<Arc<Entry>>,
}

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        if let Some(entry) = self.entry.take() {
            self.inner.release(&entry);
        }
    }
}

/// Whether the state lets a caller in, and if not, why.
pub(crate) fn admission(state: State, now: Instant) -> Admission {
    match state {
        State::Ready { .. } => Admission::In,
        State::Opening { .. } => Admission::Wait,
        State::Backoff { until, .. } if until <= now => Admission::Try(Event::Retry),
        State::Backoff { until, .. } => Admission::Later(until - now),
        State::Closed => Admission::Over,
    }
}

/// See [`admission`].
pub(crate) enum Admission {
    In,
    Wait,
    Try(Event),
    Later(Duration),
    Over,
}
