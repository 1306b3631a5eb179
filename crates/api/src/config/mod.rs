//! The configuration file: its shape, its defaults, and what this version does not know yet.
//!
//! One struct per concern. Reading is `source`; acting on it is the daemon's.

pub mod auth;
mod sealing;
pub mod sections;
pub mod source;

use std::collections::BTreeMap;
use std::time::Duration;

use broker::limits::{CallLimits, CatalogLimits};
use broker::policy::{Policy, RoleRules};
use broker::{Definition, PointerDetail, SealingKeys};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use transports::{OutboundPolicy, ServerName};

pub use self::auth::{Auth, Jwt};
pub use self::sections::{
    Audit, Breaker, Limits, LocalAgent, LogFormat, Mcp, Outbound, Rate, Rates, Secrets, Sessions,
    Shutdown, Telemetry,
};
pub use self::source::{ConfigError, Source};

/// Where the daemon listens without a word to the contrary.
pub const DEFAULT_LISTEN: &str = "127.0.0.1:8787";

/// Longest life of an approval and of its token: whoever confirms looks at what is asked now.
pub const MAX_CONFIRM_TTL_S: u64 = 300;

/// Keys of the contract that later versions bring. They are refused, never silently ignored.
pub const NOT_IN_THIS_VERSION: &[&str] = &[
    "cluster",
    "tls",
    "otlp",
    "expose",
    "file",
    "rest",
    "wasm",
    "vault",
    "public_key",
];

/// The whole file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct File {
    /// `host:port`; port 0 takes a free one. Elsewhere than loopback needs `auth.keys`.
    pub listen: String,
    /// Under which URL people reach the bridge, behind a proxy.
    pub public_url: Option<String>,
    /// `/openapi.json` and `/docs` without a credential.
    pub docs_public: bool,
    /// `sqlite://<path>` or `postgres://…`; SQLite in the data directory when left out.
    pub store: Option<String>,
    /// Who may come in.
    pub auth: Auth,
    /// Bounds and timers of sessions.
    pub sessions: Sessions,
    /// Bounds of requests and calls.
    pub limits: Limits,
    /// When calls to a server that fails are no longer sent.
    pub breaker: Breaker,
    /// The MCP endpoints.
    pub mcp: Mcp,
    /// How long records are kept.
    pub audit: Audit,
    /// What each role may do, by its name; built-in ones keep what they may where they are not named.
    pub roles: BTreeMap<String, RoleRules>,
    /// How long an approval waits for its decision, and how long its token is good afterwards; at most 300.
    pub confirm_ttl_s: u64,
    /// How long an idempotency key is remembered.
    pub idempotency_retention_s: u64,
    /// A listing older than this is refreshed behind the next answer.
    pub catalog_max_age_s: u64,
    /// How the daemon ends.
    pub shutdown: Shutdown,
    /// The bridge's own agent.
    pub local_agent: LocalAgent,
    /// Where servers that are not in this file may lead.
    pub outbound: Outbound,
    /// The key that seals users' credentials.
    pub secrets: Secrets,
    /// Logs.
    pub telemetry: Telemetry,
    /// Servers by name.
    pub servers: BTreeMap<String, Definition>,
}

impl Default for File {
    fn default() -> Self {
        Self {
            listen: DEFAULT_LISTEN.to_owned(),
            public_url: None,
            docs_public: false,
            store: None,
            auth: Auth::default(),
            sessions: Sessions::default(),
            limits: Limits::default(),
            breaker: Breaker::default(),
            mcp: Mcp::default(),
            audit: Audit::default(),
            roles: BTreeMap::new(),
            confirm_ttl_s: MAX_CONFIRM_TTL_S,
            idempotency_retention_s: 24 * 3600,
            catalog_max_age_s: CatalogLimits::default().max_age.as_secs(),
            shutdown: Shutdown::default(),
            local_agent: LocalAgent::default(),
            outbound: Outbound::default(),
            secrets: Secrets::default(),
            telemetry: Telemetry::default(),
            servers: BTreeMap::new(),
        }
    }
}

