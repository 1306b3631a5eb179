//! What a session shows of itself.

use std::time::SystemTime;

use serde::Serialize;
use transports::{Era, Notification, ProcessFacts};

use crate::key::{Isolation, SessionId, SessionKey};

/// A session's state by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum StateName {
    /// Connecting for the first time.
    Opening,
    /// Usable.
    Ready,
    /// Usable, but the last heartbeat went unanswered.
    Degraded,
    /// Lost; waiting for or trying the next connection.
    Reconnecting,
    /// No new caller gets it: calls in flight on it finish, or its process or socket is being closed.
    Closing,
    /// Ended; nothing of it is left.
    Closed,
}

/// Everything `inspect_session` tells.
#[derive(Debug, Clone)]
pub struct Inspection {
    /// The id.
    pub id: SessionId,
    /// Whom it belongs to.
    pub key: SessionKey,
    /// Why it is shared as it is.
    pub isolation: Isolation,
    /// State now.
    pub state: StateName,
    /// Since when.
    pub since: SystemTime,
    /// When it was opened.
    pub opened_at: SystemTime,
    /// Protocol era, once known.
    pub era: Option<Era>,
    /// Protocol revision, once known.
    pub protocol_version: Option<String>,
    /// What carries it, once known.
    pub transport: Option<&'static str>,
    /// Process facts, for stdio.
    pub process: Option<ProcessFacts>,
    /// Calls in flight.
    pub in_flight: usize,
    /// Reconnects so far.
    pub reconnects: u64,
    /// Rises with each connection of this session.
    pub generation: u64,
    /// Last answered heartbeat.
    pub last_ping: Option<SystemTime>,
    /// Last error in words.
    pub last_error: Option<String>,
    /// When it will be evicted if nothing happens; `None` when it never will.
    pub expires_at: Option<SystemTime>,
    /// Last stderr lines, not yet redacted.
    pub stderr: Vec<String>,
}

/// What happened to a session; sent to whoever watches [`crate::Sessions::notices`].
#[derive(Debug, Clone)]
pub enum SessionNotice {
    /// Its state changed.
    State {
        /// The session.
        id: SessionId,
        /// Its key.
        key: SessionKey,
        /// The new state.
        state: StateName,
        /// Why, in words.
        reason: Option<String>,
    },
    /// The server sent a notification that belongs to no single call
    /// (`notifications/tools/list_changed`, `notifications/message`, …).
    Upstream {
        /// The session.
        id: SessionId,
        /// Its key.
        key: SessionKey,
        /// The notification.
        notification: Notification,
    },
}
