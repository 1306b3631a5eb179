//! Numbers events, keeps the newest in memory, hands them to subscribers and to the store.
//!
//! Publishing never waits and never touches a disk.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use chrono::Utc;
use sessions::{UserId, WorkspaceId};
use tokio::time::Instant;

use super::subscription::{Queue, Subscription};
use super::{Event, EventKind, NewEvent};
use crate::error::BrokerError;
use crate::store::event_log::{Chunk, Marks};
use crate::store::{Store, StoreError};

/// Newest events of a workspace kept in memory, by count and by size.
const RING_EVENTS: usize = 4096;
const RING_BYTES: usize = 4 * 1024 * 1024;
/// Ids reserved in the store at once. They are never given out twice, whatever happens to the process.
const RESERVE: i64 = 1_000_000;
/// Reserve again when this few are left.
const RESERVE_BELOW: i64 = 500_000;
/// Events of read-only calls written to disk per workspace and second; past it only memory has them.
const DISK_EVENTS_A_SECOND: u32 = 500;
/// How long events gather before they go to the store as one run.
const GATHER: Duration = Duration::from_millis(20);
/// Largest run, in bytes.
const RUN_BYTES: usize = 256 * 1024;
/// How long before and after its calls a trace may have events.
const TRACE_MARGIN_MS: i64 = 1000;
/// Subscribers of one workspace.
const MAX_SUBSCRIBERS: usize = 1024;

/// Which events are wanted.
#[derive(Debug, Clone, Default)]
pub struct EventQuery {
    /// Only these types; empty = all.
    pub kinds: Vec<EventKind>,
    /// Only after this id; `Some(0)` = everything kept, `None` = from now (or a call's start).
    pub after: Option<u64>,
    /// Only of this call, from its start, until its end.
    pub call_id: Option<String>,
}

/// Who wants events.
#[derive(Debug, Clone)]
pub(crate) struct Viewer {
    /// The user; events of others are hidden.
    pub user: UserId,
    /// Sees everybody's.
    pub admin: bool,
}

impl Viewer {
    pub(super) fn sees(&self, event: &Event, query: &EventQuery) -> bool {
        let allowed = self.admin || event.user.as_ref().is_none_or(|user| *user == self.user);
        let wanted = query.kinds.is_empty() || query.kinds.contains(&event.kind);
        let of_call = query.call_id.is_none() || query.call_id == event.call_id;
        allowed && wanted && of_call
    }
}

/// One workspace's stream.
#[derive(Debug)]
pub(super) struct Stream {
    pub(super) workspace: WorkspaceId,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    next: i64,
    marks: Marks,
    /// Ids between what the store had at the start and the first id of this run may be lost.
    started_at: i64,
    reserving: bool,
    ring: VecDeque<Arc<Event>>,
    ring_bytes: usize,
    unwritten: Vec<Arc<Event>>,
    unwritten_bytes: usize,
    /// The newest event that went to no disk.
    shed: i64,
    budget: u32,
    budget_since: Instant,
    subscribers: Vec<Weak<Queue>>,
}

#[derive(Debug)]
struct Inner {
    store: Store,
    streams: Mutex<HashMap<WorkspaceId, Arc<Stream>>>,
    stopped: AtomicBool,
}

