//! One workspace's stream: its numbers, its newest events in memory, and where the older ones are.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use chrono::{DateTime, Utc};
use sessions::WorkspaceId;

use super::event::Event;
use super::queue::Queue;
use crate::call::CallId;
use crate::store::event_log::{Marks, Run};
use crate::store::{Store, StoreError};

/// Newest events of a workspace kept in memory, by count and by size.
const RING_EVENTS: usize = 4096;
const RING_BYTES: usize = 4 * 1024 * 1024;
/// Ids reserved in the store at once. They are never given out twice, whatever happens to the process.
pub(super) const RESERVE: i64 = 1_000_000;
/// Reserve again when this few are left.
const RESERVE_BELOW: i64 = 500_000;
/// Events of read-only calls written to disk per workspace and second; past it only memory has them.
const DISK_EVENTS_A_SECOND: u32 = 500;
/// Largest run, in bytes.
const RUN_BYTES: usize = 256 * 1024;
/// How long before its own id's time a call's first event may lie: clocks are set back.
const CALL_LEAD_MS: i64 = 1000;

/// The stream.
#[derive(Debug)]
pub(super) struct Stream {
    pub(super) workspace: WorkspaceId,
    state: Mutex<State>,
}

#[derive(Debug)]
pub(super) struct State {
    pub(super) next: i64,
    pub(super) marks: Marks,
    /// The first id of this process. Those between what the store had then and this may be lost.
    started_at: i64,
    pub(super) reserving: bool,
    ring: VecDeque<Arc<Event>>,
    ring_bytes: usize,
    unwritten: Vec<Arc<Event>>,
    /// The newest event that went to no disk.
    pub(super) shed: i64,
    budget: u32,
    budget_second: i64,
    pub(super) subscribers: Vec<Weak<Queue>>,
}

impl Stream {
    /// A stream whose first id is `next`.
    pub(super) fn new(workspace: WorkspaceId, next: i64, marks: Marks) -> Self {
        let state = State {
            next,
            marks,
            started_at: next,
            reserving: false,
            ring: VecDeque::new(),
            ring_bytes: 0,
            unwritten: Vec::new(),
            shed: marks.gone,
            budget: DISK_EVENTS_A_SECOND,
            budget_second: 0,
            subscribers: Vec::new(),
        };
        Self {
            workspace,
            state: Mutex::new(state),
        }
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hands what is unwritten to the store, in runs.
    pub(super) fn write(&self, store: &Store) {
        let (unwritten, shed) = {
            let mut state = self.state();
            (std::mem::take(&mut state.unwritten), state.shed)
        };
        let mut run: Option<Run> = None;
        for event in unwritten {
            let Some(line) = event.to_line() else {
                continue;
            };
            let (id, time) = (event.number(), event.ts.timestamp_millis());
            let filling = run.get_or_insert_with(|| Run {
                workspace: self.workspace.clone(),
                first_id: id,
                last_id: id,
                first_ms: time,
                last_ms: time,
                gone: shed,
                body: String::new(),
            });
            filling.last_id = id;
            filling.last_ms = filling.last_ms.max(time);
            filling.body.push_str(&line);
            if filling.body.len() >= RUN_BYTES
                && let Some(full) = run.take()
            {
                store.keep_events(full);
            }
        }
        if let Some(rest) = run {
            store.keep_events(rest);
        }
    }

    /// How far ids are reserved and what is gone, to be noted in the store.
    pub(super) fn marks(&self, store: &Store, reserved: impl FnOnce(i64) -> i64) -> Marks {
        let state = self.state();
        let gone = state.gone(store.lost_event(&self.workspace));
        Marks {
            reserved: reserved(state.next),
            gone,
            ..state.marks
        }
    }

    /// Why events right after an id may be missing, if they may, and the oldest id that is whole.
    pub(super) fn missing_after(&self, store: &Store, after: i64) -> Option<(i64, &'static str)> {
        let state = self.state();
        let floor = state.floor(store.lost_event(&self.workspace));
        if after >= state.next {
            return Some((floor + 1, "the id was never given out"));
        }
        if after > state.marks.written && after < state.started_at - 1 {
            return Some((state.started_at, "the bridge was restarted"));
        }
        (after > 0 && after < floor).then_some((floor + 1, "older events are no longer kept"))
    }

    /// The ids an unclean stop may have lost: those between these two.
    pub(super) fn hole(&self) -> Option<(i64, i64)> {
        let state = self.state();
        let hole = (state.marks.written, state.started_at);
        (hole.1 - hole.0 > 1 && hole.0 > 0).then_some(hole)
    }

    /// Some events after an id, oldest first; none when there are no more.
    pub(super) async fn read_after(
        &self,
        store: &Store,
        after: i64,
    ) -> Result<Vec<Arc<Event>>, StoreError> {
        if let Some(events) = self.state().ring_after(after) {
            return Ok(events);
        }
        self.write(store);
        store.flush().await;
        let bodies = store.events_after(&self.workspace, after).await?;
        let mut events = self.parse(&bodies);
        events.retain(|event| event.number() > after);
        if events.is_empty() {
            // What went to no disk may still be in memory.
            events = self.state().ring_from(|event| event.number() > after);
        }
        Ok(events)
    }

    /// An id before a call's first event, and near it.
    pub(super) async fn before_call(&self, store: &Store, call: CallId) -> Result<i64, StoreError> {
        let began = call.began_ms() - CALL_LEAD_MS;
        {
            let state = self.state();
            let first = state.ring.front();
            if first.is_some_and(|first| first.ts.timestamp_millis() < began) {
                let of_before = |event: &&Arc<Event>| event.ts.timestamp_millis() < began;
                return Ok(state
                    .ring
                    .iter()
                    .rfind(of_before)
                    .map_or(0, |event| event.number()));
            }
        }
        self.write(store);
        store.flush().await;
        if let Some(first) = store.first_event_since(&self.workspace, began).await? {
            return Ok(first - 1);
        }
        let state = self.state();
        Ok(state
            .ring
            .front()
            .map_or(state.next, |first| first.number())
            - 1)
    }

    /// Events of a span of time, from disk and memory, oldest first.
    pub(super) async fn read_between(
        &self,
        store: &Store,
        span_ms: (i64, i64),
    ) -> Result<Vec<Arc<Event>>, StoreError> {
        let inside =
            |event: &Arc<Event>| (span_ms.0..=span_ms.1).contains(&event.ts.timestamp_millis());
        let (mut events, covered) = {
            let state = self.state();
            let oldest = state.ring.front().map(|event| event.ts.timestamp_millis());
            let covered = oldest.is_some_and(|oldest| oldest < span_ms.0);
            (state.ring_from(inside), covered)
        };
        if covered {
            return Ok(events);
        }
        self.write(store);
        store.flush().await;
        let bodies = store.events_between(&self.workspace, span_ms).await?;
        events.extend(self.parse(&bodies).into_iter().filter(inside));
        events.sort_by_key(|event| event.id);
        events.dedup_by_key(|event| event.id);
        Ok(events)
    }

    fn parse(&self, bodies: &[String]) -> Vec<Arc<Event>> {
        let lines = bodies.iter().flat_map(|body| body.lines());
        lines
            .filter_map(|line| Event::from_line(line, &self.workspace))
            .map(Arc::new)
            .collect()
    }
}

impl State {
    pub(super) fn remember(&mut self, event: &Arc<Event>) {
        self.ring_bytes += event.weight_bytes();
        self.ring.push_back(Arc::clone(event));
        while self.ring.len() > RING_EVENTS || self.ring_bytes > RING_BYTES {
            let Some(oldest) = self.ring.pop_front() else {
                break;
            };
            self.ring_bytes -= oldest.weight_bytes();
        }
    }

