//! `call_tool` and the life of a call.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::problem::Problem;

/// `POST /v1/calls`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
pub struct CallRequest {
    /// `server.tool`.
    #[serde(rename = "ref")]
    pub reference: String,
    /// A JSON object; `{}` when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "daemon", schema(value_type = Option<Object>))]
    pub arguments: Option<Box<RawValue>>,
    /// The run or conversation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lane: Option<String>,
    /// Deadline from now, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
    /// The definition the caller knows; another one answers `schema_changed`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schema_hash: Option<String>,
    /// A single-use approval.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confirm_token: Option<String>,
    /// Check everything, send nothing.
    #[serde(default, skip_serializing_if = "super::is_false")]
    pub dry_run: bool,
    /// Exactly this agent of the caller's; `ref` may name its server as the agent does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent_id: Option<String>,
}

/// A call that ended with a result.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
pub struct CallDone {
    /// `call_…`.
    pub call_id: String,
    /// 32 hex digits.
    pub trace_id: String,
    /// The tool said it failed.
    pub is_error: bool,
    /// MCP content blocks, untouched.
    #[cfg_attr(feature = "daemon", schema(value_type = Vec<Object>))]
    pub content: Box<RawValue>,
    /// MCP `structuredContent`, untouched.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "daemon", schema(value_type = Option<Object>))]
    pub structured_content: Option<Box<RawValue>>,
    /// MCP `_meta`, untouched.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "daemon", schema(value_type = Option<Object>))]
    pub meta: Option<Box<RawValue>>,
    /// From accepted to settled.
    pub duration_ms: u64,
    /// An earlier or concurrent call with the same idempotency key gave this.
    pub replayed: bool,
}

/// 202: the call runs by itself.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
pub struct CallAccepted {
    /// `call_…`; also in `Location`.
    pub call_id: String,
    /// 32 hex digits.
    pub trace_id: String,
    /// `accepted`, or `awaiting_approval`.
    pub state: String,
    /// What must be approved before it goes on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "daemon", schema(value_type = Option<Object>))]
    pub approval: Option<serde_json::Value>,
}

/// What a dry run found.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
pub struct DryRun {
    /// Always true.
    pub dry_run: bool,
    /// 32 hex digits.
    pub trace_id: String,
    /// `server.tool`.
    #[serde(rename = "ref")]
    pub reference: String,
    /// The present definition.
    pub schema_hash: String,
    /// `allow`, `confirm` or `deny`.
    pub decision: String,
    /// The rule that decides so, such as `roles.operator.rules[0]`.
    pub rule: String,
    /// The call needs an idempotency key.
    #[serde(default, skip_serializing_if = "super::is_false")]
    pub needs_key: bool,
    /// In words, for people.
    pub preview: String,
    /// Whether the tool only reads.
    pub read_only: bool,
}

/// A call as its owner sees it later.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
pub struct Call {
    /// `call_…`.
    pub call_id: String,
    /// `server.tool`, or the server and URI of a read.
    #[serde(rename = "ref")]
    pub reference: String,
    /// `tool`, `resource`, `prompt`, `completion`.
    pub kind: String,
    /// Who called.
    pub user: String,
    /// The run or conversation.
    pub lane: String,
    /// `accepted`, `awaiting_approval`, `dispatched`, `running`, `input_required`, `succeeded`, `failed`,
    /// `cancelled`, `timed_out`, `outcome_unknown`.
    pub state: String,
    /// 32 hex digits.
    pub trace_id: String,
    /// The session it ran on, once known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_id: Option<String>,
    /// The agent that runs it; `@local` is the bridge's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent_id: Option<String>,
    /// The definition it was checked against.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schema_hash: Option<String>,
    /// The caller's key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idempotency_key: Option<String>,
    /// RFC 3339, UTC.
    pub created_at: String,
    /// RFC 3339, UTC, once terminal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<String>,
    /// From accepted to terminal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration_ms: Option<u64>,
    /// With `input_required`: what the server asks, to be answered by `POST …/input`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub input_requests: Vec<InputRequest>,
    /// With `succeeded`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<CallResult>,
    /// With every other terminal state.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<Box<Problem>>,
}

/// What the server of a running call asks.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
pub struct InputRequest {
    /// Names the question within its call.
    pub key: String,
    /// `elicitation/create`, `sampling/createMessage` or `roots/list`.
    pub method: String,
    /// The method's own parameters, untouched.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "daemon", schema(value_type = Option<Object>))]
    pub params: Option<Box<RawValue>>,
}

/// `POST /v1/calls/{call_id}/input`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
pub struct InputResponses {
    /// By key: the method's raw result, or `{"error": {"code", "message"}}`.
    #[cfg_attr(feature = "daemon", schema(value_type = Object))]
    pub responses: BTreeMap<String, Box<RawValue>>,
}

/// A tool's result, its members untouched.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
pub struct CallResult {
    /// The tool said it failed.
    pub is_error: bool,
    /// MCP content blocks.
    #[cfg_attr(feature = "daemon", schema(value_type = Vec<Object>))]
    pub content: Box<RawValue>,
    /// MCP `structuredContent`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "daemon", schema(value_type = Option<Object>))]
    pub structured_content: Option<Box<RawValue>>,
    /// MCP `_meta`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "daemon", schema(value_type = Option<Object>))]
    pub meta: Option<Box<RawValue>>,
}
