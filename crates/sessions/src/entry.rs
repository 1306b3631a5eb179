//! One session as the registry keeps it: its state, its times, and what it shows of itself.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use transports::{ConnectError, Connection};

use crate::inspect::{Inspection, StateName};
use crate::key::{Isolation, SessionId, SessionKey};
use crate::limits::SessionLimits;
use crate::questions::Questions;
use crate::registry::Target;
use crate::state::State;

/// One connection of a session.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) connection: Arc<Connection>,
    /// Rises with each connection of the session.
    pub(crate) generation: u64,
    /// What its server asks.
    pub(crate) questions: Questions,
}

/// What changes over a session's life, under one short lock. Taken after the registry's, never before it.
#[derive(Debug)]
pub(crate) struct Cell {
    pub(crate) state: State,
    /// There while the state is `Ready`.
    pub(crate) link: Option<Arc<Link>>,
    pub(crate) generation: u64,
    pub(crate) last_failure: Option<Arc<ConnectError>>,
    pub(crate) last_error: Option<String>,
    /// Why it was closed.
    pub(crate) end: Option<String>,
    pub(crate) last_ping: Option<SystemTime>,
    pub(crate) since: SystemTime,
}

/// One session.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) id: SessionId,
    pub(crate) key: SessionKey,
    pub(crate) target: Target,
    opened: Instant,
    opened_at: SystemTime,
    cell: Mutex<Cell>,
    /// Rises with every change of state; waiters watch it.
    pub(crate) changed: watch::Sender<u64>,
    /// Wakes the session's own task to look at the state.
    pub(crate) nudge: Notify,
    pub(crate) in_flight: AtomicUsize,
    /// Milliseconds since `opened` at the last use.
    used_ms: AtomicU64,
    /// Milliseconds since `opened` until which it is kept although idle.
    keep_ms: AtomicU64,
    /// No new caller gets it.
    pub(crate) leaving: AtomicBool,
    /// Its connection is closed or being closed.
    pub(crate) parting: AtomicBool,
    /// Its time was over while it was in use: looked at again when it is given back.
    pub(crate) overdue: AtomicBool,
    /// Wakes who watches its time.
    pub(crate) recheck: Notify,
    /// Cancelled once its process or socket is gone.
    pub(crate) gone: CancellationToken,
}

impl Entry {
    pub(crate) fn new(key: SessionKey, target: Target) -> Self {
        Self {
            id: SessionId::mint(),
            key,
            target,
            opened: Instant::now(),
            opened_at: SystemTime::now(),
            cell: Mutex::new(Cell {
                state: State::Opening {
                    attempt: 0,
                    again: false,
                },
                link: None,
                generation: 0,
                last_failure: None,
                last_error: None,
                end: None,
                last_ping: None,
                since: SystemTime::now(),
            }),
            changed: watch::Sender::new(0),
            nudge: Notify::new(),
            in_flight: AtomicUsize::new(0),
            used_ms: AtomicU64::new(0),
            keep_ms: AtomicU64::new(0),
            leaving: AtomicBool::new(false),
            parting: AtomicBool::new(false),
            overdue: AtomicBool::new(false),
            recheck: Notify::new(),
            gone: CancellationToken::new(),
        }
    }

    pub(crate) fn cell(&self) -> MutexGuard<'_, Cell> {
        self.cell.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn is_used(&self) -> bool {
        self.in_flight.load(Ordering::SeqCst) > 0
    }

    pub(crate) fn is_leaving(&self) -> bool {
        self.leaving.load(Ordering::SeqCst)
    }

    /// Whether it closes once its only user leaves.
    pub(crate) fn serves_one_call(&self) -> bool {
        self.target.isolation == Isolation::Call
    }

    /// Whether this is the connection it has.
    pub(crate) fn has(&self, link: &Arc<Link>) -> bool {
        self.cell().has(link)
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
        self.recheck.notify_one();
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

    /// How long until its time is over if nobody uses it; `None` = it may stay for good.
    pub(crate) fn remaining(&self, limits: &SessionLimits) -> Option<Duration> {
        let life = self.life(limits)?;
        Some(life.saturating_sub(self.opened.elapsed()))
    }

    /// From its opening to the end of its time if nobody uses it again; the same each time it is asked.
    fn life(&self, limits: &SessionLimits) -> Option<Duration> {
        let keep_ms = self.keep_ms.load(Ordering::Relaxed);
        if keep_ms > 0 {
            return Some(Duration::from_millis(keep_ms));
        }
        let used = Duration::from_millis(self.used_ms.load(Ordering::Relaxed));
        let by_idle = (!limits.idle.is_zero()).then(|| used.saturating_add(limits.idle));
        let by_age = (!limits.ttl.is_zero()).then_some(limits.ttl);
        by_idle.into_iter().chain(by_age).min()
    }

    /// The state as people see it: who is on the way out is `closing`, whatever the connection does.
    pub(crate) fn name(&self, cell: &Cell) -> StateName {
        if self.is_leaving() || cell.state == State::Closed {
            StateName::Closing
        } else {
            cell.state.name()
        }
    }

    pub(crate) fn inspect(&self, limits: &SessionLimits) -> Inspection {
        let cell = self.cell();
        let state = self.name(&cell);
        let (since, generation) = (cell.since, cell.generation);
        let (last_ping, last_error, link) =
            (cell.last_ping, cell.last_error.clone(), cell.link.clone());
        drop(cell);
        let connection = link.as_ref().map(|link| &link.connection);
        let info = connection.map(|connection| connection.info());
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
            process: connection.and_then(|connection| connection.process()),
            in_flight: self.in_flight.load(Ordering::SeqCst),
            reconnects: generation.saturating_sub(1),
            generation,
            last_ping,
            last_error,
            expires_at: self
                .life(limits)
                .and_then(|life| self.opened_at.checked_add(life))
                // Whoever is in use outlives its time, until it is free.
                .map(|end| end.max(SystemTime::now())),
            stderr: connection
                .map(|connection| connection.stderr_tail())
                .unwrap_or_default(),
        }
    }
}

impl Cell {
    /// Whether this is the connection it has.
    pub(crate) fn has(&self, link: &Arc<Link>) -> bool {
        self.link.as_ref().is_some_and(|now| Arc::ptr_eq(now, link))
    }
}
