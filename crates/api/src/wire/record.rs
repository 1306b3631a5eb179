//! What was done: audit entries and traces.

use serde::{Deserialize, Serialize};

use super::call::Call;
use super::event::Event;

/// One line of the audit record. `hash` is the SHA-256 of the canonical JSON (RFC 8785) of all other members.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
pub struct AuditEntry {
    /// `call_tool`, `key_created`, `server_saved`, …
    pub action: String,
    /// The agent that ran the call.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent_id: Option<String>,
    /// The approval a person gave for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approval_id: Option<String>,
    /// SHA-256 of the canonical arguments, hex.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub arguments_digest: Option<String>,
    /// `call_…`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub call_id: Option<String>,
    /// The node that wrote it; `seq` rises by one within a workspace and chain.
    #[serde(default)]
    pub chain: String,
    /// Of a failure.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// Names and types of the arguments.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// From accepted to ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration_ms: Option<u64>,
    /// Whether the effect may have happened: `no`, `yes`, `unknown`.
    #[serde(default)]
    pub executed: String,
    /// Its own hash, hex.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hash: Option<String>,
    /// The credential.
    #[serde(default)]
    pub key_id: String,
    /// The run or conversation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lane: Option<String>,
    /// A terminal state: `succeeded`, `failed`, …
    pub outcome: String,
    /// The hash of the entry before it, hex; zeros before the first.
    #[serde(default)]
    pub prev: String,
    /// What was acted on.
    #[serde(rename = "ref", default)]
    pub reference: String,
    /// The definition the arguments were checked against, hex.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schema_hash: Option<String>,
    /// Its number in the chain, from 1.
    #[serde(default)]
    pub seq: u64,
    /// The session it ran on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_id: Option<String>,
    /// 32 hex digits.
    #[serde(default)]
    pub trace_id: String,
    /// When it was asked for; RFC 3339, UTC.
    pub ts: String,
    /// Who.
    pub user: String,
    /// Where.
    pub workspace: String,
}

/// A signed place of a chain. Signed is the canonical JSON of `chain`, `hash`, `kind`, `seq`, `signed_at`, `workspace`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
pub struct AuditHead {
    /// The node that wrote the chain.
    pub chain: String,
    /// The entry's hash, hex.
    pub hash: String,
    /// `head`: where the chain ended when it was signed; `anchor`: everything up to here was removed by retention.
    pub kind: String,
    /// The entry's number.
    pub seq: u64,
    /// Ed25519, base64.
    pub signature: String,
    /// RFC 3339, UTC.
    pub signed_at: String,
    /// Where.
    pub workspace: String,
}

/// `GET /v1/audit/verify`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
pub struct AuditReport {
    /// Every chain of the workspace holds.
    pub ok: bool,
    /// Entries looked at.
    pub entries: u64,
    /// The number of the first entry that does not hold.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_bad: Option<u64>,
    /// The chain it stands in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_bad_chain: Option<String>,
    /// What is wrong with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Where this node's chain ends: signed now when all is well, else the last that was kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub head: Option<AuditHead>,
    /// The ends and anchors of all chains.
    pub heads: Vec<AuditHead>,
    /// The Ed25519 key the signatures are checked with, base64.
    pub public_key: String,
}

/// `GET /v1/audit/key`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
pub struct AuditKey {
    /// `Ed25519`.
    pub algorithm: String,
    /// Base64.
    pub public_key: String,
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
