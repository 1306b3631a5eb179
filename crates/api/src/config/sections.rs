//! The sections of the configuration file, each with its defaults.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sessions::{ReconnectPolicy, SessionLimits};

use crate::mcp::McpLimits;

/// Who may come in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Auth {
    /// API keys are required. `false` only on loopback: whoever reaches it is the local admin.
    pub keys: bool,
    /// Origins of pages that may talk to the bridge besides its own.
    pub trusted_origins: Vec<String>,
}

impl Default for Auth {
    fn default() -> Self {
        Self {
            keys: true,
            trusted_origins: Vec::new(),
        }
    }
}

/// Bounds and timers of sessions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Sessions {
    /// A session nobody used for this long is closed; 0 = never.
    pub idle_s: u64,
    /// A session older than this is closed once idle; 0 = never.
    pub ttl_s: u64,
    /// Sessions of the process.
    pub max: usize,
    /// Sessions of one user.
    pub max_per_user: usize,
    /// Between heartbeats; 0 = none.
    pub heartbeat_s: u64,
    /// Waits between reconnects.
    pub reconnect: Reconnect,
}

impl Default for Sessions {
    fn default() -> Self {
        let limits = SessionLimits::default();
        Self {
            idle_s: limits.idle.as_secs(),
            ttl_s: limits.ttl.as_secs(),
            max: limits.max,
            max_per_user: limits.max_per_user,
            heartbeat_s: limits.heartbeat.as_secs(),
            reconnect: Reconnect::default(),
        }
    }
}

impl Sessions {
    /// In the terms of `sessions`.
    #[must_use]
    pub fn limits(&self) -> SessionLimits {
        SessionLimits {
            idle: Duration::from_secs(self.idle_s),
            ttl: Duration::from_secs(self.ttl_s),
            max: self.max,
            max_per_user: self.max_per_user,
            heartbeat: Duration::from_secs(self.heartbeat_s),
            reconnect: ReconnectPolicy {
                initial: Duration::from_millis(self.reconnect.initial_ms),
                max: Duration::from_millis(self.reconnect.max_ms),
                attempts: self.reconnect.attempts,
            },
        }
    }
}

/// Waits between reconnects: doubling, with jitter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Reconnect {
    /// First wait.
    pub initial_ms: u64,
    /// Longest wait.
    pub max_ms: u64,
    /// Tries before the session is closed; 0 = no end.
    pub attempts: u32,
}

impl Default for Reconnect {
    fn default() -> Self {
        Self {
            initial_ms: 500,
            max_ms: 60_000,
            attempts: 0,
        }
    }
}

/// The MCP endpoints.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Mcp {
    /// A session of a client older than 2026-07-28 that nobody used for this long ends.
    pub session_idle_s: u64,
    /// Such sessions kept at once; the least used makes room, and comes back when it is asked for.
    pub max_sessions: usize,
}

impl Default for Mcp {
    fn default() -> Self {
        Self {
            session_idle_s: 8 * 3600,
            max_sessions: 10_000,
        }
    }
}

impl Mcp {
    /// In the terms of the face.
    #[must_use]
    pub fn limits(&self) -> McpLimits {
        McpLimits {
            session_idle: Duration::from_secs(self.session_idle_s),
            max_sessions: self.max_sessions,
        }
    }
}

/// Bounds of requests and calls.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Largest request body.
    pub body_bytes: usize,
    /// Largest result of a tool.
    pub result_bytes: usize,
    /// Calls of one user at once.
    pub in_flight_per_user: usize,
    /// How long what a server asks its caller back waits for an answer; then it is declined.
    pub input_wait_s: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            body_bytes: 10 * 1024 * 1024,
            result_bytes: 16 * 1024 * 1024,
            in_flight_per_user: 64,
            input_wait_s: 300,
        }
    }
}

/// How long records are kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Audit {
    /// Calls and events.
    pub retention_days: u64,
}

impl Default for Audit {
    fn default() -> Self {
        Self { retention_days: 90 }
    }
}

/// How the daemon ends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Shutdown {
    /// Calls in flight have this long to finish.
    pub grace_s: u64,
}

impl Default for Shutdown {
    fn default() -> Self {
        Self { grace_s: 10 }
    }
}

/// The bridge's own agent, which runs servers marked `runner: agent` in a process that outlives the daemon.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct LocalAgent {
    /// There is one; it is started when a server wants it. Without it such servers are refused.
    pub enabled: bool,
    /// It ends itself and its servers when no daemon came for so long.
    pub orphan_s: u64,
}

impl Default for LocalAgent {
    fn default() -> Self {
        Self {
            enabled: true,
            orphan_s: 600,
        }
    }
}

/// Where servers that are not in the file may lead.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Outbound {
    /// CIDR blocks, addresses or host names allowed although private.
    pub allow_private: Vec<String>,
    /// CIDR blocks, addresses or host names refused although public.
    pub deny: Vec<String>,
}

/// What the daemon tells of itself.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Telemetry {
    /// On stderr.
    pub log: Log,
}

/// Logs on stderr.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Log {
    /// `json` or `text`.
    pub format: LogFormat,
    /// `error`, `warn`, `info`, `debug`, `trace`, or directives such as `info,broker=debug`.
    pub level: String,
}

impl Default for Log {
    fn default() -> Self {
        Self {
            format: LogFormat::Text,
            level: "info".to_owned(),
        }
    }
}

/// How a log line looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// One JSON document a line.
    Json,
    /// For people.
    Text,
}
