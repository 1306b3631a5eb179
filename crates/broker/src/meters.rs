//! The broker's numbers, through handles made once: a counter by name costs a hash per call.
//! Made at start, so the exporter must be installed before.

use std::collections::HashMap;

use metrics::{Counter, Gauge, Histogram};

use crate::call::outcome::Ended;
use crate::error::ErrorCode;

/// Handles of all numbers the hot path touches.
pub(crate) struct Meters {
    calls: HashMap<&'static str, Counter>,
    duration: Histogram,
    in_flight: Gauge,
    notices_lost: Counter,
}

impl std::fmt::Debug for Meters {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Meters").finish_non_exhaustive()
    }
}

impl Meters {
    pub(crate) fn new() -> Self {
        metrics::describe_counter!("paperbot_calls_total", "Calls by outcome");
        metrics::describe_histogram!(
            "paperbot_call_duration_seconds",
            metrics::Unit::Seconds,
            "From accepted to settled"
        );
        metrics::describe_gauge!("paperbot_in_flight", "Calls in flight");
        let codes = ErrorCode::ALL.iter().map(|code| code.as_str());
        let labels = ["ok", "tool_error"].into_iter().chain(codes);
        let counter = |label| {
            (
                label,
                metrics::counter!("paperbot_calls_total", "outcome" => label),
            )
        };
        Self {
            calls: labels.map(counter).collect(),
            duration: metrics::histogram!("paperbot_call_duration_seconds"),
            in_flight: metrics::gauge!("paperbot_in_flight"),
            notices_lost: metrics::counter!("paperbot_events_dropped_total", "kind" => "call_notice"),
        }
    }

    /// Places in flight change through this.
    pub(crate) fn in_flight(&self) -> Gauge {
        self.in_flight.clone()
    }

    /// Progress or a log that its follower was too slow for.
    pub(crate) fn notice_lost(&self) {
        self.notices_lost.increment(1);
    }

    pub(crate) fn ended(&self, ended: &Ended) {
        self.refused(ended.label());
        self.duration.record(ended.duration.as_secs_f64());
    }

    /// A call that ended before it was accepted.
    pub(crate) fn refused(&self, label: &'static str) {
        if let Some(counter) = self.calls.get(label) {
            counter.increment(1);
        }
    }
}
