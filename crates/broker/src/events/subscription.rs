//! One reader of events: first what is kept, then what comes; bounded, and honest about what it lost.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use chrono::{DateTime, Utc};
use serde_json::json;
use serde_json::value::{RawValue, to_raw_value};
use tokio::sync::Notify;

use super::hub::{EventQuery, Stream, Viewer};
use super::{Event, EventKind};
use crate::call::CallId;
use crate::store::Store;

/// Events waiting for one reader, by count and by size. A reader this far behind loses logs first.
const QUEUE_EVENTS: usize = 1024;
const QUEUE_BYTES: usize = 4 * 1024 * 1024;
/// How long before its own id's time a call's first event may lie.
const CALL_LEAD_MS: i64 = 1000;

/// What waits for one reader.
#[derive(Debug)]
pub(super) struct Queue {
    viewer: Viewer,
    query: EventQuery,
    state: Mutex<Waiting>,
    wake: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    events: VecDeque<Arc<Event>>,
    bytes: usize,
    /// Logs lost since the last one delivered.
    lost_logs: u64,
    lost_bytes: usize,
    lost_event: Option<Arc<Event>>,
    /// It fell too far behind: nothing more is taken.
    overrun: bool,
}

impl Queue {
    pub(super) fn new(viewer: Viewer, query: EventQuery) -> Self {
        Self {
            viewer,
            query,
            state: Mutex::default(),
            wake: Notify::new(),
        }
    }

    fn state(&self) -> MutexGuard<'_, Waiting> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes an event if it is wanted; never waits.
    pub(super) fn offer(&self, event: &Arc<Event>) {
        if !self.viewer.sees(event, &self.query) {
            return;
        }
        let mut state = self.state();
        if state.overrun {
            return;
        }
        state.bytes += event.weight_bytes();
        state.events.push_back(Arc::clone(event));
        while state.events.len() > QUEUE_EVENTS || state.bytes > QUEUE_BYTES {
            let Some(at) = state
                .events
                .iter()
                .position(|event| event.kind == EventKind::ToolLog)
            else {
                // Only status and results are left, and those are never dropped: the reader starts anew.
                *state = Waiting {
                    overrun: true,
                    ..Waiting::default()
                };
                break;
            };
            if let Some(lost) = state.events.remove(at) {
                state.bytes -= lost.weight_bytes();
                state.lost_logs += 1;
                state.lost_bytes += lost.data.get().len();
                state.lost_event = Some(lost);
            }
        }
        drop(state);
        self.wake.notify_one();
    }

    fn pop(&self) -> Popped {
        let mut state = self.state();
        if state.overrun {
            return Popped::Overrun;
        }
        if let Some(lost) = state.lost_event.take() {
            let (lines, bytes) = (
                std::mem::take(&mut state.lost_logs),
                std::mem::take(&mut state.lost_bytes),
            );
            return Popped::Event(told_lost(&lost, lines, bytes));
        }
        match state.events.pop_front() {
            Some(event) => {
                state.bytes -= event.weight_bytes();
                Popped::Event(event)
            }
            None => Popped::Empty,
        }
    }
}

enum Popped {
    Event(Arc<Event>),
    Empty,
    Overrun,
}

/// A log event that stands for those that were dropped.
fn told_lost(last: &Event, lines: u64, bytes: usize) -> Arc<Event> {
    let data = json!({
        "req_id": last.call_id, "channel": "stderr", "data": "", "dropped_bytes": bytes, "dropped_lines": lines,
    });
    Arc::new(Event {
        data: shared(&data),
        ..last.clone()
    })
}

fn shared(data: &serde_json::Value) -> Arc<RawValue> {
    Arc::from(to_raw_value(data).unwrap_or_else(|_| RawValue::NULL.to_owned()))
}

/// A reader of one workspace's events. Dropping it ends it.
#[derive(Debug)]
pub struct Subscription {
    stream: Arc<Stream>,
    queue: Arc<Queue>,
    store: Store,
    replay: VecDeque<Arc<Event>>,
    /// Where replay goes on; `None` once everything kept was given.
    replay_from: Option<i64>,
    /// The newest id when the subscription began: up to it replay tells, after it the queue.
    until: i64,
    /// The newest id given out.
    given: i64,
    started: bool,
    ended: bool,
}

