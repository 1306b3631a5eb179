//! Approvals: what a person decides before a call goes on.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// An approval.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
pub struct Approval {
    /// `apr_…`.
    pub approval_id: String,
    /// `pending`, `approved`, `denied`, `used`, `withdrawn`, `expired`.
    pub state: String,
    /// Who asked.
    pub user: String,
    /// `server.tool`.
    #[serde(rename = "ref")]
    pub reference: String,
    /// The rule that wants it.
    pub rule: String,
    /// Whoever asked may confirm.
    pub self_confirm: bool,
    /// Whoever reads this may approve it.
    pub decidable: bool,
    /// What a person decides by: summary, arguments without secrets, annotations, history.
    #[cfg_attr(feature = "daemon", schema(value_type = Object))]
    pub preview: Value,
    /// SHA-256 of the RFC 8785 form of the arguments, in hex.
    pub arguments_digest: String,
    /// The definition it is about.
    pub schema_hash: String,
    /// The call that is held for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub call_id: Option<String>,
    /// 32 hex digits: of the request that asked.
    pub trace_id: String,
    /// RFC 3339.
    pub created_at: String,
    /// RFC 3339: until when it can be decided; once approved, until when its token is good.
    pub expires_at: String,
    /// RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decided_at: Option<String>,
    /// By whom.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decided_by: Option<String>,
    /// In whose words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// For whoever asked, once somebody approved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confirm_token: Option<String>,
}

/// `POST /v1/approvals/{approval_id}`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
pub struct DecideApproval {
    /// `approve` or `deny`.
    pub decision: Decision,
    /// In words, for whoever asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// Yes or no.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
pub enum Decision {
    /// The call may go on.
    Approve,
    /// It may not.
    Deny,
}

/// What a decision came to.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
pub struct ApprovalDecided {
    /// `apr_…`.
    pub id: String,
    /// `approve` or `deny`.
    pub decision: Decision,
    /// For the same request of the same user, once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confirm_token: Option<String>,
    /// The call that was held and goes on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub call_id: Option<String>,
}