/// Numbers, keeps and sends events. Cheap to clone.
#[derive(Debug, Clone)]
pub struct EventHub {
    inner: Arc<Inner>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl EventHub {
    /// Reserves ids for every known workspace.
    ///
    /// # Errors
    /// `store_unavailable`.
    pub async fn start(store: &Store) -> Result<Self, BrokerError> {
        let inner = Inner {
            store: store.clone(),
            streams: Mutex::default(),
            stopped: AtomicBool::new(false),
        };
        let hub = Self {
            inner: Arc::new(inner),
        };
        for workspace in store.workspaces().await? {
            hub.add_workspace(&workspace).await?;
        }
        Ok(hub)
    }

    /// Makes a workspace's stream, once. Until then its events are dropped.
    ///
    /// # Errors
    /// `store_unavailable`.
    pub async fn add_workspace(&self, workspace: &WorkspaceId) -> Result<(), BrokerError> {
        if locked(&self.inner.streams).contains_key(workspace) {
            return Ok(());
        }
        let mut marks = self.inner.store.event_marks(workspace).await?;
        let next = marks.reserved.max(marks.written) + 1;
        marks.reserved = next + RESERVE;
        self.inner.store.mark_events(workspace, marks).await?;
        let state = State {
            next,
            marks,
            started_at: next,
            reserving: false,
            ring: VecDeque::new(),
            ring_bytes: 0,
            unwritten: Vec::new(),
            unwritten_bytes: 0,
            shed: marks.gone,
            budget: DISK_EVENTS_A_SECOND,
            budget_since: Instant::now(),
            subscribers: Vec::new(),
        };
        let stream = Arc::new(Stream {
            workspace: workspace.clone(),
            state: Mutex::new(state),
        });
        locked(&self.inner.streams)
            .entry(workspace.clone())
            .or_insert(stream);
        Ok(())
    }

    fn stream(&self, workspace: &WorkspaceId) -> Option<Arc<Stream>> {
        locked(&self.inner.streams).get(workspace).cloned()
    }

    /// Publishes one event; never waits. `volatile`: it tells of a call that changed nothing, so when there are
    /// very many a second it need not go to disk.
    pub fn publish_as(&self, event: NewEvent, volatile: bool) {
        let Some(stream) = self.stream(&event.workspace) else {
            return;
        };
        let mut state = locked(&stream.state);
        let id = state.next;
        state.next += 1;
        let event = Arc::new(Event {
            id: id.unsigned_abs(),
            kind: event.kind,
            ts: Utc::now(),
            trace_id: event.trace_id,
            session_id: event.session_id,
            call_id: event.call_id,
            data: Arc::from(event.data),
            user: event.user,
            workspace: event.workspace,
        });
        state.remember(&event);
        let first = state.queue_for_disk(&event, volatile);
        state.subscribers.retain(|queue| {
            queue
                .upgrade()
                .inspect(|queue| queue.offer(&event))
                .is_some()
        });
        let reserve = state.must_reserve();
        drop(state);
        if first {
            self.write_soon(&stream);
        }
        if reserve {
            self.reserve_soon(stream);
        }
    }

    /// Publishes one event that goes to disk; never waits.
    pub fn publish(&self, event: NewEvent) {
        self.publish_as(event, false);
    }

    /// Whether anybody listens in a workspace.
    #[must_use]
    pub fn has_subscribers(&self, workspace: &WorkspaceId) -> bool {
        self.stream(workspace)
            .is_some_and(|stream| !locked(&stream.state).subscribers.is_empty())
    }

    fn write_soon(&self, stream: &Arc<Stream>) {
        if self.inner.stopped.load(Ordering::SeqCst) {
            stream.write(&self.inner.store);
            return;
        }
        let (stream, store) = (Arc::clone(stream), self.inner.store.clone());
        tokio::spawn(async move {
            tokio::time::sleep(GATHER).await;
            stream.write(&store);
        });
    }

    fn reserve_soon(&self, stream: Arc<Stream>) {
        let store = self.inner.store.clone();
        tokio::spawn(async move {
            let marks = {
                let state = locked(&stream.state);
                Marks {
                    reserved: state.next + RESERVE,
                    gone: state.marks.gone.max(state.shed),
                    ..state.marks
                }
            };
            let reserved = store.mark_events(&stream.workspace, marks).await;
            let mut state = locked(&stream.state);
            state.reserving = false;
            if reserved.is_ok() {
                state.marks = marks;
            }
        });
    }

    /// Events from now on or from an id on, as one viewer may see them.
    pub(crate) fn subscribe(
        &self,
        workspace: &WorkspaceId,
        viewer: Viewer,
        query: EventQuery,
    ) -> Option<Subscription> {
        let stream = self.stream(workspace)?;
        let queue = Arc::new(Queue::new(viewer, query));
        {
            let mut state = locked(&stream.state);
            state.subscribers.retain(|queue| queue.strong_count() > 0);
            if state.subscribers.len() >= MAX_SUBSCRIBERS {
                return None;
            }
            state.subscribers.push(Arc::downgrade(&queue));
        }
        Some(Subscription::new(stream, queue, self.inner.store.clone()))
    }

    /// Kept events after an id, oldest first, and whether some before them are gone.
    ///
    /// # Errors
    /// `store_unavailable`.
    #[expect(
        clippy::too_many_arguments,
        reason = "where, for whom, which, and how many"
    )]
    pub(crate) async fn history(
        &self,
        workspace: &WorkspaceId,
        viewer: &Viewer,
        query: &EventQuery,
        limit: usize,
    ) -> Result<Vec<Arc<Event>>, BrokerError> {
        let Some(stream) = self.stream(workspace) else {
            return Ok(Vec::new());
        };
        let mut found = Vec::new();
        let mut after = i64::try_from(query.after.unwrap_or(0)).unwrap_or(i64::MAX);
        loop {
            let batch = stream.read_after(&self.inner.store, after).await?;
            let Some(last) = batch.last() else {
                return Ok(found);
            };
            after = i64::try_from(last.id).unwrap_or(i64::MAX);
            for event in batch {
                if viewer.sees(&event, query) {
                    found.push(event);
                    if found.len() >= limit {
                        return Ok(found);
                    }
                }
            }
        }
    }

    /// Kept events of one trace, oldest first; found by when its calls ran.
    ///
    /// # Errors
    /// `store_unavailable`.
    pub(crate) async fn of_trace(
        &self,
        workspace: &WorkspaceId,
        trace_id: &str,
        limit: usize,
    ) -> Result<Vec<Arc<Event>>, BrokerError> {
        let Some(stream) = self.stream(workspace) else {
            return Ok(Vec::new());
        };
        self.inner.store.flush().await;
        let Some((first, last)) = self.inner.store.trace_span(workspace, trace_id).await? else {
            return Ok(Vec::new());
        };
        let span = (
            first - TRACE_MARGIN_MS,
            last.saturating_add(TRACE_MARGIN_MS),
        );
        let mut events = stream.read_between(&self.inner.store, span).await?;
        events.retain(|event| event.trace_id.as_deref() == Some(trace_id));
        events.truncate(limit);
        Ok(events)
    }

    /// Writes what memory alone has, so that a clean stop loses nothing.
    pub async fn shutdown(&self) {
        self.inner.stopped.store(true, Ordering::SeqCst);
        let streams: Vec<_> = locked(&self.inner.streams).values().cloned().collect();
        for stream in streams {
            stream.write(&self.inner.store);
            let marks = {
                let state = locked(&stream.state);
                // Nothing past `next` was given out, and everything that was is written: no gap to tell of.
                Marks {
                    reserved: state.next - 1,
                    gone: state.marks.gone.max(state.shed),
                    ..state.marks
                }
            };
            self.inner.store.flush().await;
            if let Err(error) = self.inner.store.mark_events(&stream.workspace, marks).await {
                tracing::warn!(error = %error, "events.shutdown could not write its marks");
            }
        }
    }
}

