//! Numbers events, keeps the newest in memory, hands them to subscribers and to the store.
//!
//! Publishing never waits and never touches a disk.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use chrono::Utc;
use foldhash::HashMap;
use sessions::{SessionId, WorkspaceId};

use super::event::{Event, Subject};
use super::stream::{RESERVE, Stream};
use super::{EventKind, NewEvent, Told, Voice};
use crate::call::CallId;
use crate::error::BrokerError;
use crate::store::Store;
use crate::store::event_log::Marks;

/// How long events gather before they go to the store as one run.
const GATHER: Duration = Duration::from_millis(50);

#[derive(Debug)]
pub(super) struct Inner {
    pub(super) store: Store,
    streams: Mutex<HashMap<WorkspaceId, Arc<Stream>>>,
    stopped: AtomicBool,
}

/// Numbers, keeps and sends events. Cheap to clone.
#[derive(Debug, Clone)]
pub struct EventHub {
    pub(super) inner: Arc<Inner>,
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

    fn streams(&self) -> MutexGuard<'_, HashMap<WorkspaceId, Arc<Stream>>> {
        self.inner
            .streams
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes a workspace's stream, once. Until then its events are dropped.
    ///
    /// # Errors
    /// `store_unavailable`.
    pub async fn add_workspace(&self, workspace: &WorkspaceId) -> Result<(), BrokerError> {
        if self.streams().contains_key(workspace) {
            return Ok(());
        }
        let mut marks = self.inner.store.event_marks(workspace).await?;
        let next = marks.reserved.max(marks.written) + 1;
        marks.reserved = next + RESERVE;
        // Ids after the last one written may have been given out and lost with the process. This process knows
        // exactly where; for later ones everything before counts as incomplete.
        let unclean = marks.written > 0 && next - marks.written > 1;
        let noted = Marks {
            gone: if unclean { next - 1 } else { marks.gone },
            ..marks
        };
        self.inner.store.mark_events(workspace, noted).await?;
        let stream = Arc::new(Stream::new(workspace.clone(), next, marks));
        self.streams().entry(workspace.clone()).or_insert(stream);
        Ok(())
    }

    pub(super) fn stream(&self, workspace: &WorkspaceId) -> Option<Arc<Stream>> {
        self.streams().get(workspace).cloned()
    }

    /// Publishes one event that goes to disk; never waits.
    pub fn publish(&self, event: NewEvent) {
        let session = OnceLock::new();
        if let Some(id) = event.session_id.as_deref().and_then(SessionId::parse) {
            let _ = session.set(id);
        }
        let subject = Arc::new(Subject {
            workspace: event.workspace,
            user: event.user,
            trace_id: event.trace_id,
            call: event.call_id.as_deref().and_then(CallId::parse),
            agent: event.agent_id.map(Arc::from),
            session,
        });
        self.tell_all(
            (&subject, None),
            [(event.kind, Told::json(event.data))],
            false,
        );
    }

    /// Tells what a call does; never waits. `volatile`: it changed nothing, so when there are very many such
    /// events a second they need not go to disk.
    pub(crate) fn tell(
        &self,
        voice: &Voice,
        told: impl IntoIterator<Item = (EventKind, Told)>,
        volatile: bool,
    ) {
        self.tell_all((&voice.subject, Some(voice)), told, volatile);
    }

    fn tell_all(
        &self,
        (subject, voice): (&Arc<Subject>, Option<&Voice>),
        told: impl IntoIterator<Item = (EventKind, Told)>,
        volatile: bool,
    ) {
        let Some(stream) = self.stream(&subject.workspace) else {
            return;
        };
        let now = Utc::now();
        let mut first = false;
        let mut state = stream.state();
        for (kind, told) in told {
            let id = state.next.unsigned_abs();
            state.next += 1;
            let event = Arc::new(Event::new(id, kind, now, Arc::clone(subject), told));
            state.remember(&event);
            first |= state.queue_for_disk(&event, volatile);
            if let Some(voice) = voice {
                voice.note(&event);
            }
            state.subscribers.retain(|queue| {
                queue
                    .upgrade()
                    .inspect(|queue| queue.offer(&event))
                    .is_some()
            });
        }
        let reserve = state.must_reserve();
        drop(state);
        if first {
            self.write_soon(&stream);
        }
        if reserve {
            self.reserve_soon(stream);
        }
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
            let marks = stream.marks(&store, |next| next + RESERVE);
            let reserved = store.mark_events(&stream.workspace, marks).await;
            let mut state = stream.state();
            state.reserving = false;
            if reserved.is_ok() {
                state.marks = marks;
            }
        });
    }

    /// Writes what memory alone has, so that a clean stop loses nothing.
    pub async fn shutdown(&self) {
        self.inner.stopped.store(true, Ordering::SeqCst);
        let streams: Vec<_> = self.streams().values().cloned().collect();
        let store = &self.inner.store;
        for stream in streams {
            stream.write(store);
            store.flush().await;
            // Nothing past this was given out, and everything that was is written: no gap to tell of.
            let marks = stream.marks(store, |next| next - 1);
            if let Err(error) = store.mark_events(&stream.workspace, marks).await {
                tracing::warn!(error = %error, "events.shutdown could not write its marks");
            }
        }
    }
}
