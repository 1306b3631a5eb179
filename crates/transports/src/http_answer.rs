//! Reads what an HTTP server answered: which error a status means, which shape a body has.
//!
//! Never repeats a body's words, but for the message of a JSON-RPC error.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Response, StatusCode, header};

use crate::error::RequestError;
use crate::http_client::{BodyFault, SendFault, read_body};
use crate::http_pool::Answer;
use crate::wire::{self, RpcError};

/// Bytes of an error's body looked at; a JSON-RPC error is far smaller.
const MAX_ERROR_BODY_BYTES: usize = 64 * 1024;
/// How long an error's body may take: the status alone says what is needed.
const ERROR_BODY_TIMEOUT: Duration = Duration::from_secs(1);
/// Longest challenge kept.
const MAX_CHALLENGE_BYTES: usize = 4096;

/// How a 2xx answer is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Media {
    Json,
    EventStream,
    Other(String),
}

/// The media type, without its parameters.
pub(crate) fn media(headers: &HeaderMap) -> Media {
    let value = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok());
    let essence = value
        .unwrap_or_default()
        .split(';')
        .next()
        .unwrap_or_default()
        .trim();
    if essence.eq_ignore_ascii_case("application/json") {
        Media::Json
    } else if essence.eq_ignore_ascii_case("text/event-stream") {
        Media::EventStream
    } else {
        let token = |c: &char| c.is_ascii_alphanumeric() || "/+-.".contains(*c);
        Media::Other(essence.chars().filter(token).take(64).collect())
    }
}

/// What an answer outside 2xx means.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub(crate) status: StatusCode,
    pub(crate) error: RequestError,
    /// The body was a JSON-RPC error of a server that speaks MCP.
    pub(crate) is_rpc: bool,
    /// The status or the words say that the session is unknown.
    pub(crate) session_unknown: bool,
}

/// Reads an answer outside 2xx, quickly whatever its body does.
pub(crate) async fn read_refusal(response: Response<Answer>) -> Refusal {
    let status = response.status();
    let refusal = |error| Refusal {
        status,
        error,
        is_rpc: false,
        session_unknown: status == StatusCode::NOT_FOUND,
    };
    if status == StatusCode::UNAUTHORIZED {
        return refusal(RequestError::NeedsAuth {
            challenge: challenge(response.headers()),
        });
    }
    let retry_after = response
        .headers()
        .get(header::RETRY_AFTER)
        .and_then(|value| value.to_str().ok()?.parse::<u32>().ok());
    if let Some(error) = unreachable(status, retry_after) {
        return refusal(error);
    }
    let body = tokio::time::timeout(
        ERROR_BODY_TIMEOUT,
        read_body(response.into_body(), MAX_ERROR_BODY_BYTES),
    );
    let body = body.await.ok().and_then(Result::ok).unwrap_or_default();
    let says_session = status == StatusCode::BAD_REQUEST && speaks_of_session(&body);
    let Some(rpc) = rpc_error(&body) else {
        let detail = format!("the server answered HTTP {}", status.as_u16());
        let plain = refusal(RequestError::Protocol { detail });
        return Refusal {
            session_unknown: plain.session_unknown || says_session,
            ..plain
        };
    };
    // -32601 is the answer of a server that knows us but not the method, whatever its status.
    let session_unknown = rpc.code != -32601 && (status == StatusCode::NOT_FOUND || says_session);
    let error = RequestError::Rpc {
        code: rpc.code,
        message: rpc.message,
        data: rpc.data,
    };
    Refusal {
        status,
        error,
        is_rpc: true,
        session_unknown,
    }
}

/// Statuses that say the request was not taken at all.
fn unreachable(status: StatusCode, retry_after: Option<u32>) -> Option<RequestError> {
    let code = status.as_u16();
    let detail = match (code, retry_after) {
        (300..=399, _) => {
            format!("the server answers with a redirect ({code}), which is not followed")
        }
        (403, _) => "the server refuses us (403)".to_owned(),
        (429 | 503, Some(seconds)) => {
            format!("the server is busy ({code}); it asks to wait {seconds} s")
        }
        (429, None) => "the server is busy (429)".to_owned(),
        _ => return None,
    };
    Some(RequestError::Unreachable { detail })
}

fn challenge(headers: &HeaderMap) -> Option<String> {
    let value = headers.get(header::WWW_AUTHENTICATE)?.to_str().ok()?;
    (value.len() <= MAX_CHALLENGE_BYTES).then(|| value.to_owned())
}

fn speaks_of_session(body: &[u8]) -> bool {
    body.windows(7)
        .any(|window| window.eq_ignore_ascii_case(b"session"))
}

fn rpc_error(body: &[u8]) -> Option<RpcError> {
    match wire::parse(body) {
        Ok(wire::Incoming::Response(response)) => response.outcome.err(),
        _ => None,
    }
}

/// A request that got no answer at all.
pub(crate) fn unanswered(fault: SendFault) -> RequestError {
    if fault.unsent {
        RequestError::Unreachable {
            detail: fault.detail,
        }
    } else {
        RequestError::Protocol {
            detail: fault.detail,
        }
    }
}

/// Reads a body of JSON.
pub(crate) async fn read_json(body: Answer, limit_bytes: usize) -> Result<Bytes, RequestError> {
    read_body(body, limit_bytes)
        .await
        .map_err(|fault| match fault {
            BodyFault::TooLarge => RequestError::TooLarge { limit_bytes },
            BodyFault::Truncated => protocol("the answer broke off"),
        })
}

/// A protocol error in fixed words.
pub(crate) fn protocol(detail: &str) -> RequestError {
    RequestError::Protocol {
        detail: detail.to_owned(),
    }
}

/// Reads and drops a small body so that its connection can be used again.
pub(crate) async fn drain(response: Response<Answer>) {
    // Too long or broken: then the connection is closed instead.
    let _ = tokio::time::timeout(
        ERROR_BODY_TIMEOUT,
        read_body(response.into_body(), MAX_ERROR_BODY_BYTES),
    )
    .await;
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    #[test]
    fn media_types_are_read_without_case_and_parameters() {
        let of = |text: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(text));
            media(&headers)
        };
        assert_eq!(of("Application/JSON; charset=utf-8"), Media::Json);
        assert_eq!(of("text/event-stream"), Media::EventStream);
        assert_eq!(of("text/<b>html"), Media::Other("text/bhtml".into()));
        assert_eq!(media(&HeaderMap::new()), Media::Other(String::new()));
    }

    #[test]
    fn only_statuses_of_an_untaken_request_are_unreachable() {
        for (status, retry, expected) in [
            (302, None, true),
            (403, None, true),
            (429, None, true),
            (503, Some(3), true),
            (503, None, false),
            (500, Some(3), false),
            (404, None, false),
        ] {
            let status = StatusCode::from_u16(status).unwrap();
            assert_eq!(unreachable(status, retry).is_some(), expected, "{status}");
        }
    }
}
