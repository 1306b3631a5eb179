//! The one place where failures become JSON-RPC: codes of the protocol, and `ErrorCode` to a number.
//!
//! Never decides what failed. What fails before JSON-RPC (401, 403, 413) stays `application/problem+json`.

use std::time::Duration;

use broker::{ErrorCode, Fault};
use http::StatusCode;
use serde::Serialize;
use serde_json::json;
use serde_json::value::{RawValue, to_raw_value};

use super::era::Revision;
use crate::wire::{Complaint, Upstream};

/// The body is no JSON.
pub(super) const PARSE_ERROR: i64 = -32700;
/// No JSON-RPC message, or not one for this endpoint.
pub(super) const INVALID_REQUEST: i64 = -32600;
/// Nobody here knows the method.
pub(super) const METHOD_NOT_FOUND: i64 = -32601;
/// The parameters are wrong; also an unknown tool, prompt or (modern) resource.
pub(super) const INVALID_PARAMS: i64 = -32602;
/// A fault of the bridge.
const INTERNAL: i64 = -32603;
/// An unknown resource, up to 2025-11-25; later revisions say -32602.
const RESOURCE_NOT_FOUND: i64 = -32002;
/// A page must be visited first, 2025-11-25 only.
const URL_ELICITATION_REQUIRED: i64 = -32042;
/// Headers and body say different things.
pub(super) const HEADER_MISMATCH: i64 = -32020;
/// The client did not declare what the request needs.
pub(super) const MISSING_CAPABILITY: i64 = -32021;
/// The revision is not spoken here.
pub(super) const UNSUPPORTED_VERSION: i64 = -32022;

/// A JSON-RPC error.
#[derive(Debug, Clone)]
pub(super) struct RpcFault {
    /// The number.
    pub(super) code: i64,
    /// In words.
    pub(super) message: String,
    /// What the next try needs.
    pub(super) data: Option<Box<RawValue>>,
}

impl RpcFault {
    fn new(code: i64, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            data: None,
        }
    }

    /// `-32700`.
    pub(super) fn parse_error(message: impl Into<String>) -> Self {
        Self::new(PARSE_ERROR, message)
    }

    /// `-32600`.
    pub(super) fn invalid_request(message: impl Into<String>) -> Self {
        Self::new(INVALID_REQUEST, message)
    }

    /// `-32601`.
    pub(super) fn method_not_found(method: &str) -> Self {
        Self::new(
            METHOD_NOT_FOUND,
            format!("Method not found: {}", shown(method)),
        )
    }

    /// `-32602`.
    pub(super) fn invalid_params(message: impl Into<String>) -> Self {
        Self::new(INVALID_PARAMS, message)
    }

    /// `-32020`.
    pub(super) fn header_mismatch(message: impl Into<String>) -> Self {
        Self::new(HEADER_MISMATCH, message)
    }

    /// `-32021`, naming the capability as a client would declare it.
    pub(super) fn missing_capability(required: &serde_json::Value) -> Self {
        let data = json!({ "requiredCapabilities": required });
        Self::new(MISSING_CAPABILITY, "Missing required client capability").with(&data)
    }

    /// `-32022`, naming what is spoken.
    pub(super) fn unsupported_version(requested: &str) -> Self {
        let data = json!({"supported": Revision::SUPPORTED, "requested": shown(requested)});
        Self::new(UNSUPPORTED_VERSION, "Unsupported protocol version").with(&data)
    }

    /// A session that is not there for this principal: unknown, ended or another's.
    pub(super) fn session_not_found() -> Self {
        let (status, _) = ErrorCode::SessionNotFound.row();
        Self::new(i64::from(status), "Session not found")
    }

    /// With `data`.
    pub(super) fn with(mut self, data: &impl Serialize) -> Self {
        self.data = to_raw_value(data).ok();
        self
    }

    /// A failure of the broker. An error the server itself answered is passed on as it came, but for codes
    /// the client's revision forbids.
    pub(super) fn of(fault: &Fault, revision: Revision, trace_id: &str) -> Self {
        if let Some(theirs) = &fault.rpc {
            return Self {
                code: translated(theirs.code, revision),
                message: theirs.message.clone(),
                data: theirs.data.clone(),
            };
        }
        Self::new(number(fault.code, revision), fault.detail.clone())
            .with(&Told::of(fault, trace_id))
    }

    /// The HTTP status of an answer that is this error alone.
    pub(super) fn status(&self, modern: bool) -> StatusCode {
        match self.code {
            PARSE_ERROR | INVALID_REQUEST => StatusCode::BAD_REQUEST,
            HEADER_MISMATCH | MISSING_CAPABILITY | UNSUPPORTED_VERSION if modern => {
                StatusCode::BAD_REQUEST
            }
            METHOD_NOT_FOUND if modern => StatusCode::NOT_FOUND,
            _ => StatusCode::OK,
        }
    }
}

