//! The life of a session as one pure function. No I/O, no clock of its own.

use std::time::Duration;

use tokio::time::Instant;

use crate::inspect::StateName;
use crate::limits::ReconnectPolicy;

/// A connection that held this long was healthy: the next loss starts the backoff from its beginning.
pub const HEALTHY_AFTER: Duration = Duration::from_mins(1);
/// Heartbeats in a row that may go unanswered before the connection counts as lost.
pub const MISSED_PINGS_LOST: u32 = 2;

/// Where a session is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Connecting; `attempt` failures came before.
    Opening {
        /// Failures in a row so far.
        attempt: u32,
        /// Whether it was connected before.
        again: bool,
    },
    /// Connected.
    Ready {
        /// Since when.
        since: Instant,
        /// Failures in a row before this connection.
        attempt: u32,
        /// Heartbeats in a row that went unanswered.
        missed: u32,
    },
    /// Waiting before the next try.
    Backoff {
        /// Failures in a row so far.
        attempt: u32,
        /// When the next try may start.
        until: Instant,
        /// Whether it was connected before.
        again: bool,
        /// A good connection was lost: who wants the session need not wait for `until`.
        on_demand: bool,
    },
    /// Over.
    Closed,
}

/// What can happen to a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// The handshake is done.
    Connected,
    /// The connection could not be opened.
    Failed,
    /// The connection ended by itself.
    Lost,
    /// The time of the next try has come.
    Retry,
    /// A caller wants the session.
    Wanted,
    /// A heartbeat was answered.
    PingAnswered,
    /// A heartbeat was not.
    PingMissed,
    /// Reconnect although nothing is wrong.
    Refresh,
    /// End it.
    Close,
}

/// What the pure function needs from outside.
#[derive(Debug, Clone, Copy)]
pub struct Moment<'a> {
    /// Now.
    pub now: Instant,
    /// A number in `[0, 1)`, fresh for each event.
    pub jitter: f64,
    /// The waits.
    pub policy: &'a ReconnectPolicy,
}

impl State {
    /// What comes after an event.
    #[must_use]
    pub fn after(self, event: Event, moment: Moment<'_>) -> Self {
        match (self, event) {
            (Self::Closed, _) | (_, Event::Close) => Self::Closed,
            (Self::Opening { attempt, .. }, Event::Connected) => Self::Ready {
                since: moment.now,
                attempt,
                missed: 0,
            },
            (Self::Opening { attempt, again }, Event::Failed | Event::Lost) => {
                Self::backoff((attempt.saturating_add(1), again, false), moment)
            }
            (Self::Ready { since, attempt, .. }, Event::Lost | Event::Failed) => {
                Self::lost(since, attempt, moment)
            }
            (
                Self::Ready {
                    since,
                    attempt,
                    missed,
                },
                Event::PingMissed,
            ) => {
                let missed = missed + 1;
                if missed >= MISSED_PINGS_LOST {
                    Self::lost(since, attempt, moment)
                } else {
                    Self::Ready {
                        since,
                        attempt,
                        missed,
                    }
                }
            }
            (Self::Ready { since, attempt, .. }, Event::PingAnswered) => Self::Ready {
                since,
                attempt,
                missed: 0,
            },
            (Self::Ready { .. }, Event::Refresh) => Self::Opening {
                attempt: 0,
                again: true,
            },
            (Self::Backoff { attempt, again, .. }, Event::Refresh) => {
                Self::Opening { attempt, again }
            }
            (
                Self::Backoff {
                    attempt,
                    until,
                    again,
                    on_demand,
                },
                Event::Retry | Event::Wanted,
            ) if until <= moment.now || (on_demand && event == Event::Wanted) => {
                Self::Opening { attempt, again }
            }
            // A late event about a connection already gone, or a try before its time, changes nothing.
            (state, _) => state,
        }
    }

    /// After a good connection the next caller may open again at once; automatic tries wait all the same,
    /// so that the sessions of one server that went away do not come back together. A connection that followed
    /// failures and did not hold is one more failure, or a server that dies of every call would be started by each.
    fn lost(since: Instant, attempt: u32, moment: Moment<'_>) -> Self {
        let held = moment.now.saturating_duration_since(since) >= HEALTHY_AFTER;
        let attempt = if held { 1 } else { attempt.saturating_add(1) };
        Self::backoff((attempt, true, attempt == 1), moment)
    }

    fn backoff((attempt, again, on_demand): (u32, bool, bool), moment: Moment<'_>) -> Self {
        let policy = moment.policy;
        if policy.attempts > 0 && attempt > policy.attempts {
            return Self::Closed;
        }
        let doublings = attempt.saturating_sub(1).min(31);
        let ceiling = policy
            .initial
            .saturating_mul(1 << doublings)
            .min(policy.max);
        // Full jitter above half the first wait: many sessions of one dead server do not come back at once,
        // and none comes back at once after its very first failure.
        let floor = policy.initial / 2;
        let wait = floor + ceiling.saturating_sub(floor).mul_f64(moment.jitter);
        Self::Backoff {
            attempt,
            until: moment.now + wait,
            again,
            on_demand,
        }
    }

