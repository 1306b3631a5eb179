//! The life of one server's circuit, as a pure function of what its calls came to. Keeps no clock and no lock.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

use crate::limits::BreakerLimits;

/// What other callers are told while one of them tries the server.
const PROBE_WAIT: Duration = Duration::from_secs(1);

/// Where a circuit stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Circuit {
    /// Calls pass. Failures that no answer has made up for yet, oldest first; at most the limit.
    Closed {
        /// When they were.
        failures: VecDeque<Instant>,
    },
    /// Nothing passes until then.
    Open {
        /// When one call may try.
        until: Instant,
    },
    /// One call may try the server, or does.
    HalfOpen {
        /// It does.
        probing: bool,
    },
}

/// What a call came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The server answered.
    Answered,
    /// The server could not be reached, broke the protocol or stayed silent.
    Failed,
    /// Nothing was learnt of the server.
    Nothing,
}

impl Circuit {
    /// A circuit without a past.
    pub(super) fn closed() -> Self {
        Self::Closed {
            failures: VecDeque::new(),
        }
    }

    /// It stands as if nothing had ever happened.
    pub(super) fn is_forgettable(&self, now: Instant, limits: &BreakerLimits) -> bool {
        match self {
            Self::Closed { failures } => failures
                .back()
                .is_none_or(|last| now.saturating_duration_since(*last) >= limits.window),
            Self::Open { .. } | Self::HalfOpen { .. } => false,
        }
    }

    /// Calls are being refused.
    pub(super) fn is_open(&self) -> bool {
        !matches!(self, Self::Closed { .. })
    }

    /// As people read it.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Closed { .. } => "closed",
            Self::Open { .. } => "open",
            Self::HalfOpen { .. } => "half_open",
        }
    }

    /// When to come back, while calls are refused.
    pub(super) fn wait(&self, now: Instant) -> Option<Duration> {
        match self {
            Self::Closed { .. } | Self::HalfOpen { probing: false } => None,
            Self::HalfOpen { probing: true } => Some(PROBE_WAIT),
            Self::Open { until } => {
                Some(until.saturating_duration_since(now)).filter(|wait| !wait.is_zero())
            }
        }
    }

    /// One call asks to pass: the circuit after that, and whether the call is the probe; or when to come back.
    pub(super) fn admit(self, now: Instant) -> (Self, Result<bool, Duration>) {
        match (self.wait(now), &self) {
            (Some(wait), _) => (self, Err(wait)),
            (None, Self::Closed { .. }) => (self, Ok(false)),
            (None, Self::Open { .. } | Self::HalfOpen { .. }) => {
                (Self::HalfOpen { probing: true }, Ok(true))
            }
        }
    }

    /// A call ended. `probe`: it was the one that tried.
    #[must_use]
    pub(super) fn after(
        self,
        (verdict, probe): (Verdict, bool),
        now: Instant,
        limits: &BreakerLimits,
    ) -> Self {
        let open = || Self::Open {
            until: now + limits.open,
        };
        match (self, verdict) {
            (Self::HalfOpen { probing: true }, Verdict::Answered) if probe => Self::closed(),
            (Self::HalfOpen { probing: true }, Verdict::Failed) if probe => open(),
            // Cancelled, or refused elsewhere: the next caller tries.
            (Self::HalfOpen { probing: true }, Verdict::Nothing) if probe => {
                Self::HalfOpen { probing: false }
            }
            (Self::Closed { mut failures }, Verdict::Answered) => {
                // A server that mostly answers stays in use, however many calls it gets.
                failures.pop_front();
                Self::Closed { failures }
            }
            (Self::Closed { mut failures }, Verdict::Failed) => {
                failures.push_back(now);
                failures.retain(|at| now.saturating_duration_since(*at) < limits.window);
                if failures.len() >= limits.failures as usize {
                    open()
                } else {
                    Self::Closed { failures }
                }
            }
            // A call that began before the circuit opened changes nothing.
            (circuit, _) => circuit,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: BreakerLimits = BreakerLimits {
        failures: 3,
        window: Duration::from_secs(30),
        open: Duration::from_secs(15),
    };
    const SECOND: Duration = Duration::from_secs(1);

    fn told(circuit: Circuit, verdicts: &[Verdict], now: Instant) -> Circuit {
        verdicts.iter().fold(circuit, |circuit, verdict| {
            circuit.after((*verdict, false), now, &LIMITS)
        })
    }

    #[tokio::test(start_paused = true)]
    async fn failures_within_the_window_open_it_and_answers_make_up_for_them() {
        use Verdict::{Answered, Failed, Nothing};
        let now = Instant::now();
        let calm = told(
            Circuit::closed(),
            &[Failed, Failed, Answered, Nothing, Failed],
            now,
        );
        assert_eq!(calm.name(), "closed");
        let open = told(calm.clone(), &[Failed], now);
        assert_eq!(open.wait(now), Some(LIMITS.open));
        // Old failures are forgotten.
        let later = now + LIMITS.window;
        assert!(calm.is_forgettable(later, &LIMITS));
        assert_eq!(told(calm, &[Failed, Failed], later).name(), "closed");
    }

    #[tokio::test(start_paused = true)]
    async fn half_open_lets_one_probe_through_and_its_end_decides() {
        use Verdict::{Answered, Failed, Nothing};
        let now = Instant::now();
        let open = told(Circuit::closed(), &[Failed; 3], now);
        let (open, refused) = open.admit(now + 14 * SECOND);
        assert_eq!(refused, Err(SECOND));
        let tried = now + 15 * SECOND;
        let (half, passed) = open.admit(tried);
        assert_eq!(passed, Ok(true));
        let (half, others) = half.admit(tried);
        assert_eq!(others, Err(PROBE_WAIT));
        // Late ends of earlier calls say nothing.
        let half = told(half, &[Answered, Failed, Nothing], tried);
        assert_eq!(half, Circuit::HalfOpen { probing: true });
        let again = half.clone().after((Failed, true), tried, &LIMITS);
        assert_eq!(again.wait(tried), Some(LIMITS.open));
        let abandoned = half.clone().after((Nothing, true), tried, &LIMITS);
        assert_eq!(abandoned.admit(tried).1, Ok(true));
        assert_eq!(
            half.after((Answered, true), tried, &LIMITS),
            Circuit::closed()
        );
    }
}
