//! Bounds and defaults of the broker, each with its reason.

use std::time::Duration;

/// Bounds of calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CallLimits {
    /// Deadline when neither caller nor server names one.
    pub default_timeout: Duration,
    /// Longest deadline a caller may ask for.
    pub max_timeout: Duration,
    /// Largest result kept and answered, in bytes.
    pub result_bytes: usize,
    /// Calls of one user in flight.
    pub in_flight_per_user: usize,
    /// Calls in flight in all.
    pub in_flight: usize,
    /// How long a server's question waits for an answer; then it is declined.
    pub input_wait: Duration,
    /// After a start, agents have this long to come back with what they finished meanwhile, also past the deadlines
    /// of their calls.
    pub agents_return: Duration,
}

impl Default for CallLimits {
    fn default() -> Self {
        Self {
            default_timeout: Duration::from_mins(1),
            max_timeout: Duration::from_hours(24),
            result_bytes: 16 * 1024 * 1024,
            in_flight_per_user: 64,
            in_flight: 4096,
            input_wait: Duration::from_mins(5),
            // An agent waits a minute at most between two tries.
            agents_return: Duration::from_secs(90),
        }
    }
}

/// Freshness of catalogues.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CatalogLimits {
    /// A listing older than this is refreshed behind the next answer (`catalog_max_age_s`).
    pub max_age: Duration,
    /// A first listing is waited for this long in all; then slow servers show as `opening`.
    pub first_wait: Duration,
    /// Longest one server's listing may take.
    pub fetch_timeout: Duration,
}

impl Default for CatalogLimits {
    fn default() -> Self {
        Self {
            max_age: Duration::from_mins(5),
            first_wait: Duration::from_secs(10),
            fetch_timeout: Duration::from_mins(1),
        }
    }
}