    /// Queues an event for the store; true when somebody must start the writing.
    pub(super) fn queue_for_disk(&mut self, event: &Arc<Event>, volatile: bool) -> bool {
        if volatile && !self.spend(event.ts) {
            self.shed = event.number();
            return false;
        }
        self.unwritten.push(Arc::clone(event));
        self.unwritten.len() == 1
    }

    /// Takes one from what this second may write.
    fn spend(&mut self, now: DateTime<Utc>) -> bool {
        let second = now.timestamp();
        if second != self.budget_second {
            self.budget_second = second;
            self.budget = DISK_EVENTS_A_SECOND;
        }
        let left = self.budget.checked_sub(1);
        self.budget = left.unwrap_or(0);
        left.is_some()
    }

    pub(super) fn must_reserve(&mut self) -> bool {
        let due = self.marks.reserved - self.next < RESERVE_BELOW && !self.reserving;
        self.reserving |= due;
        due
    }

    /// The newest event that is on no disk, and will not be.
    fn gone(&self, lost: i64) -> i64 {
        self.marks.gone.max(self.shed).max(lost)
    }

    /// Every event after this id is still to be had.
    fn floor(&self, lost: i64) -> i64 {
        let gone = self.gone(lost);
        match self.ring.front() {
            // Memory reaches back past the newest event that is on no disk.
            Some(first) if first.number() <= gone => first.number() - 1,
            _ => gone,
        }
    }

    /// What follows an id, when memory has all of it.
    fn ring_after(&self, after: i64) -> Option<Vec<Arc<Event>>> {
        let first = self.ring.front()?.number();
        // Ids rise by one in memory, so the ring has all that follows when it begins early enough.
        let whole = first <= after + 1 || first == self.started_at && after >= self.marks.written;
        let skipped = usize::try_from(after + 1 - first).unwrap_or(0);
        whole.then(|| self.ring.iter().skip(skipped).cloned().collect())
    }

    fn ring_from(&self, wanted: impl Fn(&Arc<Event>) -> bool) -> Vec<Arc<Event>> {
        self.ring
            .iter()
            .filter(|event| wanted(event))
            .cloned()
            .collect()
    }
}