impl Subscription {
    pub(super) fn new(stream: Arc<Stream>, queue: Arc<Queue>, store: Store) -> Self {
        let until = stream.newest();
        let whole_call = queue.query.call_id.is_some();
        let after = queue
            .query
            .after
            .map(|after| i64::try_from(after).unwrap_or(i64::MAX));
        let replay_from = after.or(whole_call.then_some(0));
        let given = after.unwrap_or(0);
        Self {
            stream,
            queue,
            store,
            replay: VecDeque::new(),
            replay_from,
            until,
            given,
            started: false,
            ended: false,
        }
    }

    /// The next event; `None` when the stream is over: a call's end, or after a `resync` to a reader too slow.
    /// Safe to drop and call again.
    pub async fn next(&mut self) -> Option<Arc<Event>> {
        if self.ended {
            return None;
        }
        if !std::mem::replace(&mut self.started, true)
            && let Some(resync) = self.first_resync()
        {
            return Some(resync);
        }
        loop {
            if let Some(event) = self.replay.pop_front() {
                if self.gives(&event) {
                    return Some(event);
                }
                continue;
            }
            if let Some(from) = self.replay_from {
                self.read_more(from).await;
                continue;
            }
            match self.queue.pop() {
                Popped::Event(event) if self.gives(&event) => return Some(event),
                Popped::Event(_) => {}
                Popped::Overrun => {
                    self.ended = true;
                    return Some(self.resync(self.given + 1, "the reader was too slow"));
                }
                Popped::Empty => self.queue.wake.notified().await,
            }
        }
    }

    /// What was asked for is not there: told first, then everything that is.
    fn first_resync(&mut self) -> Option<Arc<Event>> {
        let after = self
            .replay_from
            .filter(|_| self.queue.query.call_id.is_none())?;
        let (oldest, reason) = self.stream.missing_after(after)?;
        self.given = oldest - 1;
        self.replay_from = Some(oldest - 1);
        Some(self.resync(oldest, reason))
    }

    async fn read_more(&mut self, from: i64) {
        let read = match self.queue.query.call_id.as_deref().and_then(CallId::parse) {
            Some(call) => {
                // A call's id tells when it began, so its events are found by time.
                let (seconds, nanos) = call.0.get_timestamp().map_or((0, 0), |time| time.to_unix());
                let began =
                    i64::try_from(seconds * 1000 + u64::from(nanos / 1_000_000)).unwrap_or(0);
                self.replay_from = None;
                self.stream
                    .read_between(&self.store, (began - CALL_LEAD_MS, i64::MAX))
                    .await
            }
            None => self.stream.read_after(&self.store, from).await,
        };
        match read {
            Ok(events) => {
                let last = events
                    .last()
                    .map(|event| i64::try_from(event.id).unwrap_or(i64::MAX));
                self.replay.extend(events);
                // Live events after `until` wait in the queue; replay need not go further.
                if self.replay_from.is_some() {
                    self.replay_from = last.filter(|last| *last < self.until);
                }
            }
            Err(error) => {
                tracing::warn!(error = %error, "events.replay failed");
                self.replay_from = None;
                let resync = self.resync(self.until + 1, "kept events cannot be read now");
                self.replay.push_back(resync);
            }
        }
    }

    /// Whether an event is new to this reader and wanted.
    fn gives(&mut self, event: &Arc<Event>) -> bool {
        let id = i64::try_from(event.id).unwrap_or(i64::MAX);
        let synthetic = event.kind == EventKind::ToolLog || event.kind == EventKind::Resync;
        if id < self.given
            || id == self.given && !synthetic
            || !self.queue.viewer.sees(event, &self.queue.query)
        {
            return event.kind == EventKind::Resync;
        }
        self.given = id;
        if event.kind == EventKind::ToolResult && self.queue.query.call_id.is_some() {
            self.ended = true;
        }
        true
    }

    fn resync(&self, oldest: i64, reason: &str) -> Arc<Event> {
        let oldest = oldest.max(0).unsigned_abs();
        Arc::new(Event {
            id: oldest.saturating_sub(1),
            kind: EventKind::Resync,
            ts: DateTime::<Utc>::from(std::time::SystemTime::now()),
            trace_id: None,
            session_id: None,
            call_id: None,
            data: shared(&json!({"oldest": format!("{oldest:016x}"), "reason": reason})),
            user: None,
            workspace: self.stream.workspace.clone(),
        })
    }
}
