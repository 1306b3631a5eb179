//! The one shape of every failure: RFC 9457 `application/problem+json`.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A failed request, with what the next try needs.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
pub struct Problem {
    /// `urn:paperbot:problem:<code>`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Stable, for people.
    pub title: String,
    /// As in the status line.
    pub status: u16,
    /// What happened this time.
    pub detail: String,
    /// The request's path, or the call's.
    pub instance: String,
    /// From the closed list in `docs/ERRORS.md`.
    pub code: String,
    /// 32 hex digits.
    pub trace_id: String,
    /// The same request may succeed later.
    pub retryable: bool,
    /// `no`, `yes` or `unknown`: may the effect have happened?
    pub executed: String,
    /// What to do next.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// Complaints by place.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<Complaint>,
    /// The server that failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upstream: Option<Upstream>,
    /// The call, when one was accepted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub call_id: Option<String>,
    /// Where a person does what is needed, in a browser.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub link: Option<String>,
    /// What is to be decided (428).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "daemon", schema(value_type = Option<Object>))]
    pub approval: Option<Value>,
}

/// One complaint about one place of the request.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
pub struct Complaint {
    /// JSON pointer into the body.
    pub pointer: String,
    /// What is wrong there.
    pub detail: String,
}

/// The server a failure came from.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "daemon", derive(utoipa::ToSchema))]
pub struct Upstream {
    /// Its name.
    pub server: String,
    /// Its own code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jsonrpc_code: Option<i64>,
}