/// A code of an older revision that a newer one forbids, and the other way round.
fn translated(code: i64, revision: Revision) -> i64 {
    match code {
        RESOURCE_NOT_FOUND if revision.is_modern() => INVALID_PARAMS,
        URL_ELICITATION_REQUIRED if revision.is_modern() => {
            number(ErrorCode::UpstreamNeedsAuth, revision)
        }
        code => code,
    }
}

/// Codes the protocol has a number for get it; all others their HTTP status, which lies outside every range
/// JSON-RPC and MCP reserve.
fn number(code: ErrorCode, revision: Revision) -> i64 {
    match code {
        ErrorCode::InvalidRequest
        | ErrorCode::InvalidArguments
        | ErrorCode::IdempotencyMismatch
        | ErrorCode::UnsupportedSchema
        | ErrorCode::ToolNotFound
        | ErrorCode::PromptNotFound
        | ErrorCode::CallNotFound => INVALID_PARAMS,
        ErrorCode::ResourceNotFound if revision.is_modern() => INVALID_PARAMS,
        ErrorCode::ResourceNotFound => RESOURCE_NOT_FOUND,
        ErrorCode::Internal => INTERNAL,
        ErrorCode::Unauthenticated
        | ErrorCode::Forbidden
        | ErrorCode::PolicyDenied
        | ErrorCode::ServerNotFound
        | ErrorCode::SessionNotFound
        | ErrorCode::AgentNotFound
        | ErrorCode::SchemaChanged
        | ErrorCode::ToolQuarantined
        | ErrorCode::InProgress
        | ErrorCode::Conflict
        | ErrorCode::VersionConflict
        | ErrorCode::PayloadTooLarge
        | ErrorCode::ConfirmationRequired
        | ErrorCode::ConfirmationInvalid
        | ErrorCode::RateLimited
        | ErrorCode::QuotaExceeded
        | ErrorCode::Cancelled
        | ErrorCode::UpstreamProtocolError
        | ErrorCode::UpstreamExited
        | ErrorCode::ResultTooLarge
        | ErrorCode::UpstreamUnreachable
        | ErrorCode::AgentOffline
        | ErrorCode::CircuitOpen
        | ErrorCode::Overloaded
        | ErrorCode::ShuttingDown
        | ErrorCode::StoreUnavailable
        | ErrorCode::NodeUnreachable
        | ErrorCode::UpstreamNeedsAuth
        | ErrorCode::UpstreamTimeout
        | ErrorCode::OutcomeUnknown => i64::from(code.row().0),
    }
}

/// What a model or its host needs for the next try.
#[derive(Debug, Serialize)]
pub(super) struct Told<'a> {
    code: &'static str,
    detail: &'a str,
    executed: broker::error::ExecutedWire,
    retryable: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<&'a str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    errors: Vec<Complaint>,
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_after_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    upstream: Option<Upstream>,
    #[serde(skip_serializing_if = "Option::is_none")]
    approval: Option<serde_json::Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    call_id: Option<&'a str>,
    trace_id: &'a str,
}

impl<'a> Told<'a> {
    /// What a fault tells.
    pub(super) fn of(fault: &'a Fault, trace_id: &'a str) -> Self {
        let complaint = |complaint: &broker::PointerDetail| Complaint {
            pointer: complaint.pointer.clone(),
            detail: complaint.detail.clone(),
        };
        let upstream = fault.upstream.as_ref().map(|(server, code)| Upstream {
            server: server.clone(),
            jsonrpc_code: *code,
        });
        Self {
            code: fault.code.as_str(),
            detail: &fault.detail,
            executed: fault.executed,
            retryable: fault.code.retryable(),
            hint: fault.hint.as_deref(),
            errors: fault.errors.iter().map(complaint).collect(),
            retry_after_ms: fault.retry_after.map(millis),
            upstream,
            approval: fault.approval.as_ref().map(for_models),
            call_id: fault.call_id.as_deref(),
            trace_id,
        }
    }

