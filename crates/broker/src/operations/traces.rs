//! A trace: the calls and events under one trace id.

use super::Broker;
use super::calls::CallView;
use crate::asker::Asker;
use crate::error::{BrokerError, ErrorCode, Fault};
use crate::events::Event;
use crate::ledger::RowFilter;

/// Everything recorded under one trace id that the asker may see.
#[derive(Debug, Clone)]
pub struct TraceView {
    /// 32 hex digits.
    pub trace_id: String,
    /// Oldest first.
    pub calls: Vec<CallView>,
    /// Oldest first.
    pub events: Vec<std::sync::Arc<Event>>,
}

/// Calls and events shown of one trace.
const MAX_SHOWN: usize = 500;

impl Broker {
    /// One trace; an unknown or foreign one is empty.
    ///
    /// # Errors
    /// `invalid_request` when it is no trace id.
    pub async fn trace(&self, asker: &Asker, trace_id: &str) -> Result<TraceView, BrokerError> {
        let hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
        if trace_id.len() != 32 || !trace_id.bytes().all(hex) {
            return Err(Fault::new(
                ErrorCode::InvalidRequest,
                "a trace id is 32 hex digits",
            ));
        }
        let who = &asker.principal;
        let everybody = who.oversees();
        let filter = RowFilter {
            workspace: who.workspace.clone(),
            user: (!everybody).then(|| who.user.clone()),
            state: None,
            reference: None,
            since: None,
            idempotency_key: None,
            trace_id: Some(trace_id.to_owned()),
            tasks: None,
            before: None,
            limit: MAX_SHOWN,
        };
        let mut calls = self.inner.views_of(asker, &filter).await?;
        calls.reverse();
        let mut events = self
            .inner
            .events
            .of_trace(&who.workspace, trace_id, MAX_SHOWN)
            .await?;
        events.retain(|event| everybody || event.user().is_none_or(|user| *user == who.user));
        Ok(TraceView {
            trace_id: trace_id.to_owned(),
            calls,
            events,
        })
    }
}
