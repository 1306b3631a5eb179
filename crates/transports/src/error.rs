//! How reaching a server fails. Facts only; codes and statuses are made in `broker` and `api`.

use std::time::Duration;

use serde_json::value::RawValue;

/// May the effect of a failed request have happened?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Executed {
    /// Surely not: nothing reached the server.
    No,
    /// The request may have been written.
    Unknown,
}

/// Why a connection could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The command could not be started, or its process left before the handshake ended.
    #[error("{detail}")]
    Spawn {
        /// In words, with the command's name but not its arguments.
        detail: String,
        /// The last lines the process wrote to stderr.
        stderr: Vec<String>,
    },
    /// Refused, DNS, TLS, redirect, 403, 5xx before a handshake, refused by the outbound policy.
    #[error("{detail}")]
    Unreachable {
        /// In words, without secrets.
        detail: String,
    },
    /// 401, with the challenge the server sent.
    #[error("the server asks for credentials")]
    NeedsAuth {
        /// `WWW-Authenticate`, if any.
        challenge: Option<String>,
    },
    /// The handshake was answered with something that is no MCP.
    #[error("{detail}")]
    Protocol {
        /// In words.
        detail: String,
    },
    /// A step's deadline passed.
    #[error("no answer to {step} within {after:?}")]
    Timeout {
        /// `connect`, `server/discover` or `initialize`.
        step: &'static str,
        /// The deadline.
        after: Duration,
    },
    /// The agent the server stands behind is not connected.
    #[error("the agent `{agent}` is offline")]
    AgentOffline {
        /// Its id.
        agent: String,
    },
}

/// Why a request got no result.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// The server answered with a JSON-RPC error.
    #[error("the server answered error {code}: {message}")]
    Rpc {
        /// JSON-RPC code.
        code: i64,
        /// The server's words; untrusted.
        message: String,
        /// Raw `error.data`, if any.
        data: Option<Box<RawValue>>,
    },
    /// The deadline passed.
    #[error("no answer within {after:?}")]
    Timeout {
        /// The deadline.
        after: Duration,
    },
    /// Garbage, wrong id, truncated or undecodable body, 5xx, stream end without a result.
    #[error("{detail}")]
    Protocol {
        /// In words.
        detail: String,
    },
    /// A frame or body over [`crate::WireLimits::frame_bytes`].
    #[error("the answer is larger than {limit_bytes} bytes")]
    TooLarge {
        /// The bound that was passed.
        limit_bytes: usize,
    },
    /// The process left while the request was in flight.
    #[error("{detail}")]
    Exited {
        /// Exit status or signal, in words.
        detail: String,
        /// The exit status as a shell has it, 128 and the signal's number for one that was killed, where known.
        status: Option<i32>,
        /// The last lines of stderr.
        stderr: Vec<String>,
    },
    /// Could not be sent at all.
    #[error("{detail}")]
    Unreachable {
        /// In words.
        detail: String,
    },
    /// 401 before any result.
    #[error("the server asks for credentials")]
    NeedsAuth {
        /// `WWW-Authenticate`, if any.
        challenge: Option<String>,
    },
    /// More requests in flight than [`crate::WireLimits::in_flight`].
    #[error("{limit} requests are in flight already")]
    Overloaded {
        /// The bound that was reached.
        limit: usize,
    },
    /// The connection was closed by us before the answer came.
    #[error("the connection was closed")]
    Closed {
        /// Whether the request may have been written before.
        executed: Executed,
    },
    /// The agent the server stands behind is not connected: nothing was sent.
    #[error("the agent `{agent}` is offline")]
    AgentOffline {
        /// Its id.
        agent: String,
    },
    /// The agent lost the call: it was restarted, or no longer keeps the result. It may have run.
    #[error("{detail}")]
    Disconnected {
        /// In words.
        detail: String,
    },
}

impl RequestError {
    /// May the effect have happened?
    #[must_use]
    pub fn executed(&self) -> Executed {
        match self {
            Self::Unreachable { .. }
            | Self::NeedsAuth { .. }
            | Self::Overloaded { .. }
            | Self::AgentOffline { .. } => Executed::No,
            Self::Closed { executed } => *executed,
            Self::Rpc { .. }
            | Self::Timeout { .. }
            | Self::Protocol { .. }
            | Self::TooLarge { .. }
            | Self::Exited { .. }
            | Self::Disconnected { .. } => Executed::Unknown,
        }
    }
}

/// Why a connection ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CloseReason {
    /// We closed it.
    Asked,
    /// The process left, in words.
    Exited(String),
    /// The stream or socket ended or broke, in words.
    Lost(String),
}