    /// The same in words, for a model that reads text alone.
    pub(super) fn text(&self) -> String {
        use broker::error::ExecutedWire::{No, Unknown, Yes};
        use std::fmt::Write as _;
        let mut text = format!("{}: {}", self.code, self.detail);
        for complaint in &self.errors {
            // Writing to a String cannot fail.
            let _ = write!(text, "\n- {}: {}", complaint.pointer, complaint.detail);
        }
        if let Some(hint) = self.hint {
            let _ = write!(text, "\nhint: {hint}");
        }
        if let Some(approval) = &self.approval {
            // The words a person reads: the model shows them to one.
            let _ = write!(
                text,
                "\napproval {}: {}",
                approval["id"].as_str().unwrap_or_default(),
                approval["preview"]["summary"].as_str().unwrap_or_default()
            );
        }
        if let Some(after) = self.retry_after_ms {
            let _ = write!(text, "\nretry after {after} ms");
        }
        text.push_str(match self.executed {
            No => "\nexecuted: no",
            Yes => "\nexecuted: yes",
            Unknown => "\nexecuted: unknown (the effect may have happened)",
        });
        text
    }
}

/// An approval as a model may see it. A token that nobody has approved yet is for programs in front of a person:
/// whoever reads an MCP answer is a model, and must not open a gate for itself.
fn for_models(approval: &serde_json::Value) -> serde_json::Value {
    let mut shown = approval.clone();
    if shown["state"] != "approved"
        && let Some(members) = shown.as_object_mut()
    {
        members.remove("confirm_token");
    }
    shown
}

fn millis(after: Duration) -> u64 {
    u64::try_from(after.as_millis()).unwrap_or(u64::MAX)
}

/// A name the client chose, short enough to be shown.
fn shown(text: &str) -> String {
    crate::suggestion::shorten(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_code_of_ours_lies_in_a_reserved_range_the_protocol_gives_no_meaning() {
        for code in ErrorCode::ALL {
            for revision in Revision::ALL {
                let number = number(*code, revision);
                let known = [INVALID_PARAMS, INTERNAL].contains(&number)
                    || (number == RESOURCE_NOT_FOUND && !revision.is_modern());
                assert!(known || number > 0, "{code:?} {number}");
            }
        }
    }

    #[test]
    fn a_modern_client_never_sees_codes_its_revision_forbids() {
        assert_eq!(translated(-32002, Revision::V2026_07_28), -32602);
        assert_eq!(translated(-32002, Revision::V2025_11_25), -32002);
        assert_eq!(translated(-32042, Revision::V2026_07_28), 502);
        assert_eq!(translated(-32042, Revision::V2025_11_25), -32042);
    }

    #[test]
    fn a_model_sees_no_token_that_nobody_approved() {
        let mut fault = Fault::new(ErrorCode::ConfirmationRequired, "x");
        for (state, seen) in [("pending", false), ("approved", true)] {
            fault.approval = Some(json!({
                "id": "apr_1", "state": state, "confirm_token": "pbc_x", "preview": {"summary": "ann calls a.b"},
            }));
            let told = Told::of(&fault, "t");
            assert_eq!(json!(told).to_string().contains("pbc_x"), seen);
            assert!(!told.text().contains("pbc_x"));
            assert!(told.text().contains("approval apr_1: ann calls a.b"));
        }
    }

    #[test]
    fn a_fault_says_in_words_what_repairs_it() {
        let mut fault = Fault::new(ErrorCode::InvalidArguments, "b: expected number");
        fault.hint = Some("calc.add(a: number, b: number)".to_owned());
        let text = Told::of(&fault, "t").text();
        assert_eq!(
            text,
            "invalid_arguments: b: expected number\nhint: calc.add(a: number, b: number)\nexecuted: no"
        );
    }
}
