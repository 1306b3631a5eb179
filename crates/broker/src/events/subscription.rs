//! One reader of events: first what is kept, then what comes; bounded, and honest about what it lost.

use std::collections::VecDeque;
use std::sync::{Arc, OnceLock};

use chrono::Utc;
use serde_json::json;

use super::event::{Event, Subject};
use super::queue::{Popped, Queue, raw};
use super::stream::Stream;
use super::{EventKind, Told};
use crate::store::{Store, StoreError};

/// A reader of one workspace's events. Dropping it ends it.
#[derive(Debug)]
pub struct Subscription {
    stream: Arc<Stream>,
    queue: Arc<Queue>,
    store: Store,
    replay: VecDeque<Arc<Event>>,
    replay_from: Replay,
    /// The newest id when the subscription began: up to it replay tells, after it the queue.
    until: i64,
    /// The newest id given out.
    given: i64,
    /// Whether it is told where events are missing: not when it asked for all there is, or for one call.
    told_gaps: bool,
    /// Ids an unclean stop may have lost.
    hole: Option<(i64, i64)>,
    started: bool,
    ended: bool,
}

/// Where replay goes on.
#[derive(Debug, Clone, Copy)]
enum Replay {
    /// After an id.
    Id(i64),
    /// Where the call began.
    Call,
    /// Nowhere: everything kept was given.
    Nowhere,
}

impl Subscription {
    pub(super) fn new(stream: Arc<Stream>, queue: Arc<Queue>, store: Store) -> Self {
        Self {
            stream,
            queue,
            store,
            replay: VecDeque::new(),
            replay_from: Replay::Nowhere,
            until: 0,
            given: 0,
            told_gaps: false,
            hole: None,
            started: false,
            ended: false,
        }
    }

    /// Where it begins: after an id, or from now; `told` is what the call it follows said so far.
    pub(super) fn starting(
        mut self,
        after: Option<u64>,
        until: i64,
        told: Option<Vec<Arc<Event>>>,
    ) -> Self {
        let after = after.map(|after| i64::try_from(after).unwrap_or(i64::MAX));
        let of_call = self.queue.wanted.call.is_some();
        self.until = until;
        self.given = after.unwrap_or(0);
        self.replay_from = match (told, after) {
            (Some(told), _) => {
                self.replay.extend(told);
                Replay::Nowhere
            }
            (None, _) if of_call => Replay::Call,
            (None, Some(after)) => Replay::Id(after),
            (None, None) => Replay::Nowhere,
        };
        self.told_gaps = !of_call && self.given > 0;
        self.hole = self.stream.hole().filter(|_| self.told_gaps);
        self
    }

    /// The next event; `None` when the stream is over: a call's end, or after a `resync` to a reader too slow.
    /// Safe to drop and call again.
    pub async fn next(&mut self) -> Option<Arc<Event>> {
        if self.ended {
            return None;
        }
        if !std::mem::replace(&mut self.started, true)
            && let Replay::Id(after) = self.replay_from
            && let Some(resync) = self.missing_after(after)
        {
            return Some(resync);
        }
        loop {
            if let Some(event) = self.replay.pop_front() {
                if let Some(resync) = self.gap_before(&event) {
                    self.replay.push_front(event);
                    return Some(resync);
                }
                if self.gives(&event) {
                    return Some(event);
                }
                continue;
            }
            if !matches!(self.replay_from, Replay::Nowhere) {
                self.read_more().await;
                continue;
            }
            match self.queue.pop() {
                Popped::Event(event) => {
                    if let Some(resync) = self.gap_before(&event) {
                        self.replay.push_front(event);
                        return Some(resync);
                    }
                    if self.gives(&event) {
                        return Some(event);
                    }
                }
                Popped::Overrun => {
                    self.ended = true;
                    return Some(self.resync(self.given + 1, "the reader was too slow"));
                }
                Popped::Empty => self.queue.wake.notified().await,
            }
        }
    }

    /// What was asked for is not there: told first, then everything that is.
    fn missing_after(&mut self, after: i64) -> Option<Arc<Event>> {
        if !self.told_gaps {
            return None;
        }
        let (oldest, reason) = self.stream.missing_after(&self.store, after)?;
        self.given = oldest - 1;
        self.replay_from = Replay::Id(oldest - 1);
        Some(self.resync(oldest, reason))
    }

    /// Between what was given and this event the bridge was killed, and what came in between may be lost.
    fn gap_before(&mut self, event: &Event) -> Option<Arc<Event>> {
        let (_, oldest) = self
            .hole
            .filter(|(_, oldest)| self.given < oldest - 1 && event.number() >= *oldest)?;
        self.hole = None;
        self.given = oldest - 1;
        Some(self.resync(oldest, "the bridge was restarted"))
    }

    async fn read_more(&mut self) {
        match self.read().await {
            Ok((events, last)) => {
                self.replay.extend(events);
                // Live events after `until` wait in the queue; replay need not go further.
                self.replay_from = match last {
                    Some(last) if last < self.until => Replay::Id(last),
                    _ => Replay::Nowhere,
                };
            }
            Err(error) => {
                tracing::warn!(error = %error, "events.replay failed");
                self.replay_from = Replay::Nowhere;
                let resync = self.resync(self.until + 1, "kept events cannot be read now");
                self.replay.push_back(resync);
            }
        }
    }

    /// Some more events, and the id of the last one.
    async fn read(&mut self) -> Result<(Vec<Arc<Event>>, Option<i64>), StoreError> {
        let after = match (self.replay_from, self.queue.wanted.call) {
            (Replay::Id(after), _) => after,
            (Replay::Call, Some(call)) => {
                let before = self.stream.before_call(&self.store, call).await?;
                before.max(self.given)
            }
            (Replay::Call | Replay::Nowhere, _) => return Ok((Vec::new(), None)),
        };
        let mut events = self.stream.read_after(&self.store, after).await?;
        // Asked after reading: a run lost in the meantime is missed.
        if self.told_gaps
            && let Some((oldest, reason)) = self.stream.missing_after(&self.store, after)
            && oldest - 1 > self.given
        {
            events.retain(|event| event.number() >= oldest);
            events.insert(0, self.resync(oldest, reason));
            self.given = oldest - 1;
        }
        let last = events.last().map(|event| event.number());
        events.retain(|event| event.kind == EventKind::Resync || self.queue.wanted.takes(event));
        Ok((events, last))
    }

    /// Whether an event is new to this reader and wanted.
    fn gives(&mut self, event: &Arc<Event>) -> bool {
        let id = event.number();
        let synthetic = event.kind == EventKind::ToolLog || event.kind == EventKind::Resync;
        if id < self.given || id == self.given && !synthetic || !self.queue.wanted.takes(event) {
            return event.kind == EventKind::Resync;
        }
        self.given = id;
        if event.kind == EventKind::ToolResult && self.queue.wanted.call.is_some() {
            self.ended = true;
        }
        true
    }

    fn resync(&self, oldest: i64, reason: &str) -> Arc<Event> {
        let oldest = oldest.max(0).unsigned_abs();
        let subject = Subject {
            workspace: self.stream.workspace.clone(),
            user: None,
            trace_id: None,
            call: None,
            agent: None,
            session: OnceLock::new(),
        };
        let data = json!({"oldest": format!("{oldest:016x}"), "reason": reason});
        Arc::new(Event::new(
            oldest.saturating_sub(1),
            EventKind::Resync,
            Utc::now(),
            Arc::new(subject),
            Told::json(raw(&data)),
        ))
    }
}
