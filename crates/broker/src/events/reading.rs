//! What readers ask the hub for: to follow, what is kept, and what belongs to one trace.

use std::sync::Arc;

use sessions::{UserId, WorkspaceId};

use super::event::Event;
use super::queue::{Queue, Wanted};
use super::subscription::Subscription;
use super::{EventHub, EventKind, Voice};
use crate::error::BrokerError;

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
    /// Decides approvals.
    pub approver: bool,
}

impl EventHub {
    /// Events from now on or from an id on, as one viewer may see them. A call that runs brings its own.
    pub(crate) fn subscribe(
        &self,
        workspace: &WorkspaceId,
        (viewer, query): (Viewer, &EventQuery),
        voice: Option<&Voice>,
    ) -> Option<Subscription> {
        let stream = self.stream(workspace)?;
        let queue = Arc::new(Queue::new(Wanted::new(viewer, query)));
        let (until, told) = {
            let mut state = stream.state();
            state.subscribers.retain(|queue| queue.strong_count() > 0);
            if state.subscribers.len() >= MAX_SUBSCRIBERS {
                return None;
            }
            state.subscribers.push(Arc::downgrade(&queue));
            // Under the same lock: what is not told yet comes through the queue.
            (state.next - 1, voice.and_then(Voice::all))
        };
        let store = self.inner.store.clone();
        let subscription = Subscription::new(stream, queue, store);
        Some(subscription.starting(query.after, until, told))
    }

    /// Kept events after an id, oldest first. A call that memory has brings its own.
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
        (viewer, query): (Viewer, &EventQuery),
        voice: Option<&Voice>,
        limit: usize,
    ) -> Result<Vec<Arc<Event>>, BrokerError> {
        let Some(stream) = self.stream(workspace) else {
            return Ok(Vec::new());
        };
        let wanted = Wanted::new(viewer, query);
        let mut found = Vec::new();
        let mut after = i64::try_from(query.after.unwrap_or(0)).unwrap_or(i64::MAX);
        if let Some(mut said) = voice.and_then(Voice::all) {
            said.retain(|event| event.number() > after && wanted.takes(event));
            said.truncate(limit);
            return Ok(said);
        }
        if let Some(call) = wanted.call {
            after = after.max(stream.before_call(&self.inner.store, call).await?);
        }
        loop {
            let batch = stream.read_after(&self.inner.store, after).await?;
            let Some(last) = batch.last() else {
                return Ok(found);
            };
            after = last.number();
            for event in batch {
                if !wanted.takes(&event) {
                    continue;
                }
                let over = wanted.call.is_some() && event.kind == EventKind::ToolResult;
                found.push(event);
                if over || found.len() >= limit {
                    return Ok(found);
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
        events.retain(|event| event.trace_id() == Some(trace_id));
        events.truncate(limit);
        Ok(events)
    }
}
