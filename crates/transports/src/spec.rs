//! What is needed to reach one server. Values only: secrets are already resolved.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderName;
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use tokio::io::DuplexStream;
use url::Url;

use crate::name::ServerName;
use crate::sandbox::Sandbox;
use crate::tunnel::bridge::Agent;

/// Everything `connect` needs.
#[derive(Debug, Clone)]
pub struct ServerSpec {
    /// The server's name, for errors and spans.
    pub name: ServerName,
    /// How it is reached.
    pub endpoint: Endpoint,
    /// Which protocol eras to try.
    pub era: EraChoice,
    /// How long each step may take.
    pub timeouts: Timeouts,
    /// How large each message may be.
    pub limits: WireLimits,
}

/// How a server is reached.
#[derive(Debug, Clone)]
pub enum Endpoint {
    /// A child process speaking newline-delimited JSON on stdin and stdout.
    Stdio(StdioSpec),
    /// Streamable HTTP (2025-03-26 and later); falls back to HTTP+SSE as the specification says.
    StreamableHttp(HttpSpec),
    /// The deprecated HTTP+SSE transport of 2024-11-05.
    LegacySse(HttpSpec),
    /// A server inside this process, one stream per connection.
    InProcess(InProcess),
    /// A server behind an agent.
    Tunnel(TunnelSpec),
}

/// A server behind an agent.
#[derive(Debug, Clone)]
pub struct TunnelSpec {
    /// The agent.
    pub agent: Agent,
    /// The server, as the agent names it.
    pub server: String,
    /// Calls of different keys share no connection of the agent to the server.
    pub isolation_key: String,
}

/// Makes the client's end of a stream to a server inside this process.
#[derive(Clone)]
pub struct InProcess(pub Arc<dyn Fn() -> DuplexStream + Send + Sync>);

impl std::fmt::Debug for InProcess {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("InProcess")
    }
}

/// A child process. No shell is involved.
#[derive(Debug, Clone)]
pub struct StdioSpec {
    /// Program and arguments; never empty.
    pub argv: Vec<String>,
    /// Variables added to the small inherited allowlist (`HOME`, `PATH`, `LANG`, …).
    pub env: BTreeMap<String, SecretString>,
    /// Working directory; the bridge's own when `None`.
    pub cwd: Option<PathBuf>,
    /// What it may do.
    pub sandbox: Sandbox,
}

/// An HTTP endpoint.
#[derive(Debug, Clone)]
pub struct HttpSpec {
    /// `http` or `https`.
    pub url: Url,
    /// Sent with every request; `Host` and the protocol's own headers are refused.
    pub headers: Vec<(HeaderName, SecretString)>,
    /// Which addresses the name may resolve to.
    pub outbound: OutboundPolicy,
    /// Where the `Authorization` of each request comes from, when it changes while a session lives.
    pub bearer: Option<Bearer>,
}

/// Gives the token for the next request; `None`: there is none, and the request goes without. Asked with the token
/// a server has just refused, it gives another one or none. Must not be slow when it holds a good token.
#[derive(Clone)]
pub struct Bearer(pub Arc<dyn Fn(Option<SecretString>) -> TokenFuture + Send + Sync>);

/// See [`Bearer`].
pub type TokenFuture = Pin<Box<dyn Future<Output = Option<SecretString>> + Send>>;

impl std::fmt::Debug for Bearer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Bearer")
    }
}

/// Which resolved addresses may be connected to (SSRF policy).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OutboundPolicy {
    /// Loopback, private, link-local and other special ranges are allowed for this server.
    pub allow_private: bool,
    /// CIDR blocks, addresses or host names allowed although private.
    pub allow: Vec<String>,
    /// CIDR blocks, addresses or host names refused although public.
    pub deny: Vec<String>,
}

/// The protocol era a connection speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Era {
    /// 2026-07-28: stateless, `server/discover`, `_meta` per request.
    Modern,
    /// 2024-11-05 … 2025-11-25: `initialize`.
    Legacy,
}

/// Which eras `connect` tries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EraChoice {
    /// Modern first, legacy on anything that is no recognised modern answer.
    #[default]
    Auto,
    /// Modern only.
    Modern,
    /// Legacy only.
    Legacy,
}

/// Deadlines of one connection's steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// Process start or TCP and TLS connect.
    pub connect: Duration,
    /// The era probe (`server/discover`), after which `initialize` is tried.
    pub probe: Duration,
    /// `initialize` and `notifications/initialized`.
    pub initialize: Duration,
    /// How long a child may take to leave after its stdin closed, before SIGTERM, then SIGKILL.
    pub close_grace: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(10),
            probe: Duration::from_secs(5),
            initialize: Duration::from_mins(1),
            close_grace: Duration::from_secs(2),
        }
    }
}

/// Size bounds of one connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WireLimits {
    /// Longest line, SSE event or HTTP body read from the upstream, in bytes.
    pub frame_bytes: usize,
    /// Requests in flight on one connection.
    pub in_flight: usize,
}

impl Default for WireLimits {
    fn default() -> Self {
        Self {
            frame_bytes: 16 * 1024 * 1024,
            in_flight: 1024,
        }
    }
}