impl File {
    /// The servers under checked names.
    ///
    /// # Errors
    /// [`ConfigError`] naming the first bad name.
    pub fn servers(&self) -> Result<BTreeMap<ServerName, Definition>, ConfigError> {
        let mut servers = BTreeMap::new();
        for (name, definition) in &self.servers {
            let checked = ServerName::new(name).map_err(|error| {
                ConfigError::at(&format!("/servers/{name}"), &error.to_string())
            })?;
            servers.insert(checked, definition.clone());
        }
        Ok(servers)
    }

    /// The rules of the roles.
    ///
    /// # Errors
    /// [`ConfigError`] with the first complaint.
    pub fn policy(&self) -> Result<Policy, ConfigError> {
        let complaint =
            |one: PointerDetail| ConfigError::at(&format!("/roles{}", one.pointer), &one.detail);
        Policy::new(self.roles.clone()).map_err(complaint)
    }

    /// Bounds of calls.
    #[must_use]
    pub fn call_limits(&self) -> CallLimits {
        CallLimits {
            result_bytes: self.limits.result_bytes,
            input_wait: Duration::from_secs(self.limits.input_wait_s),
            in_flight_per_user: self.limits.in_flight_per_user,
            in_flight_per_workspace: self.limits.workspace_places(),
            in_flight_per_server: self.limits.server_places(),
            in_flight: self.limits.in_flight,
            bytes_in_flight_per_user: self.limits.bytes_in_flight_per_user,
            rates: self.limits.rate.rates(),
            breaker: self.breaker.limits(),
            ..CallLimits::default()
        }
    }

    /// Where servers that are not in this file may lead.
    #[must_use]
    pub fn outbound_policy(&self) -> OutboundPolicy {
        OutboundPolicy {
            allow_private: false,
            allow: self.outbound.allow_private.clone(),
            deny: self.outbound.deny.clone(),
        }
    }

    /// The sealing key, if there is one.
    ///
    /// # Errors
    /// [`ConfigError`] when a key cannot be read or is none. Never quotes it.
    pub fn sealing_keys(&self) -> Result<Option<SealingKeys>, ConfigError> {
        sealing::read(&self.secrets)
    }

    /// Top-level keys that differ and take effect only at the next start.
    #[must_use]
    pub fn needs_restart(&self, newer: &Self) -> Vec<String> {
        let same_auth = self.auth.keys == newer.auth.keys;
        [
            ("listen", self.listen == newer.listen),
            // Pages and host names follow at once, links of OAuth do not.
            ("public_url", self.public_url == newer.public_url),
            ("store", self.store == newer.store),
            ("auth.keys", same_auth),
            ("auth.jwt", self.auth.jwt == newer.auth.jwt),
            ("sessions", self.sessions == newer.sessions),
            ("limits", self.limits == newer.limits),
            ("breaker", self.breaker == newer.breaker),
            ("mcp", self.mcp == newer.mcp),
            ("audit", self.audit == newer.audit),
            ("confirm_ttl_s", self.confirm_ttl_s == newer.confirm_ttl_s),
            (
                "idempotency_retention_s",
                self.idempotency_retention_s == newer.idempotency_retention_s,
            ),
            (
                "catalog_max_age_s",
                self.catalog_max_age_s == newer.catalog_max_age_s,
            ),
            ("shutdown", self.shutdown == newer.shutdown),
            ("local_agent", self.local_agent == newer.local_agent),
            ("outbound", self.outbound == newer.outbound),
            ("secrets", self.secrets == newer.secrets),
            ("telemetry", self.telemetry == newer.telemetry),
        ]
        .into_iter()
        .filter(|(_, same)| !same)
        .map(|(key, _)| key.to_owned())
        .collect()
    }
}

/// The JSON Schema of the file.
#[must_use]
pub fn schema() -> serde_json::Value {
    schemars::schema_for!(File).to_value()
}

#[cfg(test)]
mod tests;
