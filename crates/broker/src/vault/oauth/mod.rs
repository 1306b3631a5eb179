//! Grants of users at authorization servers (OAuth 2.1, authorization code with PKCE).
//!
//! A grant belongs to one user (or, for shared servers, the workspace), one server at one address, and one issuer.
//! The caller's own credential is never part of it. Every request goes by the outbound policy.

mod cells;
mod challenge;
mod discovery;
mod exchange;
mod flow;
mod grant;
mod offer;
mod registration;
mod ticket;

pub(super) use self::cells::{Cell, GrantCells};
pub(crate) use self::flow::{Begun, Returned};
pub(crate) use self::grant::AboutGrant;

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode, header};
use serde::de::DeserializeOwned;
use transports::OutboundPolicy;
use transports::fetch::{FetchBounds, FetchError, fetch};
use url::Url;

use crate::error::{BrokerError, ErrorCode, Fault};

/// What one answer of an authorization server may cost: such documents have some KiB.
const BOUNDS: FetchBounds = FetchBounds {
    timeout: Duration::from_secs(10),
    body_bytes: 128 * 1024,
};

/// Where requests about one server's grants may go.
#[derive(Debug, Clone, Copy)]
struct Way<'a> {
    /// The server.
    server: &'a Url,
    /// The server's own policy: for what stands at the server's own origin.
    own: &'a OutboundPolicy,
    /// The bridge's policy: for every other address, because the server's answers name it.
    others: &'a OutboundPolicy,
}

/// An answer that was read whole.
struct Told {
    status: StatusCode,
    body: Bytes,
}

impl Way<'_> {
    fn policy(&self, url: &Url) -> &OutboundPolicy {
        if url.origin() == self.server.origin() {
            self.own
        } else {
            self.others
        }
    }

    async fn send(
        &self,
        (method, url): (Method, &Url),
        (mut headers, body): (HeaderMap, Bytes),
    ) -> Result<Told, BrokerError> {
        let json = http::HeaderValue::from_static("application/json");
        headers.insert(header::ACCEPT, json);
        let answer = fetch((method, url), (headers, body), self.policy(url), BOUNDS).await;
        let answer = answer.map_err(|error| unreachable(&error))?;
        Ok(Told {
            status: answer.status(),
            body: answer.into_body(),
        })
    }

    /// A document of JSON; `None` when there is none at this place.
    async fn document<T: DeserializeOwned>(&self, url: &Url) -> Result<Option<T>, BrokerError> {
        let told = self
            .send((Method::GET, url), (HeaderMap::new(), Bytes::new()))
            .await?;
        if told.status.is_client_error() {
            return Ok(None);
        }
        if !told.status.is_success() {
            return Err(broken("its metadata is not answered with 200"));
        }
        let read = serde_json::from_slice(&told.body);
        read.map(Some)
            .map_err(|_| broken("its metadata cannot be read"))
    }
}

/// The authorization server cannot be reached. In words of ours.
fn unreachable(error: &FetchError) -> BrokerError {
    Fault::new(
        ErrorCode::UpstreamUnreachable,
        format!("the authorization server cannot be reached: {error}"),
    )
}

/// The authorization server, or what the server says of it, is not as it must be.
fn broken(what: &str) -> BrokerError {
    Fault::new(
        ErrorCode::UpstreamProtocolError,
        format!("the authorization server cannot be used: {what}"),
    )
}

/// An endpoint as metadata names it. Plain http only when the server itself is reached so.
fn endpoint(text: &str, way: &Way<'_>) -> Result<Url, BrokerError> {
    let url =
        Url::parse(text).map_err(|_| broken("its metadata names an endpoint that is no URL"))?;
    let plain = url.scheme() == "http" && way.server.scheme() == "http";
    if url.scheme() != "https" && !plain {
        return Err(broken("its metadata names an endpoint that is not https"));
    }
    Ok(url)
}
