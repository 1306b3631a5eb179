//! How getting a session fails.

use std::sync::Arc;
use std::time::Duration;

use transports::ConnectError;

/// No session could be had.
#[derive(Debug, Clone, thiserror::Error)]
pub enum OpenError {
    /// The server could not be reached. Shared by all who waited for the same opening.
    #[error("the server could not be opened")]
    Connect(#[source] Arc<ConnectError>),
    /// The caller's deadline passed while the session was opening; the opening goes on.
    #[error("the session was not ready within {after:?}")]
    Timeout {
        /// How long was waited.
        after: Duration,
    },
    /// The session waits before its next try after failures.
    #[error("the server failed; next try in {retry_after:?}")]
    BackingOff {
        /// When the next try will be.
        retry_after: Duration,
        /// The last failure.
        #[source]
        source: Arc<ConnectError>,
    },
    /// The cap on sessions was reached, and none is idle.
    #[error("{limit} sessions are open already")]
    TooMany {
        /// The cap.
        limit: usize,
        /// Whether it is the caller's or its workspace's own cap, not the bridge's.
        own: bool,
    },
    /// The bridge is shutting down.
    #[error("the bridge is shutting down")]
    Draining,
}
