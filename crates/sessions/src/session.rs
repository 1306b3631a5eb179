//! One session: its state, its connection, and the lease a caller holds while using it.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use serde_json::value::RawValue;
use tokio::sync::watch;
use tokio::time::Instant;
use transports::{ConnectError, Connection, PeerInfo, Request, RequestError};

use crate::inspect::Inspection;
use crate::key::{SessionId, SessionKey};
use crate::registry::{Inner, Target};
use crate::state::State;

/// What changes over a session's life, under one short lock.
#[derive(Debug)]
pub(crate) struct Cell {
    pub(crate) state: State,
    pub(crate) connection: Option<Arc<Connection>>,
    pub(crate) generation: u64,
    pub(crate) reconnects: u64,
    pub(crate) last_failure: Option<Arc<ConnectError>>,
    pub(crate) last_error: Option<String>,
    pub(crate) last_ping: Option<SystemTime>,
    pub(crate) pinged_at: Instant,
    pub(crate) since: SystemTime,
}

/// One session as the registry keeps it.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) id: SessionId,
    pub(crate) key: SessionKey,
    pub(crate) target: Target,
    pub(crate) opened: Instant,
    pub(crate) opened_at: SystemTime,
    pub(crate) cell: Mutex<Cell>,
    /// Rises with every change of state; waiters watch it.
    pub(crate) changed: watch::Sender<u64>,
    pub(crate) in_flight: AtomicUsize,
    /// Milliseconds since `opened` at the last use.
    pub(crate) used_ms: AtomicU64,
    /// Milliseconds since `opened` until which it is kept although idle.
    pub(crate) keep_ms: AtomicU64,
    /// Out of the registry; closes once nobody uses it.
    pub(crate) retired: AtomicBool,
}

impl Entry {
    pub(crate) fn new(key: SessionKey, target: Target) -> Self {
        let now = Instant::now();
        Self {
            id: SessionId::mint(),
            key,
            target,
            opened: now,
            opened_at: SystemTime::now(),
            cell: Mutex::new(Cell {
                state: State::Opening {
                    attempt: 0,
                    again: false,
                },
                connection: None,
                generation: 0,
                reconnects: 0,
                last_failure: None,
                last_error: None,
                last_ping: None,
                pinged_at: now,
                since: SystemTime::now(),
            }),
            changed: watch::Sender::new(0),
            in_flight: AtomicUsize::new(0),
            used_ms: AtomicU64::new(0),
            keep_ms: AtomicU64::new(0),
            retired: AtomicBool::new(false),
        }
    }

    pub(crate) fn cell(&self) -> MutexGuard<'_, Cell> {
        self.cell.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn since_opened_ms(&self) -> u64 {
        u64::try_from(self.opened.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    pub(crate) fn touch(&self) {
        self.used_ms
            .store(self.since_opened_ms(), Ordering::Relaxed);
    }

    pub(crate) fn keep_for(&self, ttl: Duration) {
        let until = self
            .since_opened_ms()
            .saturating_add(u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX));
        self.keep_ms.fetch_max(until, Ordering::Relaxed);
    }

    pub(crate) fn idle_for(&self) -> Duration {
        Duration::from_millis(
            self.since_opened_ms()
                .saturating_sub(self.used_ms.load(Ordering::Relaxed)),
        )
    }

    /// Whether an explicit opening still keeps it.
    pub(crate) fn is_kept(&self) -> bool {
        self.since_opened_ms() < self.keep_ms.load(Ordering::Relaxed)
    }

    /// Whether its time is over, were nobody using it.
    pub(crate) fn is_over(&self, idle: Duration, ttl: Duration) -> bool {
        let kept = self.is_kept();
        let was_kept = self.keep_ms.load(Ordering::Relaxed) > 0;
        let too_old = !ttl.is_zero() && self.opened.elapsed() >= ttl;
        let too_idle = !idle.is_zero() && self.idle_for() >= idle;
        !kept && (too_idle || too_old || was_kept)
    }

    /// When it will be closed if nothing happens, from now.
    fn expires_in(&self, idle: Duration, ttl: Duration) -> Option<Duration> {
        let kept = Duration::from_millis(self.keep_ms.load(Ordering::Relaxed))
            .checked_sub(self.opened.elapsed());
        let by_idle = (!idle.is_zero()).then(|| idle.saturating_sub(self.idle_for()));
        let by_age = (!ttl.is_zero()).then(|| ttl.saturating_sub(self.opened.elapsed()));
        kept.or_else(|| match (by_idle, by_age) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        })
    }

    pub(crate) fn inspect(&self, idle: Duration, ttl: Duration) -> Inspection {
        let cell = self.cell();
        let (state, since, generation, reconnects) = (
            cell.state.name(),
            cell.since,
            cell.generation,
            cell.reconnects,
        );
        let (last_ping, last_error, connection) = (
            cell.last_ping,
            cell.last_error.clone(),
            cell.connection.clone(),
        );
        drop(cell);
        let info = connection.as_ref().map(|connection| connection.info());
        Inspection {
            id: self.id,
            key: self.key.clone(),
            isolation: self.target.isolation,
            state,
            since,
            opened_at: self.opened_at,
            era: info.map(|info| info.era),
            protocol_version: info.map(|info| info.protocol_version.clone()),
            transport: info.map(|info| info.transport),
            process: connection
                .as_ref()
                .and_then(|connection| connection.process()),
            in_flight: self.in_flight.load(Ordering::SeqCst),
            reconnects,
            generation,
            last_ping,
            last_error,
            expires_at: self
                .expires_in(idle, ttl)
                .map(|wait| SystemTime::now() + wait),
            stderr: connection
                .map(|connection| connection.stderr_tail())
                .unwrap_or_default(),
        }
    }
}

/// One session, over the connection it had when the lease was taken.
#[derive(Debug)]
pub struct Session {
    pub(crate) entry: Arc<Entry>,
    pub(crate) connection: Arc<Connection>,
    pub(crate) generation: u64,
}

impl Session {
    /// Its id.
    #[must_use]
    pub fn id(&self) -> SessionId {
        self.entry.id
    }

    /// Whom it belongs to.
    #[must_use]
    pub fn key(&self) -> &SessionKey {
        &self.entry.key
    }

    /// What the current connection's handshake told.
    #[must_use]
    pub fn peer(&self) -> &PeerInfo {
        self.connection.info()
    }

    /// Rises with each connection.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// Sends a request; dropping the future cancels it upstream.
    ///
    /// # Errors
    /// [`RequestError`].
    pub async fn request(&self, request: Request) -> Result<Box<RawValue>, RequestError> {
        self.connection.request(request).await
    }
}

/// A session in use: while one is held the session is not idle and not evicted.
/// For isolation `call` the session closes when this is dropped.
#[derive(Debug)]
pub struct SessionLease {
    session: Session,
    registry: Arc<Inner>,
}

impl SessionLease {
    /// The entry's in-flight count was raised under the registry's lock already.
    pub(crate) fn new(session: Session, registry: Arc<Inner>) -> Self {
        Self { session, registry }
    }
}

impl std::ops::Deref for SessionLease {
    type Target = Session;
    fn deref(&self) -> &Session {
        &self.session
    }
}

impl Drop for SessionLease {
    fn drop(&mut self) {
        let entry = &self.session.entry;
        self.registry.release(entry);
    }
}
