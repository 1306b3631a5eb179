//! Bounds and timers of all sessions.

use std::time::Duration;

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
    /// Sessions of one workspace.
    pub max_per_workspace: usize,
    /// Children of one workspace: sessions of stdio servers, each a process tree.
    pub max_children_per_workspace: usize,
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
            // No tenant takes all places.
            max_per_workspace: 7_500,
            max_children_per_workspace: 500,
            heartbeat: Duration::from_secs(30),
            reconnect: ReconnectPolicy {
                initial: Duration::from_millis(500),
                max: Duration::from_mins(1),
                attempts: 0,
            },
        }
    }
}
