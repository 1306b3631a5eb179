//! A plain HTTP client for tests: one request, one connection, the whole answer.

use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;

use crate::PATIENCE;

/// A whole answer.
#[derive(Debug)]
pub struct Reply {
    /// Status.
    pub status: StatusCode,
    /// Headers.
    pub headers: HeaderMap,
    /// Body.
    pub body: Bytes,
}

impl Reply {
    /// The body as JSON.
    ///
    /// # Panics
    /// When it is none.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error} in {:?}", self.text()))
    }

    /// The body as text.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// Sends one request to `authority` (`127.0.0.1:port`) and reads the whole answer.
///
/// # Panics
/// When the connection breaks or takes longer than [`PATIENCE`].
pub async fn request(authority: &str, request: Request<Full<Bytes>>) -> Reply {
    let reply = try_request(authority, request).await;
    reply.unwrap_or_else(|error| panic!("{authority}: {error}"))
}

/// As [`request`], for a peer that may be killed meanwhile.
///
/// # Errors
/// How the connection broke.
///
/// # Panics
/// When it takes longer than [`PATIENCE`].
pub async fn try_request(
    authority: &str,
    request: Request<Full<Bytes>>,
) -> Result<Reply, Box<dyn std::error::Error + Send + Sync>> {
    let exchange = async {
        let stream = TcpStream::connect(authority).await?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        let driver = tokio::spawn(connection);
        let answer = sender.send_request(request).await?;
        let (head, body) = answer.into_parts();
        let body = body.collect().await?.to_bytes();
        drop(sender);
        driver.abort();
        Ok(Reply {
            status: head.status,
            headers: head.headers,
            body,
        })
    };
    tokio::time::timeout(PATIENCE, exchange)
        .await
        .unwrap_or_else(|_| panic!("no answer within {PATIENCE:?}"))
}
