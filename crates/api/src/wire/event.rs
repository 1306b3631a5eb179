//! Events of a workspace, as sent by `stream_events`, `list_events` and `stream_call`.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// One event.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
pub struct Event {
    /// 16 hex digits; rises per workspace.
    pub id: String,
    /// `tool_status`, `tool_log`, `tool_result`, `session_opened`, `session_ready`, `session_degraded`,
    /// `session_reconnecting`, `session_closed`, `catalog_changed`, `approval_requested`,
    /// `approval_decided`, `circuit_opened`, `circuit_closed`, `agent_online`, `agent_offline`, `server_version`,
    /// `config_reload_failed`, `resync`.
    #[serde(rename = "type")]
    pub kind: String,
    /// RFC 3339, UTC.
    pub ts: String,
    /// 32 hex digits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace_id: Option<String>,
    /// `ses_…`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_id: Option<String>,
    /// `call_…`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub call_id: Option<String>,
    /// The same as `call_id`, under the name the tunnel uses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub req_id: Option<String>,
    /// The agent that runs the call, or that came or went; `@local` is the bridge's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent_id: Option<String>,
    /// The type's own members.
    #[cfg_attr(feature = "daemon", schema(value_type = Object))]
    pub data: Box<RawValue>,
}
