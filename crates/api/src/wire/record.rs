//! What was done: audit entries and traces.

use serde::{Deserialize, Serialize};

use super::call::Call;
use super::event::Event;

/// One line of the audit record.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
pub struct AuditEntry {
    /// Its place in the record.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seq: Option<u64>,
    /// RFC 3339, UTC.
    pub ts: String,
    /// Who.
    pub user: String,
    /// Where.
    pub workspace: String,
    /// `call`, `key_created`, `server_changed`, …
    pub action: String,
    /// What was acted on.
    #[serde(rename = "ref", default, skip_serializing_if = "Option::is_none")]
    pub reference: Option<String>,
    /// `succeeded`, `failed`, `refused`, …
    pub outcome: String,
    /// Of a failure.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// `call_…`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub call_id: Option<String>,
    /// 32 hex digits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace_id: Option<String>,
    /// The key used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_id: Option<String>,
    /// In words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

/// `GET /v1/traces/{trace_id}`: what the caller may see of it, oldest first.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
pub struct Trace {
    /// 32 hex digits.
    pub trace_id: String,
    /// Its calls.
    pub calls: Vec<Call>,
    /// Its events.
    pub events: Vec<Event>,
}
