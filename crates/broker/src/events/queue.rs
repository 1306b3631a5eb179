//! What waits for one reader of events: bounded, and honest about what it lost.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::json;
use serde_json::value::{RawValue, to_raw_value};
use sessions::UserId;
use tokio::sync::Notify;
use uuid::Uuid;

use super::event::Event;
use super::reading::{EventQuery, Viewer};
use super::{EventKind, Told};
use crate::call::CallId;

/// Events waiting for one reader, by count and by size. A reader this far behind loses logs first.
const QUEUE_EVENTS: usize = 1024;
const QUEUE_BYTES: usize = 4 * 1024 * 1024;

/// Which events one reader gets.
#[derive(Debug)]
pub(super) struct Wanted {
    viewer: Viewer,
    kinds: Vec<EventKind>,
    pub(super) call: Option<CallId>,
}

impl Wanted {
    pub(super) fn new(viewer: Viewer, query: &EventQuery) -> Self {
        // What is no call's id is no call's event.
        let call = |id: &String| CallId::parse(id).unwrap_or(CallId(Uuid::nil()));
        Self {
            viewer,
            kinds: query.kinds.clone(),
            call: query.call_id.as_ref().map(call),
        }
    }

    /// Whoever decides approvals hears of everybody's.
    fn decides(&self, event: &Event) -> bool {
        let about = [EventKind::ApprovalRequested, EventKind::ApprovalDecided];
        self.viewer.approver && about.contains(&event.kind)
    }

    pub(super) fn takes(&self, event: &Event) -> bool {
        let own = |user: &UserId| *user == self.viewer.user;
        (self.viewer.admin || event.user().is_none_or(own) || self.decides(event))
            && (self.kinds.is_empty() || self.kinds.contains(&event.kind))
            && (self.call.is_none() || self.call == event.call_id())
    }
}

/// The queue.
#[derive(Debug)]
pub(super) struct Queue {
    pub(super) wanted: Wanted,
    waiting: Mutex<Waiting>,
    pub(super) wake: Notify,
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

/// What came out.
pub(super) enum Popped {
    Event(Arc<Event>),
    Empty,
    Overrun,
}

impl Queue {
    pub(super) fn new(wanted: Wanted) -> Self {
        Self {
            wanted,
            waiting: Mutex::default(),
            wake: Notify::new(),
        }
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes an event if it is wanted; never waits.
    pub(super) fn offer(&self, event: &Arc<Event>) {
        if !self.wanted.takes(event) {
            return;
        }
        let mut waiting = self.waiting();
        if waiting.overrun {
            return;
        }
        waiting.bytes += event.weight_bytes();
        waiting.events.push_back(Arc::clone(event));
        while waiting.events.len() > QUEUE_EVENTS || waiting.bytes > QUEUE_BYTES {
            let is_log = |event: &Arc<Event>| event.kind == EventKind::ToolLog;
            let Some(at) = waiting.events.iter().position(is_log) else {
                // Only status and results are left, and those are never dropped: the reader starts anew.
                *waiting = Waiting {
                    overrun: true,
                    ..Waiting::default()
                };
                break;
            };
            if let Some(lost) = waiting.events.remove(at) {
                waiting.bytes -= lost.weight_bytes();
                waiting.lost_logs += 1;
                waiting.lost_bytes += lost.data().get().len();
                waiting.lost_event = Some(lost);
            }
        }
        drop(waiting);
        self.wake.notify_one();
    }

    pub(super) fn pop(&self) -> Popped {
        let mut waiting = self.waiting();
        if waiting.overrun {
            return Popped::Overrun;
        }
        if let Some(lost) = waiting.lost_event.take() {
            let (lines, bytes) = (
                std::mem::take(&mut waiting.lost_logs),
                std::mem::take(&mut waiting.lost_bytes),
            );
            return Popped::Event(told_lost(&lost, lines, bytes));
        }
        match waiting.events.pop_front() {
            Some(event) => {
                waiting.bytes -= event.weight_bytes();
                Popped::Event(event)
            }
            None => Popped::Empty,
        }
    }
}

/// A log event that stands for those that were dropped.
fn told_lost(last: &Event, lines: u64, bytes: usize) -> Arc<Event> {
    let data = json!({
        "req_id": last.call_id().map(|id| id.to_string()), "channel": "stderr", "data": "",
        "dropped_bytes": bytes, "dropped_lines": lines,
    });
    let subject = Arc::clone(&last.subject);
    Arc::new(Event::new(
        last.id,
        last.kind,
        last.ts,
        subject,
        Told::json(raw(&data)),
    ))
}

/// A value as raw JSON.
pub(super) fn raw(data: &serde_json::Value) -> Box<RawValue> {
    to_raw_value(data).unwrap_or_else(|_| RawValue::NULL.to_owned())
}
