//! The bridge itself.

use serde::{Deserialize, Serialize};

/// `GET /v1/version`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
pub struct Version {
    /// `paperbot-mcpd`.
    pub name: String,
    /// Of the program.
    pub version: String,
    /// Of the REST contract.
    pub api: String,
    /// Revisions of MCP spoken with servers.
    pub mcp_versions: Vec<String>,
}

/// `GET /health`: counts only, no ids.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
pub struct Health {
    /// `ok` or `shutting_down`.
    pub status: String,
    /// Of the program.
    pub version: String,
    /// Since the start.
    pub uptime_s: u64,
    /// Open connections.
    pub connections: usize,
}

/// A body without members.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Nothing {}