    /// The name people see.
    #[must_use]
    pub fn name(self) -> StateName {
        match self {
            Self::Opening { again: false, .. } | Self::Backoff { again: false, .. } => {
                StateName::Opening
            }
            Self::Opening { again: true, .. } | Self::Backoff { again: true, .. } => {
                StateName::Reconnecting
            }
            Self::Ready { missed: 0, .. } => StateName::Ready,
            Self::Ready { .. } => StateName::Degraded,
            Self::Closed => StateName::Closed,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const POLICY: ReconnectPolicy = ReconnectPolicy {
        initial: Duration::from_millis(500),
        max: Duration::from_mins(1),
        attempts: 0,
    };

    fn at(now: Instant, jitter: f64) -> Moment<'static> {
        Moment {
            now,
            jitter,
            policy: &POLICY,
        }
    }

    fn wait_of(state: State, now: Instant) -> Duration {
        let State::Backoff { until, .. } = state else {
            panic!("{state:?}")
        };
        until - now
    }

    #[tokio::test(start_paused = true)]
    async fn waits_double_to_the_ceiling_and_start_again_after_a_healthy_connection() {
        let now = Instant::now();
        let mut state = State::Opening {
            attempt: 0,
            again: false,
        };
        let mut waits = Vec::new();
        for _ in 0..10 {
            state = state.after(Event::Failed, at(now, 0.999_999));
            waits.push(wait_of(state, now).as_millis());
            let due = now + wait_of(state, now);
            state = state.after(Event::Retry, at(due, 0.0));
        }
        assert_eq!(&waits[..3], &[499, 999, 1999]);
        assert!(waits.iter().all(|wait| *wait <= 60_000), "{waits:?}");
        let ready = state.after(Event::Connected, at(now, 0.0));
        let soon = ready.after(Event::Lost, at(now + HEALTHY_AFTER / 2, 0.5));
        assert!(
            matches!(soon, State::Backoff { attempt: 11, .. }),
            "{soon:?}"
        );
        let late = ready.after(Event::Lost, at(now + HEALTHY_AFTER, 0.5));
        assert!(
            matches!(late, State::Backoff { attempt: 1, .. }),
            "{late:?}"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn one_missed_heartbeat_degrades_and_two_lose_the_connection() {
        let now = Instant::now();
        let ready = State::Ready {
            since: now,
            attempt: 0,
            missed: 0,
        };
        let degraded = ready.after(Event::PingMissed, at(now, 0.0));
        assert_eq!(degraded.name(), StateName::Degraded);
        assert_eq!(
            degraded.after(Event::PingAnswered, at(now, 0.0)).name(),
            StateName::Ready
        );
        assert_eq!(
            degraded.after(Event::PingMissed, at(now, 0.0)).name(),
            StateName::Reconnecting
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_capped_number_of_attempts_ends_the_session() {
        let now = Instant::now();
        let policy = ReconnectPolicy {
            attempts: 2,
            ..POLICY
        };
        let moment = Moment {
            now,
            jitter: 0.0,
            policy: &policy,
        };
        let state = State::Opening {
            attempt: 2,
            again: true,
        }
        .after(Event::Failed, moment);
        assert_eq!(state, State::Closed);
    }

    #[tokio::test(start_paused = true)]
    async fn only_the_first_loss_lets_a_caller_open_before_the_wait_is_over() {
        let now = Instant::now();
        let ready = |attempt| State::Ready {
            since: now,
            attempt,
            missed: 0,
        };
        let first = ready(0).after(Event::Lost, at(now, 0.5));
        assert_eq!(
            first.after(Event::Retry, at(now, 0.0)),
            first,
            "nobody asked"
        );
        let reopening = first.after(Event::Wanted, at(now, 0.0));
        let attempt_after_one = State::Opening {
            attempt: 1,
            again: true,
        };
        assert_eq!(reopening, attempt_after_one);
        for again in [
            ready(1).after(Event::Lost, at(now, 0.5)),
            reopening.after(Event::Failed, at(now, 0.5)),
        ] {
            assert_eq!(again.after(Event::Wanted, at(now, 0.0)), again);
            let due = now + wait_of(again, now);
            assert!(matches!(
                again.after(Event::Wanted, at(due, 0.0)),
                State::Opening { .. }
            ));
        }
    }

    fn event() -> impl Strategy<Value = Event> {
        prop_oneof![
            Just(Event::Connected),
            Just(Event::Failed),
            Just(Event::Lost),
            Just(Event::Retry),
            Just(Event::Wanted),
            Just(Event::PingAnswered),
            Just(Event::PingMissed),
            Just(Event::Refresh),
            Just(Event::Close),
        ]
    }

    proptest! {
        #[test]
        fn no_order_of_events_revives_a_closed_session_or_waits_beyond_the_ceiling(
            events in proptest::collection::vec((event(), 0.0f64..1.0, 0u64..120), 1..200)
        ) {
            let mut now = Instant::now();
            let mut state = State::Opening { attempt: 0, again: false };
            for (event, jitter, seconds) in events {
                now += Duration::from_secs(seconds);
                let next = state.after(event, at(now, jitter));
                if state == State::Closed || event == Event::Close {
                    prop_assert_eq!(next, State::Closed);
                }
                if matches!(next, State::Ready { .. }) && !matches!(state, State::Ready { .. }) {
                    prop_assert_eq!(event, Event::Connected);
                }
                if let State::Backoff { until, attempt, .. } = next {
                    prop_assert!(attempt >= 1);
                    if next != state {
                        prop_assert!(until - now <= POLICY.max && until - now >= POLICY.initial / 2);
                    }
                }
                state = next;
            }
        }
    }
}
