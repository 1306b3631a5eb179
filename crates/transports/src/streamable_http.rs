//! Streamable HTTP. (Seam; the body follows.)

use std::time::Duration;

use serde_json::value::RawValue;
use tokio::sync::mpsc;

use crate::connection::{Inbound, PeerInfo};
use crate::error::{CloseReason, ConnectError, RequestError};
use crate::spec::{Era, HttpSpec, ServerSpec};
use crate::wire::Request;

#[derive(Debug)]
pub(crate) struct HttpCarrier {}

impl HttpCarrier {
    pub(crate) fn new(
        http: &HttpSpec,
        spec: &ServerSpec,
        inbound: mpsc::Sender<Inbound>,
    ) -> Result<Self, ConnectError> {
        let _ = (http, spec, inbound);
        Err(ConnectError::Unreachable {
            detail: "streamable HTTP is not in yet".into(),
        })
    }
    /// Era and revision of the next messages' headers.
    pub(crate) fn speak(&self, era: Era, version: &str) {
        let _ = (era, version);
    }
    /// `line` is the whole encoded request; the deadline is the request's.
    pub(crate) async fn exchange(
        &self,
        id: u64,
        line: String,
        request: &Request,
    ) -> Result<Box<RawValue>, RequestError> {
        let _ = (id, line, request);
        Err(RequestError::Unreachable {
            detail: String::new(),
        })
    }
    pub(crate) async fn notify(&self, line: String, timeout: Duration) -> Result<(), RequestError> {
        let _ = (line, timeout);
        Ok(())
    }
    pub(crate) fn mcp_session_id(&self) -> Option<String> {
        None
    }
    /// The handshake is over: start the GET stream (legacy) or `subscriptions/listen` (modern).
    pub(crate) fn ready(&self, info: &PeerInfo) {
        let _ = info;
    }
    /// The handshake's POST was answered 400, 404 or 405: it may be an HTTP+SSE server.
    pub(crate) fn knows_no_post(&self) -> bool {
        false
    }
    pub(crate) async fn closed(&self) -> CloseReason {
        CloseReason::Asked
    }
    pub(crate) async fn close(&self) {}
    /// Notifications lost, garbage frames.
    pub(crate) fn counters(&self) -> (u64, u64) {
        (0, 0)
    }
}
