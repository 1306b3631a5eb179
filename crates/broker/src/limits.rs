//! Bounds and defaults of the broker, each with its reason.

use std::num::NonZeroU32;
use std::time::Duration;

/// A rate of calls: a bucket of tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// Tokens that come back each second.
    pub per_s: NonZeroU32,
    /// Tokens of a full bucket: calls that may come at once.
    pub burst: NonZeroU32,
}

impl Rate {
    /// `None` when either is zero.
    #[must_use]
    pub fn of(per_s: u32, burst: u32) -> Option<Self> {
        Some(Self {
            per_s: NonZeroU32::new(per_s)?,
            burst: NonZeroU32::new(burst)?,
        })
    }

    /// Three quarters of it: what one tenant may have of what all share.
    fn share(self) -> Self {
        let part = |whole: NonZeroU32| {
            let part = whole.get() - whole.get() / 4;
            NonZeroU32::new(part).unwrap_or(NonZeroU32::MIN)
        };
        Self {
            per_s: part(self.per_s),
            burst: part(self.burst),
        }
    }
}

/// Rates of calls; `None` = no bound.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Rates {
    /// Of each user.
    pub user: Option<Rate>,
    /// Of each workspace. Without one, three quarters of the global one.
    pub workspace: Option<Rate>,
    /// Of each server.
    pub server: Option<Rate>,
    /// Of the bridge.
    pub global: Option<Rate>,
}

impl Rates {
    /// What a workspace may have: no tenant takes all that the bridge has.
    pub(crate) fn workspace_share(&self) -> Option<Rate> {
        self.workspace.or_else(|| Some(self.global?.share()))
    }
}

/// When calls to a server that fails are no longer sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BreakerLimits {
    /// Failures within the window that open the circuit; 0 = it never opens.
    pub failures: u32,
    /// How long a failure counts.
    pub window: Duration,
    /// How long nothing is sent before one call may try.
    pub open: Duration,
}

impl Default for BreakerLimits {
    fn default() -> Self {
        Self {
            failures: 5,
            window: Duration::from_secs(30),
            open: Duration::from_secs(15),
        }
    }
}

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
    /// Calls of one workspace in flight.
    pub in_flight_per_workspace: usize,
    /// Calls in flight at one server.
    pub in_flight_per_server: usize,
    /// Calls in flight in all.
    pub in_flight: usize,
    /// Bytes that the arguments of one user's calls in flight may hold.
    pub bytes_in_flight_per_user: usize,
    /// How fast calls may come.
    pub rates: Rates,
    /// When calls to a failing server are no longer sent.
    pub breaker: BreakerLimits,
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
            // No tenant and no server that hangs takes all places.
            in_flight_per_workspace: 3072,
            in_flight_per_server: 2048,
            in_flight: 4096,
            bytes_in_flight_per_user: 64 * 1024 * 1024,
            rates: Rates::default(),
            breaker: BreakerLimits::default(),
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
