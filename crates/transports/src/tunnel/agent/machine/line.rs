//! One connection, from the dial to its end.

use std::sync::Arc;
use std::time::Duration;

use crate::tunnel::frame::Assembly;
use crate::tunnel::limits::{HELLO_DEADLINE, PING_EVERY, READ_DEADLINE};

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
            self.next_ping = now + PING_EVERY;
        }
        due
    }

    pub(super) fn next_deadline(&self) -> Duration {
        let own = match self.stands_since {
            Some(_) => self.next_ping,
            None => self.opened + HELLO_DEADLINE,
        };
        own.min(self.silent_at())
    }
}
