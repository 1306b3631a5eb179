//! HTTP+SSE of 2024-11-05. (Seam; the body follows.)

use std::sync::Arc;
use std::time::Duration;

use serde_json::value::RawValue;
use tokio::sync::mpsc;

use crate::connection::Inbound;
use crate::error::{CloseReason, ConnectError, RequestError};
use crate::pending::Pending;
use crate::spec::{HttpSpec, ServerSpec};
use crate::wire::Request;

#[derive(Debug)]
pub(crate) struct SseCarrier {
    pub(crate) pending: Arc<Pending>,
}

impl SseCarrier {
    /// GETs the stream and waits for the `endpoint` event.
    pub(crate) async fn open(
        http: &HttpSpec,
        spec: &ServerSpec,
        inbound: mpsc::Sender<Inbound>,
    ) -> Result<Self, ConnectError> {
        let _ = (http, spec, inbound);
        Err(ConnectError::Unreachable {
            detail: "HTTP+SSE is not in yet".into(),
        })
    }
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
    pub(crate) async fn closed(&self) -> CloseReason {
        CloseReason::Asked
    }
    pub(crate) async fn close(&self) {}
}
