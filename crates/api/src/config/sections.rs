//! The sections of the configuration file, each with its defaults.

use std::num::NonZeroU32;
use std::time::Duration;

use broker::audit::OnUnavailable;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sessions::{ReconnectPolicy, SessionLimits};

use crate::mcp::McpLimits;

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
    /// Sessions of one workspace; left out: three quarters of `max`.
    pub max_per_workspace: Option<usize>,
    /// Children of one workspace: sessions of stdio servers, each a process tree.
    pub max_children_per_workspace: usize,
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
            max_per_workspace: None,
            max_children_per_workspace: limits.max_children_per_workspace,
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
            max_per_workspace: self
                .max_per_workspace
                .unwrap_or((self.max - self.max / 4).max(1)),
            max_children_per_workspace: self.max_children_per_workspace,
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
    /// How fast calls may come.
    pub rate: Rates,
    /// Calls of one user at once.
    pub in_flight_per_user: usize,
    /// Calls of one workspace at once; left out: three quarters of `in_flight`.
    pub in_flight_per_workspace: Option<usize>,
    /// Calls at one server at once; left out: half of `in_flight`.
    pub in_flight_per_server: Option<usize>,
    /// Calls at once in all.
    pub in_flight: usize,
    /// Bytes that the arguments of one user's calls at once may hold.
    pub bytes_in_flight_per_user: usize,
    /// How long what a server asks its caller back waits for an answer; then it is declined.
    pub input_wait_s: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            body_bytes: 10 * 1024 * 1024,
            result_bytes: 16 * 1024 * 1024,
            rate: Rates::default(),
            in_flight_per_user: 64,
            in_flight_per_workspace: None,
            in_flight_per_server: None,
            in_flight: 4096,
            bytes_in_flight_per_user: 64 * 1024 * 1024,
            input_wait_s: 300,
        }
    }
}

impl Limits {
    /// Calls of one workspace at once: no tenant takes all places.
    #[must_use]
    pub fn workspace_places(&self) -> usize {
        let share = (self.in_flight - self.in_flight / 4).max(1);
        self.in_flight_per_workspace.unwrap_or(share)
    }

    /// Calls at one server at once: no server that hangs takes all places.
    #[must_use]
    pub fn server_places(&self) -> usize {
        self.in_flight_per_server
            .unwrap_or((self.in_flight / 2).max(1))
    }
}

/// How fast calls may come; `null` = no bound.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Rates {
    /// Those of each user.
    pub user: Option<Rate>,
    /// Those of each workspace; left out: three quarters of `global`.
    pub workspace: Option<Rate>,
    /// Those to each server.
    pub server: Option<Rate>,
    /// All.
    pub global: Option<Rate>,
}

impl Default for Rates {
    fn default() -> Self {
        Self {
            user: Rate::of(10, 100),
            workspace: None,
            server: None,
            global: Rate::of(1000, 2000),
        }
    }
}

impl Rates {
    /// In the terms of the broker.
    #[must_use]
    pub fn rates(&self) -> broker::Rates {
        let rate = |rate: Option<Rate>| {
            rate.map(|rate| broker::Rate {
                per_s: rate.per_s,
                burst: rate.burst,
            })
        };
        broker::Rates {
            user: rate(self.user),
            workspace: rate(self.workspace),
            server: rate(self.server),
            global: rate(self.global),
        }
    }
}

/// A bucket of tokens: each call takes one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Rate {
    /// Tokens that come back each second.
    pub per_s: NonZeroU32,
    /// Tokens of a full bucket: calls that may come at once.
    pub burst: NonZeroU32,
}

impl Rate {
    /// `None` when either is zero.
    #[must_use]
    pub fn of(per_s: u32, burst: u32) -> Option<Self> {
        Some(Self {
            per_s: NonZeroU32::new(per_s)?,
            burst: NonZeroU32::new(burst)?,
        })
    }
}

/// When calls to a server that fails are no longer sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Breaker {
    /// Failures within the window that open the circuit; 0 = it never opens.
    pub failures: u32,
    /// How long a failure counts.
    pub window_s: u64,
    /// How long nothing is sent before one call may try.
    pub open_s: u64,
}

impl Default for Breaker {
    fn default() -> Self {
        Self {
            failures: 5,
            window_s: 30,
            open_s: 15,
        }
    }
}

impl Breaker {
    /// In the terms of the broker.
    #[must_use]
    pub fn limits(&self) -> broker::BreakerLimits {
        broker::BreakerLimits {
            failures: self.failures,
            window: Duration::from_secs(self.window_s),
            open: Duration::from_secs(self.open_s),
        }
    }
}

/// How long records are kept, and what happens while none can be made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Audit {
    /// Calls and events.
    pub retention_days: u64,
    /// What becomes of calls while the store is away: `refuse_dangerous`, `refuse_all` or `allow`.
    pub on_unavailable: OnUnavailable,
}

impl Default for Audit {
    fn default() -> Self {
        Self {
            retention_days: 90,
            on_unavailable: OnUnavailable::default(),
        }
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

/// The key that seals what users put into the store. Without one `store:` references and grants are refused.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Secrets {
    /// A file with 32 random bytes in hex or base64 (`openssl rand -hex 32`), for the daemon's user alone.
    pub key_file: Option<String>,
    /// Instead of the file: the environment variable that holds the key.
    pub key_env: Option<String>,
    /// Files with earlier keys: what they sealed is wrapped by the present key at the next start.
    pub old_key_files: Vec<String>,
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
