//! Pauses between attempts to start a server again. Pure but for the randomness it is given.

use std::time::Duration;

/// The first pause; a server that merely crashed is back at once.
const FIRST: Duration = Duration::from_millis(500);
/// The longest; a broken command costs two processes a minute.
const LONGEST: Duration = Duration::from_mins(1);
/// A server that ran so long was a good one.
const HEALTHY: Duration = Duration::from_mins(1);

/// How long to wait next.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Backoff {
    failures: u32,
}

impl Backoff {
    /// The next pause: doubling, with `draw` of 0 to 1 deciding where between half of it and all.
    pub(super) fn next(&mut self, draw: f64) -> Duration {
        let doubled = FIRST.saturating_mul(2_u32.saturating_pow(self.failures.min(16)));
        self.failures = self.failures.saturating_add(1);
        doubled
            .min(LONGEST)
            .mul_f64(0.5 + draw.clamp(0.0, 1.0) / 2.0)
    }

    /// A server ended after it had run for so long.
    pub(super) fn ran(&mut self, uptime: Duration) {
        if uptime >= HEALTHY {
            self.failures = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_to_a_minute_and_begin_small_after_health() {
        let mut backoff = Backoff::default();
        let pauses: Vec<_> = (0..10).map(|_| backoff.next(1.0).as_millis()).collect();
        assert_eq!(
            pauses,
            [
                500, 1000, 2000, 4000, 8000, 16000, 32000, 60000, 60000, 60000
            ]
        );
        backoff.ran(Duration::from_secs(59));
        assert_eq!(backoff.next(0.0), Duration::from_secs(30));
        backoff.ran(Duration::from_mins(1));
        assert_eq!(backoff.next(0.0), Duration::from_millis(250));
    }
}
