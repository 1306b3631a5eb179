//! What one stream of a legacy client was told, kept so that it can be taken up again after a break.
//!
//! Written by the exchange, read by whichever connection the client has now. Bounded: notices give way
//! first; questions and answers never do. The stream of HTTP+SSE, which nobody takes up again, keeps only what
//! was not read yet.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::frame::{self, Outgoing, Weight};

/// Bytes of frames kept for a client that does not read; beyond it the oldest notices go.
const KEPT_BYTES: usize = 256 * 1024;
/// Frames kept, for the same reason.
const KEPT_FRAMES: usize = 512;
/// Bytes that are kept, and on a stream that forgets what was read those that wait: beyond it nobody is believed to
/// read, and the stream ends.
const MAX_BYTES: usize = 64 * 1024 * 1024;

/// One stream.
#[derive(Debug)]
pub(super) struct Log {
    name: String,
    /// What was read is not kept: nobody takes the stream up again.
    forgets: bool,
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    frames: VecDeque<Kept>,
    bytes: usize,
    /// Number of the last frame.
    last: u64,
    ended: Option<Instant>,
    /// Which reader has the stream; an older one ends.
    reader: u64,
}

#[derive(Debug)]
struct Kept {
    number: u64,
    bytes: Bytes,
    notice: bool,
}

impl Log {
    /// An empty stream; its events are numbered under this name.
    pub(super) fn new(name: String) -> Arc<Self> {
        Self::made(name, false)
    }

    /// An empty stream that keeps nothing once it was read.
    pub(super) fn forgetting(name: String) -> Arc<Self> {
        Self::made(name, true)
    }

