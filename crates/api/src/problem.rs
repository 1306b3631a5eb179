//! The one way a failure becomes an answer: `ErrorCode` to status, RFC 9457 body and headers.
//!
//! Never decides what failed.

use std::sync::Arc;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use broker::{BrokerError, ErrorCode, Fault};
use http::header::{ALLOW, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderValue, StatusCode};

use crate::front::rates::{self, Standings};
use crate::wire::{Complaint, Problem, Upstream};

/// Media type of every failure.
const PROBLEM_JSON: HeaderValue = HeaderValue::from_static("application/problem+json");

/// A handler's failure on its way to the front, which alone knows the trace and the instance.
#[derive(Debug, Clone)]
pub struct Refused {
    fault: Arc<Fault>,
    /// Verbs the path does know, for 405.
    allow: Option<HeaderValue>,
    /// How the caller's buckets stood after it.
    rates: Option<Box<Standings>>,
}

impl Refused {
    /// A malformed request.
    #[must_use]
    pub fn invalid(detail: impl Into<String>) -> Self {
        Fault::new(ErrorCode::InvalidRequest, detail).into()
    }

    /// A failure of one code.
    #[must_use]
    pub fn new(code: ErrorCode, detail: impl Into<String>) -> Self {
        Fault::new(code, detail).into()
    }

    /// The path exists, the verb does not: status 405 under `invalid_request`.
    #[must_use]
    pub fn verb() -> Self {
        let mut refused = Self::invalid("this path does not know this method");
        refused.allow = Some(HeaderValue::from_static(""));
        refused
    }

    /// With the verbs the router knows, if this is about a verb.
    #[must_use]
    pub(crate) fn allowing(mut self, verbs: Option<&HeaderValue>) -> Self {
        if let (Some(allow), Some(verbs)) = (&mut self.allow, verbs) {
            allow.clone_from(verbs);
        }
        self
    }

    /// With how the caller's buckets stand.
    #[must_use]
    pub(crate) fn within(mut self, rates: Option<Standings>) -> Self {
        self.rates = rates.map(Box::new);
        self
    }

    /// What failed, for the log.
    #[must_use]
    pub fn code(&self) -> ErrorCode {
        self.fault.code
    }

    /// The whole answer.
    #[must_use]
    pub fn answer(&self, instance: &str, trace_id: &str) -> Response {
        let mut problem = of(&self.fault, instance, trace_id);
        if self.allow.is_some() {
            problem.status = StatusCode::METHOD_NOT_ALLOWED.as_u16();
        }
        let body = serde_json::to_vec(&problem).unwrap_or_default();
        let mut response = Response::new(Body::from(body));
        *response.status_mut() =
            StatusCode::from_u16(problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, PROBLEM_JSON);
        if let Some(after) = self.fault.retry_after {
            // Rounded up: a caller that waits this long waits long enough.
            let seconds = after.as_secs() + u64::from(after.subsec_nanos() > 0);
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.fault.code == ErrorCode::Unauthenticated {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if let Some(allow) = &self.allow {
            headers.insert(ALLOW, allow.clone());
        }
        rates::dressed(response, self.rates.as_deref().copied())
    }
}

impl From<BrokerError> for Refused {
    fn from(fault: BrokerError) -> Self {
        Self {
            fault: Arc::from(fault),
            allow: None,
            rates: None,
        }
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let mut response = Response::default();
        *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
        response.extensions_mut().insert(self);
        response
    }
}

/// The body of a failure.
#[must_use]
pub fn of(fault: &Fault, instance: &str, trace_id: &str) -> Problem {
    let (status, _) = fault.code.row();
    let code = fault.code.as_str();
    Problem {
        kind: format!("urn:paperbot:problem:{code}"),
        title: fault.code.title().to_owned(),
        status,
        detail: fault.detail.clone(),
        instance: instance.to_owned(),
        code: code.to_owned(),
        trace_id: trace_id.to_owned(),
        retryable: fault.code.retryable(),
        executed: executed(fault).to_owned(),
        hint: fault.hint.clone(),
        errors: fault
            .errors
            .iter()
            .map(|complaint| Complaint {
                pointer: complaint.pointer.clone(),
                detail: complaint.detail.clone(),
            })
            .collect(),
        upstream: fault.upstream.as_ref().map(|(server, code)| Upstream {
            server: server.clone(),
            jsonrpc_code: *code,
        }),
        call_id: fault.call_id.clone(),
        link: fault.link.clone(),
        approval: fault.approval.clone(),
    }
}

fn executed(fault: &Fault) -> &'static str {
    match fault.executed {
        broker::error::ExecutedWire::No => "no",
        broker::error::ExecutedWire::Yes => "yes",
        broker::error::ExecutedWire::Unknown => "unknown",
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn every_code_has_a_status_http_knows() {
        for code in ErrorCode::ALL {
            let answer = Refused::new(*code, "x").answer("/v1/x", "t");
            assert_eq!(answer.status().as_u16(), code.row().0, "{code:?}");
            assert!(answer.status().is_client_error() || answer.status().is_server_error());
        }
    }

    #[test]
    fn waiting_as_told_is_waiting_long_enough() {
        let mut fault = Fault::new(ErrorCode::RateLimited, "x");
        fault.retry_after = Some(Duration::from_millis(1200));
        let answer = Refused::from(fault).answer("/v1/calls", "t");
        assert_eq!(answer.headers()[RETRY_AFTER], "2");
    }

    #[test]
    fn a_missing_credential_says_which_kind_is_wanted() {
        let answer = Refused::new(ErrorCode::Unauthenticated, "x").answer("/", "t");
        assert_eq!(answer.headers()[WWW_AUTHENTICATE], "Bearer");
        assert_eq!(answer.headers()[CONTENT_TYPE], "application/problem+json");
    }
}
