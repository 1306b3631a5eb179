//! What an agent is run with. Values only: secrets are resolved.

use std::path::PathBuf;
use std::time::Duration;

use secrecy::ExposeSecret as _;

use crate::spec::{Endpoint, HttpSpec, ServerSpec, StdioSpec};
use crate::tunnel::id::AgentId;
use crate::tunnel::limits::{
    CHUNK_BUFFER_BYTES, CHUNK_FRAME_BYTES, RECONNECT_INITIAL, RECONNECT_MAX,
};

/// Everything an agent needs but the way to its bridge.
#[derive(Debug, Clone)]
pub struct AgentConfig {
    /// Who it is.
    pub id: AgentId,
    /// What its owner calls it.
    pub label: Option<String>,
    /// What it offers.
    pub servers: Vec<AgentServer>,
    /// CHUNK bytes held for a line that is slow or away.
    pub chunk_buffer_bytes: usize,
    /// Longest `data` of one CHUNK, in bytes.
    pub chunk_frame_bytes: usize,
    /// The first wait before it dials again.
    pub reconnect_initial: Duration,
    /// The longest.
    pub reconnect_max: Duration,
    /// Where it keeps what it must not forget. One agent's alone.
    pub spool_dir: PathBuf,
}

impl AgentConfig {
    /// An agent with every bound as `docs/tunnel.md` has it.
    #[must_use]
    pub fn new(id: AgentId, spool_dir: PathBuf) -> Self {
        Self {
            id,
            label: None,
            servers: Vec::new(),
            chunk_buffer_bytes: CHUNK_BUFFER_BYTES,
            chunk_frame_bytes: CHUNK_FRAME_BYTES,
            reconnect_initial: RECONNECT_INITIAL,
            reconnect_max: RECONNECT_MAX,
            spool_dir,
        }
    }
}

/// One server of an agent.
#[derive(Debug, Clone)]
pub struct AgentServer {
    /// What it is called over the tunnel; that of its `spec` is for errors and spans.
    pub name: String,
    /// How it is reached.
    pub spec: ServerSpec,
    /// Only tools one of these patterns (`*`, `?`) fits; all when empty.
    pub allow_tools: Vec<String>,
    /// No tool one of these fits, whatever is allowed.
    pub deny_tools: Vec<String>,
}

impl AgentServer {
    /// Whether both mean the same server, reached in the same way with the same secrets.
    #[must_use]
    pub fn same(&self, other: &Self) -> bool {
        self.name == other.name
            && self.spec.era == other.spec.era
            && self.spec.timeouts == other.spec.timeouts
            && self.allow_tools == other.allow_tools
            && self.deny_tools == other.deny_tools
            && match (&self.spec.endpoint, &other.spec.endpoint) {
                (Endpoint::Stdio(one), Endpoint::Stdio(two)) => same_stdio(one, two),
                (Endpoint::StreamableHttp(one), Endpoint::StreamableHttp(two))
                | (Endpoint::LegacySse(one), Endpoint::LegacySse(two)) => same_http(one, two),
                _ => false,
            }
    }
}

fn same_stdio(one: &StdioSpec, two: &StdioSpec) -> bool {
    let env = |of: &StdioSpec| -> Vec<(String, String)> {
        let pairs = of.env.iter();
        pairs
            .map(|(name, value)| (name.clone(), value.expose_secret().to_owned()))
            .collect()
    };
    one.argv == two.argv && one.cwd == two.cwd && one.sandbox == two.sandbox && env(one) == env(two)
}

fn same_http(one: &HttpSpec, two: &HttpSpec) -> bool {
    let headers = |of: &HttpSpec| -> Vec<(String, String)> {
        let pairs = of.headers.iter();
        pairs
            .map(|(name, value)| (name.to_string(), value.expose_secret().to_owned()))
            .collect()
    };
    one.url == two.url && one.outbound == two.outbound && headers(one) == headers(two)
}