    fn made(name: String, forgets: bool) -> Arc<Self> {
        Arc::new(Self {
            name,
            forgets,
            state: Mutex::default(),
            changed: Notify::new(),
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds the event that says where to resume.
    pub(super) fn prime(&self) {
        let mut state = self.state();
        state.last += 1;
        let bytes = frame::prime(&format!("{}.{:x}", self.name, state.last));
        state.keep(bytes, false);
        drop(state);
        self.changed.notify_waiters();
    }

    /// Adds a message.
    pub(super) fn push(&self, message: &Outgoing) {
        let mut state = self.state();
        if state.ended.is_some() {
            return;
        }
        state.last += 1;
        let id = format!("{}.{:x}", self.name, state.last);
        let bytes = frame::event(Some(&id), &message.json);
        state.keep(bytes, message.weight == Weight::Notice);
        if state.bytes > MAX_BYTES {
            state.ended = Some(Instant::now());
        }
        drop(state);
        self.changed.notify_waiters();
    }

    /// Nothing follows.
    pub(super) fn end(&self) {
        self.state().ended.get_or_insert_with(Instant::now);
        self.changed.notify_waiters();
    }

    /// Since when nothing follows.
    pub(super) fn ended(&self) -> Option<Instant> {
        self.state().ended
    }

    /// Bytes kept.
    pub(super) fn bytes(&self) -> usize {
        self.state().bytes
    }

    /// Reads on after this frame. An earlier reader ends: the client has a new connection.
    pub(super) fn read(self: &Arc<Self>, after: u64) -> Reader {
        let mut state = self.state();
        state.reader += 1;
        let turn = state.reader;
        drop(state);
        self.changed.notify_waiters();
        Reader {
            log: Arc::clone(self),
            after,
            turn,
        }
    }
}

impl State {
    fn keep(&mut self, bytes: Bytes, notice: bool) {
        self.bytes += bytes.len();
        self.frames.push_back(Kept {
            number: self.last,
            bytes,
            notice,
        });
        while self.bytes > KEPT_BYTES || self.frames.len() > KEPT_FRAMES {
            let Some(oldest) = self.frames.iter().position(|frame| frame.notice) else {
                return;
            };
            if let Some(gone) = self.frames.remove(oldest) {
                self.bytes -= gone.bytes.len();
            }
        }
    }

    /// The first frame after this one.
    fn after(&self, number: u64) -> Option<&Kept> {
        let at = self.frames.partition_point(|frame| frame.number <= number);
        self.frames.get(at)
    }

    /// Lets go of what was read.
    fn forget(&mut self, read: u64) {
        while let Some(frame) = self.frames.pop_front_if(|frame| frame.number <= read) {
            self.bytes -= frame.bytes.len();
        }
    }
}

/// One connection's place in a stream.
#[derive(Debug)]
pub(super) struct Reader {
    log: Arc<Log>,
    after: u64,
    turn: u64,
}

impl Reader {
    /// The next frame; `None` when nothing follows or another connection took over. Cancel safe.
    pub(super) async fn next(&mut self) -> Option<Bytes> {
        let log = Arc::clone(&self.log);
        loop {
            // Enabled before looking: a frame that comes in between wakes it.
            let mut changed = std::pin::pin!(log.changed.notified());
            changed.as_mut().enable();
            {
                let mut state = log.state();
                if state.reader != self.turn {
                    return None;
                }
                if let Some(next) = state.after(self.after) {
                    self.after = next.number;
                    let bytes = next.bytes.clone();
                    if log.forgets {
                        state.forget(self.after);
                    }
                    return Some(bytes);
                }
                if state.ended.is_some() {
                    return None;
                }
            }
            changed.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(text: &str, weight: Weight) -> Outgoing {
        Outgoing::on_the_way(text.as_bytes().to_vec(), weight)
    }

    async fn text(reader: &mut Reader) -> Option<String> {
        let frame = reader.next().await?;
        Some(String::from_utf8_lossy(&frame).into_owned())
    }

    #[tokio::test]
    async fn a_broken_stream_is_taken_up_where_it_broke() {
        let log = Log::new("a.1".to_owned());
        log.prime();
        log.push(&message("1", Weight::Notice));
        log.push(&message("2", Weight::Answer));
        log.end();
        let mut first = log.read(0);
        assert_eq!(
            text(&mut first).await.unwrap(),
            "id: a.1.1\nretry: 500\ndata:\n\n"
        );
        let mut second = log.read(1);
        assert_eq!(
            text(&mut first).await,
            None,
            "the newer connection has the stream"
        );
        assert_eq!(
            text(&mut second).await.unwrap(),
            "id: a.1.2\nevent: message\ndata: 1\n\n"
        );
        assert_eq!(
            text(&mut second).await.unwrap(),
            "id: a.1.3\nevent: message\ndata: 2\n\n"
        );
        assert_eq!(text(&mut second).await, None);
    }

    #[tokio::test]
    async fn notices_give_way_and_answers_do_not() {
        let log = Log::new("s".to_owned());
        log.push(&message("question", Weight::Question));
        for _ in 0..2 * KEPT_FRAMES {
            log.push(&message("notice", Weight::Notice));
        }
        log.push(&message("answer", Weight::Answer));
        log.end();
        assert_eq!(log.state().frames.len(), KEPT_FRAMES);
        let mut reader = log.read(0);
        assert!(text(&mut reader).await.unwrap().contains("question"));
        let mut last = String::new();
        while let Some(frame) = text(&mut reader).await {
            last = frame;
        }
        assert!(last.contains("answer"));
    }

    #[tokio::test]
    async fn a_stream_nobody_takes_up_again_keeps_only_what_waits() {
        let log = Log::forgetting("s".to_owned());
        let mut reader = log.read(0);
        let answer = "x".repeat(1024 * 1024);
        // Far more than may wait, and more answers than frames may be kept.
        for _ in 0..=MAX_BYTES / answer.len() {
            log.push(&message(&answer, Weight::Answer));
            assert!(text(&mut reader).await.unwrap().contains(&answer));
        }
        for _ in 0..=KEPT_FRAMES {
            log.push(&message("answer", Weight::Answer));
            assert!(text(&mut reader).await.is_some());
        }
        assert_eq!(log.bytes(), 0);
        assert!(log.ended().is_none());
        log.push(&message("notice", Weight::Notice));
        assert!(text(&mut reader).await.unwrap().contains("notice"));
    }

    #[tokio::test]
    async fn a_stream_nobody_reads_ends_at_its_bound() {
        let log = Log::forgetting("s".to_owned());
        let answer = "x".repeat(1024 * 1024);
        for _ in 0..=MAX_BYTES / answer.len() {
            log.push(&message(&answer, Weight::Answer));
        }
        assert!(log.ended().is_some());
    }

    #[tokio::test]
    async fn whoever_waits_is_woken_by_what_comes() {
        let log = Log::new("s".to_owned());
        let mut reader = log.read(0);
        let waiting = tokio::spawn(async move { reader.next().await });
        tokio::task::yield_now().await;
        log.push(&message("x", Weight::Answer));
        assert!(waiting.await.unwrap().is_some());
    }
}
