//! How an agent is, for whoever stands before it: written into its directory, shown by `agent status`.

use serde::{Deserialize, Serialize};

/// How an agent is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentStatus {
    /// The line to the bridge.
    pub line: LineState,
    /// Since when it is so, in unix seconds.
    pub since: u64,
    /// Why the line is away, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// The bridge's count of this agent's connections.
    #[serde(default)]
    pub epoch: u64,
    /// Calls that run.
    pub in_flight: usize,
    /// Results the bridge has not acknowledged.
    pub unacknowledged: usize,
    /// Bytes of them on the disk.
    pub spool_bytes: u64,
    /// Results that were given up because the spool was full or they were too old.
    pub dropped_results: u64,
    /// Each server.
    pub servers: Vec<ServerStatus>,
}

/// The line to the bridge.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LineState {
    /// Not there; it is dialled again and again.
    #[default]
    Offline,
    /// The bridge has taken us in.
    Online,
    /// What runs is finished, then the agent ends.
    Stopping,
}

/// How one of its servers is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerStatus {
    /// Its name.
    pub name: String,
    /// How it is.
    pub state: ServerState,
    /// Tools it offers through this agent.
    pub tools: usize,
    /// How often it ended by itself.
    pub restarts: u64,
    /// What is wrong with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    /// Its process.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pid: Option<u32>,
}

/// How a server is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ServerState {
    /// It is being started for the first time.
    Starting,
    /// It answers.
    Ready,
    /// It does not; it is tried again and again.
    Down,
}
