//! One token bucket, and how it stands. The cell-rate algorithm is `governor`'s; time is Tokio's, so that tests pause it.

use std::time::Duration;

use governor::clock::Clock;
use governor::middleware::StateInformationMiddleware;
use governor::nanos::Nanos;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};
use tokio::time::Instant;

use crate::limits::Rate;

/// Tokio's clock, counted from the start of the gate.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ticks(Instant);

impl Ticks {
    pub(super) fn start() -> Self {
        Self(Instant::now())
    }
}

impl Clock for Ticks {
    type Instant = Nanos;

    fn now(&self) -> Nanos {
        self.0.elapsed().into()
    }
}

/// How one bucket stands, as callers are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RateStanding {
    /// Whose bucket: `user` or `workspace`.
    pub scope: &'static str,
    /// Calls a full bucket holds.
    pub quota: u32,
    /// Seconds in which an empty bucket fills.
    pub window_s: u64,
    /// Calls that may be made now.
    pub remaining: u32,
    /// Seconds until the bucket is full again.
    pub reset_s: u64,
}

/// A bucket of tokens: each call takes one, and they come back one by one.
#[derive(Debug)]
pub(super) struct Bucket {
    rate: Rate,
    limiter: RateLimiter<NotKeyed, InMemoryState, Ticks, StateInformationMiddleware>,
    /// What the last look left, and when it was.
    left: (u32, Instant),
}

impl Bucket {
    /// A full one.
    pub(super) fn new(rate: Rate, ticks: Ticks) -> Self {
        let quota = Quota::per_second(rate.per_s).allow_burst(rate.burst);
        Self {
            rate,
            limiter: RateLimiter::direct_with_clock(quota, ticks).with_middleware(),
            left: (rate.burst.get(), Instant::now()),
        }
    }

    /// Takes a token; when there is none, says when there will be one.
    pub(super) fn take(&mut self) -> Result<(), Duration> {
        match self.limiter.check() {
            Ok(state) => {
                self.left = (state.remaining_burst_capacity(), Instant::now());
                Ok(())
            }
            Err(until) => {
                self.left = (0, Instant::now());
                Err(until.wait_time_from(self.limiter.clock().now()))
            }
        }
    }

    /// Tokens there are now.
    fn remaining(&self) -> u32 {
        let (left, at) = self.left;
        let back = at.elapsed().as_millis() * u128::from(self.rate.per_s.get()) / 1000;
        let back = u32::try_from(back).unwrap_or(u32::MAX);
        left.saturating_add(back).min(self.rate.burst.get())
    }

    /// Nobody would notice if it were made anew.
    pub(super) fn is_full(&self) -> bool {
        self.remaining() == self.rate.burst.get()
    }

    pub(super) fn standing(&self, scope: &'static str) -> RateStanding {
        standing(self.rate, self.remaining(), scope)
    }
}

/// How a bucket stands that nobody has touched yet.
pub(super) fn untouched(rate: Rate, scope: &'static str) -> RateStanding {
    standing(rate, rate.burst.get(), scope)
}

fn standing(rate: Rate, remaining: u32, scope: &'static str) -> RateStanding {
    let (burst, per_s) = (rate.burst.get(), rate.per_s.get());
    RateStanding {
        scope,
        quota: burst,
        window_s: u64::from(burst.div_ceil(per_s)),
        remaining,
        reset_s: u64::from((burst - remaining).div_ceil(per_s)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_bucket_empties_says_when_to_come_back_and_fills_again() {
        let mut bucket = Bucket::new(Rate::of(10, 3).unwrap(), Ticks::start());
        assert_eq!(bucket.standing("user"), untouched(bucket.rate, "user"));
        for _ in 0..3 {
            bucket.take().unwrap();
        }
        let wait = bucket.take().unwrap_err();
        assert!(wait > Duration::from_millis(90) && wait <= Duration::from_millis(100));
        assert_eq!(
            bucket.standing("user"),
            RateStanding {
                scope: "user",
                quota: 3,
                window_s: 1,
                remaining: 0,
                reset_s: 1
            }
        );
        tokio::time::advance(wait).await;
        bucket.take().unwrap();
        bucket.take().unwrap_err();
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(bucket.is_full());
    }
}
