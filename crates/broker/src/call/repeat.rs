//! The same idempotency key again: the same answer, or the reason why there is none.

use std::sync::Arc;
use std::time::Duration;

use sha2::{Digest, Sha256};

use super::admit::Due;
use crate::arguments::Arguments;
use crate::error::{BrokerError, ErrorCode, Fault};
use crate::ledger::{Intent, Row};
use crate::operations::Inner;
use crate::operations::calls::{Admitted, CallAnswer, CallDone, CallTool};

/// What a repeat with the same key must equal; nobody asks without a key.
pub(super) fn request_digest(request: &CallTool, arguments: &Arguments) -> [u8; 32] {
    if request.idempotency_key.is_none() {
        return [0; 32];
    }
    let mut digest = Sha256::new();
    digest.update(request.reference.as_bytes());
    digest.update([0]);
    digest.update(request.lane.as_str().as_bytes());
    digest.update([0]);
    digest.update(arguments.digest);
    if let Some(agent) = &request.agent_id {
        digest.update(agent.as_bytes());
    }
    digest.finalize().into()
}

/// The same key must mean the same request.
pub(super) fn check_same(intent: &Intent, row: &Row) -> Result<(), BrokerError> {
    if row.intent.request_digest == intent.request_digest {
        return Ok(());
    }
    let mut fault = Fault::new(
        ErrorCode::IdempotencyMismatch,
        "the key was used with another ref, lane or arguments",
    );
    fault.call_id = Some(row.intent.id.to_string());
    Err(fault)
}

impl Inner {
    /// The same key was used before: replay its end, or wait for it.
    pub(super) async fn repeat(
        &self,
        row: Row,
        request: &CallTool,
        due: Due,
    ) -> Result<Admitted, BrokerError> {
        let call_id = row.intent.id.to_string();
        if request.respond_async {
            return Ok(Admitted::Answer(CallAnswer::Accepted { call_id }));
        }
        let trace_id = row.intent.trace_id.clone();
        let ended = match self.live.get(row.intent.id) {
            Some(live) => live.wait(due.at).await,
            None => self.ledger.ended(&row.intent).await?.map(Arc::new),
        };
        let Some(ended) = ended else {
            let mut fault = Fault::new(
                ErrorCode::InProgress,
                "the call with this key is still running",
            );
            fault.call_id = Some(call_id);
            fault.retry_after = Some(Duration::from_secs(1));
            return Err(fault);
        };
        match &ended.outcome {
            Ok(result) => Ok(Admitted::Answer(CallAnswer::Done(CallDone {
                call_id,
                trace_id,
                result: Arc::clone(result),
                duration: ended.duration,
                replayed: true,
            }))),
            Err(fault) => {
                let mut fault = Box::new((**fault).clone());
                fault.call_id = Some(call_id);
                Err(fault)
            }
        }
    }
}
