//! Counters of the HTTP face. Handles are made once; counting a request allocates nothing.

use http::StatusCode;
use metrics::{Counter, Gauge, counter, gauge};

/// Counters of the HTTP face.
#[derive(Debug)]
pub(crate) struct Meters {
    in_flight: Gauge,
    answered: [Counter; 6],
}

/// One request in flight; leaves when dropped, also when its connection is gone.
#[derive(Debug)]
pub(crate) struct InFlight(Gauge);

impl Meters {
    /// Takes the handles from the recorder that is installed.
    #[must_use]
    pub(crate) fn new() -> Self {
        let class = |name: &'static str| counter!("paperbot_http_requests_total", "status" => name);
        Self {
            in_flight: gauge!("paperbot_http_requests_in_flight"),
            answered: ["other", "1xx", "2xx", "3xx", "4xx", "5xx"].map(class),
        }
    }

    /// A request begins.
    #[must_use]
    pub(crate) fn begin(&self) -> InFlight {
        self.in_flight.increment(1.0);
        InFlight(self.in_flight.clone())
    }

    /// A request was answered.
    pub(crate) fn answered(&self, status: StatusCode) {
        let class = usize::from(status.as_u16() / 100);
        if let Some(counter) = self.answered.get(class).or(self.answered.first()) {
            counter.increment(1);
        }
    }
}

impl Default for Meters {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.decrement(1.0);
    }
}
