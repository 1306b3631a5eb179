//! All sessions of this process.

use std::sync::Arc;
use std::time::Duration;

use serde_json::value::RawValue;
use tokio::sync::broadcast;
use tokio::time::Instant;
use transports::{PeerInfo, Request, RequestError, ServerSpec};

use crate::error::OpenError;
use crate::inspect::{Inspection, SessionNotice};
use crate::key::{Caller, Isolation, SessionId};

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
            idle: Duration::from_secs(1800),
            ttl: Duration::ZERO,
            max: 10_000,
            max_per_user: 100,
            heartbeat: Duration::from_secs(30),
            reconnect: ReconnectPolicy {
                initial: Duration::from_millis(500),
                max: Duration::from_secs(60),
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

/// All sessions of this process. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Sessions {}

impl Sessions {
    /// An empty registry; starts its sweeper on the current runtime.
    #[must_use]
    pub fn new(limits: SessionLimits) -> Self {
        let _ = limits;
        todo!("sessions")
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
        let _ = (caller, target, deadline);
        todo!("sessions")
    }

    /// Opens explicitly and keeps for `ttl` even when idle. Otherwise as [`Sessions::acquire`].
    ///
    /// # Errors
    /// [`OpenError`].
    pub async fn open(
        &self,
        caller: &Caller,
        target: &Target,
        ttl: Option<Duration>,
        deadline: Instant,
    ) -> Result<Inspection, OpenError> {
        let _ = (caller, target, ttl, deadline);
        todo!("sessions")
    }

    /// Every session, by id.
    #[must_use]
    pub fn list(&self) -> Vec<Inspection> {
        todo!("sessions")
    }

    /// One session.
    #[must_use]
    pub fn inspect(&self, id: SessionId) -> Option<Inspection> {
        let _ = id;
        todo!("sessions")
    }

    /// Closes one session and waits for its process or socket to be gone. False when unknown.
    pub async fn close(&self, id: SessionId) -> bool {
        let _ = id;
        todo!("sessions")
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
        let _ = (id, deadline);
        todo!("sessions")
    }

    /// Closes the sessions of a server whose definition went away or changed; calls in flight finish first.
    pub fn retire(&self, workspace: &crate::WorkspaceId, server: &transports::ServerName) {
        let _ = (workspace, server);
        todo!("sessions")
    }

    /// Watches state changes and upstream notifications. A slow watcher sees `Lagged`.
    #[must_use]
    pub fn notices(&self) -> broadcast::Receiver<SessionNotice> {
        todo!("sessions")
    }

    /// Refuses new sessions, lets calls in flight finish until `deadline`, closes everything.
    pub async fn drain(&self, deadline: Instant) {
        let _ = deadline;
        todo!("sessions")
    }
}

/// One session.
#[derive(Debug)]
pub struct Session {}

impl Session {
    /// Its id.
    #[must_use]
    pub fn id(&self) -> SessionId {
        todo!("sessions")
    }

    /// What the current connection's handshake told.
    #[must_use]
    pub fn peer(&self) -> Arc<PeerInfo> {
        todo!("sessions")
    }

    /// Rises with each connection.
    #[must_use]
    pub fn generation(&self) -> u64 {
        todo!("sessions")
    }

    /// Sends a request; dropping the future cancels it upstream.
    ///
    /// # Errors
    /// [`RequestError`].
    pub async fn request(&self, request: Request) -> Result<Box<RawValue>, RequestError> {
        let _ = request;
        todo!("sessions")
    }
}

/// A session in use: while one is held the session is not idle and not evicted.
/// For isolation `call` the session closes when this is dropped.
#[derive(Debug)]
pub struct SessionLease {}

impl std::ops::Deref for SessionLease {
    type Target = Session;
    fn deref(&self) -> &Session {
        todo!("sessions")
    }
}