impl State {
    fn remember(&mut self, event: &Arc<Event>) {
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
    fn queue_for_disk(&mut self, event: &Arc<Event>, volatile: bool) -> bool {
        if volatile {
            if self.budget_since.elapsed() >= Duration::from_secs(1) {
                self.budget_since = Instant::now();
                self.budget = DISK_EVENTS_A_SECOND;
            }
            if self.budget == 0 {
                self.shed = i64::try_from(event.id).unwrap_or(i64::MAX);
                return false;
            }
            self.budget -= 1;
        }
        self.unwritten_bytes += event.weight_bytes();
        self.unwritten.push(Arc::clone(event));
        self.unwritten.len() == 1
    }

    fn must_reserve(&mut self) -> bool {
        let due = self.marks.reserved - self.next < RESERVE_BELOW && !self.reserving;
        self.reserving |= due;
        due
    }

    /// Every event after this id is still to be had.
    fn floor(&self) -> i64 {
        match self.ring.front() {
            // Memory reaches back past the newest event that is on no disk.
            Some(first) if i64::try_from(first.id).unwrap_or(i64::MAX) > self.shed => {
                self.marks.gone.max(self.shed)
            }
            Some(first) => i64::try_from(first.id).unwrap_or(i64::MAX) - 1,
            None => self.marks.gone.max(self.shed),
        }
    }
}

impl Stream {
    /// Hands what is unwritten to the store, in runs.
    fn write(&self, store: &Store) {
        let unwritten = {
            let mut state = locked(&self.state);
            state.unwritten_bytes = 0;
            std::mem::take(&mut state.unwritten)
        };
        let mut run: Option<Chunk> = None;
        for event in unwritten {
            let Some(line) = event.to_line() else {
                continue;
            };
            let (id, time) = (
                i64::try_from(event.id).unwrap_or(i64::MAX),
                event.ts.timestamp_millis(),
            );
            let chunk = run.get_or_insert_with(|| Chunk {
                workspace: self.workspace.clone(),
                first_id: id,
                last_id: id,
                first_ms: time,
                last_ms: time,
                body: String::new(),
            });
            chunk.last_id = id;
            chunk.last_ms = chunk.last_ms.max(time);
            chunk.body.push_str(&line);
            chunk.body.push('\n');
            if chunk.body.len() >= RUN_BYTES
                && let Some(full) = run.take()
            {
                store.keep_events(full);
            }
        }
        if let Some(rest) = run {
            store.keep_events(rest);
        }
    }

