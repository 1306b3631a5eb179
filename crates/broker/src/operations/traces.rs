//! A trace: the calls and events under one trace id.

use super::Broker;
use super::calls::CallView;
use crate::asker::Asker;
use crate::error::BrokerError;
use crate::events::Event;

/// Everything recorded under one trace id that the asker may see.
#[derive(Debug, Clone)]
pub struct TraceView {
    /// 32 hex digits.
    pub trace_id: String,
    /// Oldest first.
    pub calls: Vec<CallView>,
    /// Oldest first.
    pub events: Vec<Event>,
}

impl Broker {
    /// One trace; an unknown or foreign one is empty.
    ///
    /// # Errors
    /// `invalid_request` when it is no trace id.
    pub async fn trace(&self, asker: &Asker, trace_id: &str) -> Result<TraceView, BrokerError> {
        let _ = (asker, trace_id);
        todo!("filled next")
    }
}
