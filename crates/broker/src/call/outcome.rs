//! How a call ended: exactly one terminal state, with a result or a fault.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::call_state::CallState;
use crate::error::{BrokerError, ErrorCode, Fault};
use crate::operations::calls::ToolResult;

/// How a call ended.
#[derive(Debug, Clone)]
pub(crate) struct Ended {
    pub state: CallState,
    pub outcome: Result<Arc<ToolResult>, Arc<Fault>>,
    pub duration: Duration,
}

impl Ended {
    /// What came back from the upstream, within `duration`.
    pub(crate) fn new(outcome: Result<ToolResult, BrokerError>, duration: Duration) -> Self {
        match outcome {
            Ok(result) => Self {
                state: CallState::Succeeded,
                outcome: Ok(Arc::new(result)),
                duration,
            },
            Err(fault) => Self {
                state: state_of(fault.code),
                outcome: Err(Arc::from(fault)),
                duration,
            },
        }
    }

    /// For metrics: a result may still say that the tool failed.
    pub(crate) fn label(&self) -> &'static str {
        match &self.outcome {
            Ok(result) if result.is_error() => "tool_error",
            Ok(_) => "ok",
            Err(fault) => fault.code.as_str(),
        }
    }
}

/// The terminal state a fault leaves a call in.
fn state_of(code: ErrorCode) -> CallState {
    match code {
        ErrorCode::Cancelled => CallState::Cancelled,
        ErrorCode::UpstreamTimeout => CallState::TimedOut,
        ErrorCode::OutcomeUnknown => CallState::OutcomeUnknown,
        _ => CallState::Failed,
    }
}

#[derive(Deserialize)]
struct Members<'a> {
    #[serde(borrow, default)]
    content: Option<&'a RawValue>,
    #[serde(borrow, default, rename = "structuredContent")]
    structured: Option<&'a RawValue>,
    #[serde(borrow, default, rename = "isError")]
    is_error: Option<&'a RawValue>,
    #[serde(borrow, default, rename = "_meta")]
    meta: Option<&'a RawValue>,
    #[serde(borrow, default, rename = "resultType")]
    result_type: Option<&'a RawValue>,
    #[serde(borrow, default, rename = "inputRequests")]
    input_requests: Option<&'a RawValue>,
    #[serde(borrow, default, rename = "requestState")]
    request_state: Option<&'a RawValue>,
}

impl ToolResult {
    /// Finds the members of a raw result without touching it; bounded by `limit_bytes`.
    ///
    /// # Errors
    /// `result_too_large`, `upstream_protocol_error`; whether it was executed is for the caller to say.
    pub(crate) fn read(raw: Box<RawValue>, limit_bytes: usize) -> Result<Self, BrokerError> {
        if raw.get().len() > limit_bytes {
            let detail = format!("the result is larger than {limit_bytes} bytes");
            return Err(Fault::new(ErrorCode::ResultTooLarge, detail));
        }
        // serde reads a struct from a list, too; MCP does not.
        if !raw.get().trim_start().starts_with('{') {
            return Err(broken("the result is no object"));
        }
        let Ok(members) = serde_json::from_str::<Members<'_>>(raw.get()) else {
            return Err(broken("the result is no object"));
        };
        let base = raw.get().as_ptr() as usize;
        let place = |part: Option<&RawValue>| -> Option<Range<usize>> {
            let text = part?.get();
            let from = text.as_ptr() as usize - base;
            Some(from..from + text.len())
        };
        let is_error = members.is_error.is_some_and(|flag| flag.get() == "true");
        let content = place(members.content);
        let structured = place(members.structured);
        let meta = place(members.meta);
        let result_type = place(members.result_type);
        let input_requests = place(members.input_requests);
        let request_state = place(members.request_state);
        Ok(Self {
            raw,
            is_error,
            content,
            structured,
            meta,
            result_type,
            input_requests,
            request_state,
        })
    }
}

fn broken(detail: &str) -> BrokerError {
    Fault::new(ErrorCode::UpstreamProtocolError, detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Result<ToolResult, BrokerError> {
        ToolResult::read(RawValue::from_string(json.to_owned()).unwrap(), 1000)
    }

    #[test]
    fn a_result_is_read_without_being_touched() {
        let json = r#"{"x-unknown": 1.0, "content" : [ {"type":"text"} ], "structuredContent":{"a":1e2}, "isError":true,"_meta":{}}"#;
        let result = read(json).unwrap();
        assert_eq!(result.raw().get(), json);
        assert_eq!(result.content(), Some(r#"[ {"type":"text"} ]"#));
        assert_eq!(result.structured_content(), Some(r#"{"a":1e2}"#));
        assert_eq!(result.meta(), Some("{}"));
        assert!(result.is_error());
        assert!(!read(r#"{"isError":"true"}"#).unwrap().is_error());
    }

    #[test]
    fn a_result_that_asks_back_says_what_and_with_which_state() {
        let json = r#"{"resultType":"input_required","inputRequests":{"a":{}},"requestState":"s"}"#;
        let result = read(json).unwrap();
        assert!(result.is_input_required());
        assert_eq!(result.input_requests(), Some(r#"{"a":{}}"#));
        assert_eq!(result.request_state(), Some(r#""s""#));
        assert!(
            !read(r#"{"resultType":"complete"}"#)
                .unwrap()
                .is_input_required()
        );
    }

    #[test]
    fn what_is_no_result_is_a_fault() {
        assert_eq!(
            read("[1]").unwrap_err().code,
            ErrorCode::UpstreamProtocolError
        );
        let long = format!(r#"{{"content":"{}"}}"#, "a".repeat(1000));
        assert_eq!(read(&long).unwrap_err().code, ErrorCode::ResultTooLarge);
    }
}
