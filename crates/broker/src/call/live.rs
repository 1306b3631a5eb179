//! Calls that run in this process: who waits for them, who may cancel them, and where they stand.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use sessions::SessionId;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::CallId;
use super::outcome::Ended;
use crate::call_state::CallState;
use crate::ledger::Intent;

/// Why a running call is stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stop {
    /// Its caller asked for it.
    Asked,
    /// The bridge shuts down.
    ShuttingDown,
}

/// One call that has not ended.
#[derive(Debug)]
pub(crate) struct Live {
    pub id: CallId,
    /// `call_…`, written once: every event of the call holds it.
    pub name: String,
    pub intent: Intent,
    pub since: Instant,
    cancel: CancellationToken,
    stop: OnceLock<Stop>,
    session: OnceLock<SessionId>,
    state: Mutex<CallState>,
    ended: watch::Sender<Option<Arc<Ended>>>,
}

impl Live {
    pub(crate) fn new(intent: Intent) -> Arc<Self> {
        Arc::new(Self {
            id: intent.id,
            name: intent.id.to_string(),
            intent,
            since: Instant::now(),
            cancel: CancellationToken::new(),
            stop: OnceLock::new(),
            session: OnceLock::new(),
            state: Mutex::new(CallState::Accepted),
            ended: watch::Sender::new(None),
        })
    }

    /// Asks it to stop.
    pub(crate) fn cancel(&self, why: Stop) {
        // The first reason stands.
        let _ = self.stop.set(why);
        self.cancel.cancel();
    }

    /// Resolves when it was asked to stop.
    pub(crate) async fn stopped(&self) -> Stop {
        self.cancel.cancelled().await;
        self.stop.get().copied().unwrap_or(Stop::Asked)
    }

    /// It was given to a session.
    pub(crate) fn dispatched(&self, session: SessionId) {
        let _ = self.session.set(session);
        self.advance(CallState::Dispatched);
    }

    /// Where it stands.
    pub(crate) fn advance(&self, state: CallState) {
        *self.state.lock().unwrap_or_else(PoisonError::into_inner) = state;
    }

    /// Where it stands.
    pub(crate) fn state(&self) -> CallState {
        *self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The session it runs on, once known.
    pub(crate) fn session(&self) -> Option<SessionId> {
        self.session.get().copied()
    }

    /// Whether anything may have reached the upstream.
    pub(crate) fn was_sent(&self) -> bool {
        self.session.get().is_some()
    }

    /// Tells everybody who waits how it ended.
    pub(crate) fn end(&self, ended: Arc<Ended>) {
        self.ended.send_replace(Some(ended));
    }

    /// Waits for the end; never without a deadline.
    pub(crate) async fn wait(&self, deadline: Instant) -> Option<Arc<Ended>> {
        let mut ended = self.ended.subscribe();
        let waited = tokio::time::timeout_at(deadline, ended.wait_for(Option::is_some)).await;
        waited.ok()?.ok()?.clone()
    }

    /// Waits for the end of a call that an owned task surely ends.
    pub(crate) async fn ended(&self) -> Option<Arc<Ended>> {
        let mut ended = self.ended.subscribe();
        ended.wait_for(Option::is_some).await.ok()?.clone()
    }
}

/// All calls that run in this process.
#[derive(Debug, Default)]
pub(crate) struct LiveCalls(Mutex<HashMap<CallId, Arc<Live>>>);

impl LiveCalls {
    fn calls(&self) -> MutexGuard<'_, HashMap<CallId, Arc<Live>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn insert(&self, live: &Arc<Live>) {
        self.calls().insert(live.id, Arc::clone(live));
    }

    pub(crate) fn get(&self, id: CallId) -> Option<Arc<Live>> {
        self.calls().get(&id).cloned()
    }

    pub(crate) fn remove(&self, id: CallId) {
        self.calls().remove(&id);
    }

    /// All of them, in no order.
    pub(crate) fn all(&self) -> Vec<Arc<Live>> {
        self.calls().values().cloned().collect()
    }
}
