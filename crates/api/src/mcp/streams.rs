//! The streams of one legacy session that can be taken up again: numbered, kept for a while, bounded.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::log::{Log, Reader};

/// Streams of answered requests kept for clients that lost the connection just then.
const KEPT: usize = 8;
/// How long they are kept: several rounds of a client's backoff.
const KEPT_FOR: Duration = Duration::from_mins(1);
/// Bytes of them.
const KEPT_BYTES: usize = 1024 * 1024;
/// Stands in place of a stream's number in the ids of unsolicited messages.
const GENERAL: &str = "g";

/// The streams of one session.
#[derive(Debug)]
pub(super) struct Streams {
    /// Tells streams of this process apart from those before a restart.
    epoch: u32,
    next: u64,
    kept: VecDeque<(u64, Arc<Log>)>,
}

impl Streams {
    pub(super) fn new(epoch: u32) -> Self {
        Self {
            epoch,
            next: 0,
            kept: VecDeque::new(),
        }
    }

    /// A new stream.
    pub(super) fn open(&mut self) -> Arc<Log> {
        self.begin(Log::new)
    }

    /// A new stream that nobody takes up again.
    pub(super) fn open_once(&mut self) -> Arc<Log> {
        self.begin(Log::forgetting)
    }

    fn begin(&mut self, made: fn(String) -> Arc<Log>) -> Arc<Log> {
        self.next += 1;
        let log = made(format!("{:x}.{:x}", self.epoch, self.next));
        self.sweep();
        self.kept.push_back((self.next, Arc::clone(&log)));
        log
    }

    /// Takes a stream up again after this event; `None` when it is not known (any more).
    pub(super) fn resume(&self, last_event_id: &str) -> Option<Reader> {
        let mut parts = last_event_id.trim().split('.');
        let mut hex = || u64::from_str_radix(parts.next()?, 16).ok();
        let (epoch, number, after) = (hex()?, hex()?, hex()?);
        if epoch != u64::from(self.epoch) {
            return None;
        }
        let (_, log) = self.kept.iter().find(|(known, _)| *known == number)?;
        Some(log.read(after))
    }

    /// Ends all of them.
    pub(super) fn end(&mut self) {
        for (_, log) in self.kept.drain(..) {
            log.end();
        }
    }

    /// Forgets answered streams: the oldest first, beyond their number, time and size.
    pub(super) fn sweep(&mut self) {
        let now = Instant::now();
        let (mut kept, mut bytes) = (0, 0);
        // From the newest: what does not fit any more is older.
        for at in (0..self.kept.len()).rev() {
            let (_, log) = &self.kept[at];
            let Some(ended) = log.ended() else { continue };
            kept += 1;
            bytes += log.bytes();
            let late = now.saturating_duration_since(ended) > KEPT_FOR;
            if late || kept > KEPT || bytes > KEPT_BYTES {
                self.kept.remove(at);
            }
        }
    }
}

/// Whether an event belongs to the stream of unsolicited messages.
pub(super) fn is_general(last_event_id: &str) -> bool {
    last_event_id.trim().split('.').nth(1) == Some(GENERAL)
}

/// The id of an unsolicited message.
pub(super) fn general_id(epoch: u32, number: u64) -> String {
    format!("{epoch:x}.{GENERAL}.{number:x}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mcp::frame::{Outgoing, Weight};

    #[tokio::test(start_paused = true)]
    async fn answered_streams_are_kept_for_a_while_and_running_ones_stay() {
        let mut streams = Streams::new(0xa);
        let running = streams.open();
        running.prime();
        let answered = streams.open();
        answered.push(&Outgoing::on_the_way(b"{}".to_vec(), Weight::Answer));
        answered.end();
        assert!(streams.resume("a.2.0").is_some());
        assert!(streams.resume("b.2.0").is_none(), "another process's");
        assert!(streams.resume("a.3.0").is_none());
        assert!(streams.resume("nonsense").is_none());
        tokio::time::advance(KEPT_FOR * 2).await;
        streams.sweep();
        assert!(streams.resume("a.2.0").is_none());
        assert!(streams.resume("a.1.0").is_some());
        for _ in 0..KEPT * 2 {
            streams.open().end();
        }
        assert!(streams.kept.len() <= KEPT + 3, "{}", streams.kept.len());
        assert!(is_general(&general_id(7, 9)) && !is_general("a.1.0"));
    }
}
