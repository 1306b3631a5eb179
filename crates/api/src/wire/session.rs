//! Sessions as callers see them.

use serde::{Deserialize, Serialize};

use super::server::Circuit;

/// `POST /v1/sessions`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
pub struct OpenSession {
    /// The server.
    pub server: String,
    /// The run or conversation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lane: Option<String>,
    /// Keep it this many seconds even when idle.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl_s: Option<u64>,
}

/// Everything `inspect_session` tells. `user` and `lane` are left out when the session is not theirs alone.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
pub struct Session {
    /// `ses_…`.
    pub session_id: String,
    /// The server.
    pub server: String,
    /// The workspace.
    pub workspace: String,
    /// Whose it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// The run or conversation it belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lane: Option<String>,
    /// `shared`, `user`, `lane` or `call`.
    pub isolation: String,
    /// Who shares it and why, in a sentence.
    pub sharing: String,
    /// `opening`, `ready`, `degraded`, `reconnecting`; `closing` while its last calls finish or its process leaves.
    pub state: String,
    /// RFC 3339: since when.
    pub since: String,
    /// RFC 3339.
    pub opened_at: String,
    /// `modern` or `legacy`, once known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub era: Option<String>,
    /// Once known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol_version: Option<String>,
    /// What carries it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transport: Option<String>,
    /// Of stdio servers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub process: Option<Process>,
    /// Calls in flight.
    pub in_flight: usize,
    /// So far.
    pub reconnects: u64,
    /// RFC 3339: last answered heartbeat.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_ping: Option<String>,
    /// In words, redacted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_error: Option<String>,
    /// RFC 3339: when it ends if nothing happens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<String>,
    /// Of its server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub catalog_hash: Option<String>,
    /// Whether calls are sent to its server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub circuit: Option<Circuit>,
    /// Last lines, redacted; left out of lists.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stderr: Vec<String>,
}

/// What a stdio server is kept from.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
pub struct SandboxView {
    /// The level its definition asks for: `none`, `basic` or `strict`.
    pub asked: String,
    /// The level reached on this host.
    pub reached: String,
    /// What was asked and not granted, in words.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lacking: Vec<String>,
}

/// A stdio server's process.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
pub struct Process {
    /// Its id.
    pub pid: u32,
    /// Its group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pgid: Option<u32>,
    /// How surely its descendants end with it.
    pub supervision: String,
    /// What it is kept from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sandbox: Option<SandboxView>,
    /// Resident memory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rss_bytes: Option<u64>,
}
