//! One connection, from the dial to its end.

use std::sync::Arc;
use std::time::Duration;

use crate::tunnel::frame::Assembly;
use crate::tunnel::limits::{HELLO_DEADLINE, Limits, PING_EVERY, READ_DEADLINE};

/// No bridge is told more often than this that the line holds.
const SOONEST_PING: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(super) struct Line {
    /// As the bridge named it; none before HELLO_ACK.
    pub(super) conn_session_id: Option<Arc<str>>,
    pub(super) local: bool,
    pub(super) opened: Duration,
    pub(super) stands_since: Option<Duration>,
    pub(super) heard: Duration,
    next_ping: Duration,
    pub(super) seq_out: u64,
    pub(super) seq_in: u64,
    /// A frame could not be read, so its `seq` is not known either.
    pub(super) seq_unsure: bool,
    pub(super) bad: u32,
    /// It is to be closed: what it still brings counts for nothing.
    pub(super) closing: bool,
    ping_every: Duration,
    pub(super) assembly: Assembly,
}

impl Line {
    pub(super) fn new(now: Duration, local: bool) -> Self {
        Self {
            conn_session_id: None,
            local,
            opened: now,
            stands_since: None,
            heard: now,
            next_ping: now + PING_EVERY,
            seq_out: 0,
            seq_in: 0,
            seq_unsure: false,
            bad: 0,
            closing: false,
            ping_every: PING_EVERY,
            assembly: Assembly::default(),
        }
    }

    pub(super) fn silent_at(&self) -> Duration {
        self.heard + READ_DEADLINE
    }

    /// Whether a PING is due; then the next one is due later.
    pub(super) fn ping_is_due(&mut self, now: Duration) -> bool {
        let due = self.stands_since.is_some() && now >= self.next_ping;
        if due {
            self.next_ping = now + self.ping_every;
        }
        due
    }

    /// The bridge wants to hear a PING sooner than the protocol says.
    pub(super) fn ping_within(&mut self, now: Duration, limits: &Limits) {
        let wanted = limits.ping_every_ms.min(limits.read_deadline_ms / 3);
        self.ping_every = Duration::from_millis(wanted).clamp(SOONEST_PING, PING_EVERY);
        self.next_ping = self.next_ping.min(now + self.ping_every);
    }

    pub(super) fn next_deadline(&self) -> Duration {
        let own = match self.stands_since {
            Some(_) => self.next_ping,
            None => self.opened + HELLO_DEADLINE,
        };
        own.min(self.silent_at())
    }
}
