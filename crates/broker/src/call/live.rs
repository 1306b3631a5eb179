//! Calls that run in this process: who waits for them, who may cancel them, and where they stand.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use foldhash::HashMap;
use sessions::SessionId;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use transports::tunnel::bridge::Agent;

use super::CallId;
use super::dialogue::Dialogue;
use super::outcome::Ended;
use super::telling::Dropped;
use crate::agents::round_id;
use crate::call_state::CallState;
use crate::events::Voice;
use crate::ledger::Intent;

/// Why a running call is stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stop {
    /// Its caller asked for it.
    Asked,
    /// The bridge shuts down.
    ShuttingDown,
    /// The agent that runs it was deleted.
    AgentGone,
}

/// One call that has not ended.
#[derive(Debug)]
pub(crate) struct Live {
    pub id: CallId,
    /// `call_…`, written once: every event of the call holds it.
    pub name: String,
    pub intent: Arc<Intent>,
    /// What it tells as events.
    pub voice: Voice,
    pub since: Instant,
    cancel: CancellationToken,
    stop: OnceLock<Stop>,
    /// The store was away when it began: its row is written whole, later.
    behind: AtomicBool,
    session: OnceLock<SessionId>,
    /// An earlier process of the bridge accepted it and may have sent it.
    adopted: bool,
    state: Mutex<CallState>,
    ended: watch::Sender<Option<Arc<Ended>>>,
    /// The agent that runs it, and the round of questions and answers it is in.
    agent: Option<Agent>,
    round: AtomicUsize,
    lost: Mutex<Dropped>,
    /// What its server asked back, and who follows it.
    pub dialogue: Dialogue,
}

impl Live {
    pub(crate) fn new(intent: Intent, agent: Option<Agent>) -> Arc<Self> {
        let voice = Voice::of(&intent);
        Arc::new(Self::made((intent, voice), agent, Instant::now()))
    }

    /// A call that an earlier process of the bridge accepted and an agent runs.
    pub(crate) fn adopted(intent: Intent, agent: Option<Agent>) -> Arc<Self> {
        let age = (chrono::Utc::now() - intent.created_at).to_std();
        let now = Instant::now();
        let since = now.checked_sub(age.unwrap_or_default()).unwrap_or(now);
        let voice = Voice::continued(&intent);
        let live = Self {
            adopted: true,
            ..Self::made((intent, voice), agent, since)
        };
        live.advance(CallState::Running);
        Arc::new(live)
    }

    fn made((intent, voice): (Intent, Voice), agent: Option<Agent>, since: Instant) -> Self {
        Self {
            id: intent.id,
            name: intent.id.to_string(),
            voice,
            intent: Arc::new(intent),
            since,
            agent,
            round: AtomicUsize::new(0),
            lost: Mutex::default(),
            cancel: CancellationToken::new(),
            stop: OnceLock::new(),
            behind: AtomicBool::new(false),
            session: OnceLock::new(),
            adopted: false,
            state: Mutex::new(CallState::Accepted),
            ended: watch::Sender::new(None),
            dialogue: Dialogue::default(),
        }
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

    /// Nothing of it is in the ledger while it runs.
    pub(crate) fn keep_behind(&self) {
        self.behind.store(true, Ordering::Relaxed);
    }

    /// Whether its intent is in the ledger, and its end goes there before it is told.
    pub(crate) fn is_stored(&self) -> bool {
        self.intent.is_durable() && !self.behind.load(Ordering::Relaxed)
    }

    /// It was given to a session.
    pub(crate) fn dispatched(&self, session: SessionId) {
        let _ = self.session.set(session);
        self.voice.on_session(session);
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
        self.adopted || self.session.get().is_some()
    }

    /// Whether it goes on without this process: an agent runs it, and the ledger knows of it.
    pub(crate) fn outlives_the_bridge(&self) -> bool {
        self.agent.is_some() && self.intent.is_durable()
    }

    /// A round begins; under which name the agent knows it. `None` where no agent runs it.
    pub(crate) fn begin_round(&self, round: usize) -> Option<Arc<str>> {
        let agent = self.agent.as_ref()?;
        let before = self.round.swap(round, Ordering::SeqCst);
        if before != round {
            // Its answer was a question, and that is answered: there is nothing more to keep.
            agent.settled(&round_id(&self.name, before));
        }
        Some(round_id(&self.name, round))
    }

    /// The agent lost words of it.
    pub(crate) fn lost(&self, lost: Dropped) {
        let mut all = self.lost.lock().unwrap_or_else(PoisonError::into_inner);
        all.add(lost);
    }

    /// What was lost and not told.
    pub(crate) fn take_lost(&self) -> Dropped {
        std::mem::take(&mut *self.lost.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Its end is kept: the agent may forget it.
    pub(crate) fn acknowledge(&self) {
        if let Some(agent) = &self.agent {
            let round = self.round.load(Ordering::SeqCst);
            agent.settled(&round_id(&self.name, round));
        }
    }

    /// Whether somebody waits to hear that its end is kept.
    pub(crate) fn is_acknowledged(&self) -> bool {
        self.agent.is_some()
    }

    /// Tells everybody who waits how it ended.
    pub(crate) fn end(&self, ended: Arc<Ended>) {
        self.ended.send_replace(Some(ended));
    }

    /// How it ended, once it has.
    pub(crate) fn outcome(&self) -> Option<Arc<Ended>> {
        self.ended.borrow().clone()
    }

    /// The size of its result.
    pub(crate) fn result_bytes(&self) -> usize {
        let ended = self.ended.borrow();
        let result = ended.as_ref().and_then(|ended| ended.outcome.as_ref().ok());
        result.map_or(0, |result| result.raw().get().len())
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
