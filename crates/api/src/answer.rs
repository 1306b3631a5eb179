//! Successful answers as bytes.

use axum::body::Body;
use axum::response::Response;
use http::header::{CONTENT_TYPE, ETAG};
use http::{HeaderValue, StatusCode};
use serde::Serialize;

use crate::problem::Refused;

/// What a handler gives.
pub(crate) type Answer = Result<Response, Refused>;

/// Media type of almost everything.
pub(crate) const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// 200 with a JSON document.
///
/// # Errors
/// `internal` when the value has no JSON form, which no value here lacks.
pub(crate) fn json<T: Serialize>(value: &T) -> Answer {
    Ok(bytes(json_text(value)?, JSON))
}

/// A JSON document.
///
/// # Errors
/// As [`json`].
pub(crate) fn json_text<T: Serialize>(value: &T) -> Result<Vec<u8>, Refused> {
    serde_json::to_vec(value)
        .map_err(|_| Refused::new(broker::ErrorCode::Internal, "the answer has no JSON form"))
}

/// 200 with ready bytes.
#[must_use]
pub(crate) fn bytes(body: impl Into<Body>, kind: HeaderValue) -> Response {
    let mut response = Response::new(body.into());
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}

/// Another status.
#[must_use]
pub(crate) fn with_status(mut response: Response, status: StatusCode) -> Response {
    *response.status_mut() = status;
    response
}

/// With an `ETag`.
#[must_use]
pub(crate) fn tagged(mut response: Response, tag: &str) -> Response {
    if let Ok(value) = HeaderValue::try_from(format!("\"{tag}\"")) {
        response.headers_mut().insert(ETAG, value);
    }
    response
}

/// An empty answer.
#[must_use]
pub(crate) fn empty(status: StatusCode) -> Response {
    with_status(Response::new(Body::empty()), status)
}
