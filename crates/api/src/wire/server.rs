//! Definitions of servers, their versions and tests.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

use super::problem::Problem;

/// `POST /v1/servers`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
pub struct CreateServer {
    /// `[a-z0-9][a-z0-9-]{0,62}`.
    pub name: String,
    /// Must be the request's own, when given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workspace: Option<String>,
    /// The same keys as in the config file.
    #[cfg_attr(feature = "daemon", schema(value_type = Object))]
    pub definition: Box<RawValue>,
}

/// `PUT /v1/servers/{name}`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
pub struct PutServer {
    /// The same keys as in the config file.
    #[cfg_attr(feature = "daemon", schema(value_type = Object))]
    pub definition: Box<RawValue>,
}

/// `POST /v1/servers/{name}/test`. An empty body tests what is saved.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
pub struct TestRequest {
    /// Tests this instead, behind the same gate as saving.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "daemon", schema(value_type = Option<Object>))]
    pub definition: Option<Box<RawValue>>,
}

/// `POST /v1/servers/{name}/rollback`.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
pub struct Rollback {
    /// The version to return to.
    pub version: u64,
}

/// A server as people see it: references to secrets are shown, secrets never.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
pub struct Server {
    /// Its name.
    pub name: String,
    /// Its workspace.
    pub workspace: String,
    /// Rises with each change; also the `ETag`.
    pub version: u64,
    /// `file` or `api`.
    pub source: String,
    /// As written.
    #[cfg_attr(feature = "daemon", schema(value_type = Object))]
    pub definition: Value,
    /// RFC 3339; left out for those of the file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_at: Option<String>,
    /// Who wrote this version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_by: Option<String>,
    /// Whether calls are sent to it; left out where versions are listed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub circuit: Option<Circuit>,
}

/// A server that keeps failing is left alone for a while.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
pub struct Circuit {
    /// `closed`: calls pass; `open`: none does; `half_open`: one tries.
    pub state: String,
    /// When calls may pass again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<u64>,
}

/// One tool and the definition that was approved.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
pub struct Pin {
    /// `server.tool`.
    #[serde(rename = "ref")]
    pub reference: String,
    /// `pinned`, `changed`, `unapproved`, `new`, `unwatched`, or `gone`: no longer offered.
    pub state: String,
    /// Of the present definition, 12 hex digits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hash: Option<String>,
    /// Of the pinned one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pinned_hash: Option<String>,
    /// RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pinned_at: Option<String>,
    /// Left out with a pin: it was seen first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approved_by: Option<String>,
    /// With `changed`: what differs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub differences: Vec<super::Complaint>,
}

/// `POST /v1/servers/{name}/pins/approve`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
pub struct ApprovePin {
    /// `server.tool`.
    #[serde(rename = "ref")]
    pub reference: String,
    /// Of the definition that was read, 12 hex digits or more.
    pub hash: String,
}

/// One difference between two versions.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
pub struct Change {
    /// JSON pointer into the definition.
    pub pointer: String,
    /// Before; left out when it was not there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "daemon", schema(value_type = Option<Object>))]
    pub from: Option<Value>,
    /// After; left out when it is gone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "daemon", schema(value_type = Option<Object>))]
    pub to: Option<Value>,
}

/// What a test found. A server that does not answer is a report, not a problem.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
pub struct TestReport {
    /// It answered and listed.
    pub ok: bool,
    /// `modern` or `legacy`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub era: Option<String>,
    /// The protocol revision.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol_version: Option<String>,
    /// What carries it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transport: Option<String>,
    /// How many tools.
    pub tools: usize,
    /// How many resources.
    pub resources: usize,
    /// How many resource templates.
    pub templates: usize,
    /// How many prompts.
    pub prompts: usize,
    /// Until listed.
    pub duration_ms: u64,
    /// Why not, when not `ok`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<Box<Problem>>,
}

/// `POST /v1/admin/reload`: what changed, by server name.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
pub struct Reloaded {
    /// New servers.
    pub added: Vec<String>,
    /// Servers with another definition.
    pub changed: Vec<String>,
    /// Servers that are gone.
    pub removed: Vec<String>,
    /// Keys of the file that changed but need a restart.
    pub needs_restart: Vec<String>,
}
