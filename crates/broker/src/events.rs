//! Events of a workspace: numbered, kept, replayable, never silently gapped (rest.md § Events).

use std::sync::Arc;

use serde::Serialize;
use serde_json::value::RawValue;
use sessions::{UserId, WorkspaceId};

/// One event as stored and sent.
#[derive(Debug, Clone, Serialize)]
pub struct Event {
    /// Rises per workspace; 16 hex digits on the wire.
    #[serde(serialize_with = "hex_id")]
    pub id: u64,
    /// `tool_status`, `tool_log`, `tool_result`, `session_ready`, `catalog_changed`, …
    #[serde(rename = "type")]
    pub kind: EventKind,
    /// RFC 3339, UTC.
    pub ts: String,
    /// Trace, if any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trace_id: Option<String>,
    /// Session, if any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session_id: Option<String>,
    /// Call, if any; also told as `req_id`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub call_id: Option<String>,
    /// The type's own fields.
    pub data: Arc<RawValue>,
    /// Who may see it besides admins; `None` = everybody in the workspace.
    #[serde(skip)]
    pub user: Option<UserId>,
    /// The workspace.
    #[serde(skip)]
    pub workspace: WorkspaceId,
}

fn hex_id<S: serde::Serializer>(id: &u64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&format_args!("{id:016x}"))
}

/// The closed list of event types.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "rest.md § Events describes each")]
pub enum EventKind {
    ToolStatus,
    ToolLog,
    ToolResult,
    SessionOpened,
    SessionReady,
    SessionDegraded,
    SessionReconnecting,
    SessionClosed,
    CatalogChanged,
    ApprovalRequested,
    ApprovalDecided,
    AgentOnline,
    AgentOffline,
    ServerVersion,
    ConfigReloadFailed,
    Resync,
}

/// One event to be numbered, kept and sent.
#[derive(Debug)]
pub struct NewEvent {
    /// Its type.
    pub kind: EventKind,
    /// Where.
    pub workspace: WorkspaceId,
    /// Who may see it besides admins; `None` = everybody in the workspace.
    pub user: Option<UserId>,
    /// Trace, if any.
    pub trace_id: Option<String>,
    /// Session, if any.
    pub session_id: Option<String>,
    /// Call, if any.
    pub call_id: Option<String>,
    /// The type's own fields.
    pub data: Box<RawValue>,
}

/// Numbers, keeps and sends events. Cheap to clone.
#[derive(Debug, Clone)]
pub struct EventHub {}

impl EventHub {
    /// Publishes one event; never waits.
    pub fn publish(&self, event: NewEvent) {
        let _ = event;
        todo!("store")
    }
}