    /// The newest id given out.
    pub(super) fn newest(&self) -> i64 {
        locked(&self.state).next - 1
    }

    /// Why events right after an id may be missing, if they may, and the oldest id that is whole.
    pub(super) fn missing_after(&self, after: i64) -> Option<(i64, &'static str)> {
        let state = locked(&self.state);
        let floor = state.floor();
        if after >= state.next {
            return Some((floor + 1, "the id was never given out"));
        }
        if after > state.marks.written && after < state.started_at - 1 {
            return Some((state.started_at, "the bridge was restarted"));
        }
        (after > 0 && after < floor).then_some((floor + 1, "older events are no longer kept"))
    }

    /// Some events after an id, oldest first; none when there are no more.
    pub(super) async fn read_after(
        &self,
        store: &Store,
        after: i64,
    ) -> Result<Vec<Arc<Event>>, StoreError> {
        let from_ring = |state: &State| -> Option<Vec<Arc<Event>>> {
            let first = i64::try_from(state.ring.front()?.id).unwrap_or(i64::MAX);
            // Ids rise by one in memory, so the ring has all that follows when it begins early enough.
            let whole =
                first <= after + 1 || first == state.started_at && after >= state.marks.written;
            let newer = state
                .ring
                .iter()
                .filter(|event| i64::try_from(event.id).is_ok_and(|id| id > after));
            whole.then(|| newer.cloned().collect())
        };
        if let Some(events) = from_ring(&locked(&self.state)) {
            return Ok(events);
        }
        self.write(store);
        store.flush().await;
        let bodies = store.events_after(&self.workspace, after).await?;
        let mut events = self.parse(&bodies);
        events.retain(|event| i64::try_from(event.id).is_ok_and(|id| id > after));
        if events.is_empty() {
            // What went to no disk may still be in memory.
            let state = locked(&self.state);
            events = state
                .ring
                .iter()
                .filter(|event| i64::try_from(event.id).is_ok_and(|id| id > after))
                .cloned()
                .collect();
        }
        Ok(events)
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
            let state = locked(&self.state);
            let oldest = state.ring.front().map(|event| event.ts.timestamp_millis());
            let covered = oldest.is_some_and(|oldest| oldest < span_ms.0);
            (
                state
                    .ring
                    .iter()
                    .filter(|event| inside(event))
                    .cloned()
                    .collect::<Vec<_>>(),
                covered,
            )
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
