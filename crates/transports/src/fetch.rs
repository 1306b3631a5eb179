//! One bounded HTTP exchange with what is no MCP server: metadata, token endpoints, keys.
//!
//! Goes by the same outbound policy as everything else: addresses are judged after they are resolved, no redirect
//! is followed, no proxy variable is read. Repeats nothing and keeps nothing.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, Response};
use url::Url;

use crate::http_client::{BodyFault, HttpClient, read_body};
use crate::outbound::{OutboundError, check_url};
use crate::spec::OutboundPolicy;

/// How long TCP and TLS may take; the whole exchange has a deadline of its own.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// What an exchange may cost.
#[derive(Debug, Clone, Copy)]
pub struct FetchBounds {
    /// From the first byte sent to the last one read.
    pub timeout: Duration,
    /// Largest body read.
    pub body_bytes: usize,
}

/// Why there is no answer. Never holds a word of the peer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FetchError {
    /// The outbound policy refuses the URL.
    #[error(transparent)]
    Refused(#[from] OutboundError),
    /// No connection, or it broke.
    #[error("{0}")]
    Unreachable(String),
    /// The deadline passed.
    #[error("no answer within {0:?}")]
    Timeout(Duration),
    /// Over [`FetchBounds::body_bytes`].
    #[error("the answer is larger than {0} bytes")]
    TooLarge(usize),
}

/// Sends one request and reads the whole answer, whatever its status.
///
/// # Errors
/// [`FetchError`].
pub async fn fetch(
    (method, url): (Method, &Url),
    (headers, body): (HeaderMap, Bytes),
    policy: &OutboundPolicy,
    bounds: FetchBounds,
) -> Result<Response<Bytes>, FetchError> {
    check_url(url, policy)?;
    let mut url = url.clone();
    url.set_fragment(None);
    let uri = url.as_str().parse().map_err(|_| OutboundError::NoHost)?;
    let client = HttpClient::shared(policy, CONNECT_TIMEOUT);
    let to = client.destination(&uri).ok_or(OutboundError::NoHost)?;
    let exchange = async {
        let sent = client.send((method, &to), headers, body).await;
        let response = sent.map_err(|fault| FetchError::Unreachable(fault.detail))?;
        let (head, body) = response.into_parts();
        let body = read_body(body, bounds.body_bytes).await;
        let body = body.map_err(|fault| match fault {
            BodyFault::TooLarge => FetchError::TooLarge(bounds.body_bytes),
            BodyFault::Truncated => FetchError::Unreachable("the answer broke off".to_owned()),
        })?;
        Ok(Response::from_parts(head, body))
    };
    let exchanged = tokio::time::timeout(bounds.timeout, exchange).await;
    exchanged.map_err(|_elapsed| FetchError::Timeout(bounds.timeout))?
}
