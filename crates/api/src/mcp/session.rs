//! A legacy client's session: what it declared, what it waits for, and its streams.
//!
//! Ours, not the server's: many of them stand on one upstream session.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use broker::operations::subscribing::ResourceSubscription;
use serde_json::value::RawValue;
use tokio::sync::{OnceCell, OwnedMutexGuard};
use tokio_util::sync::CancellationToken;
use transports::LogLevel;

use super::abilities::Abilities;
use super::envelope::Id;
use super::era::Revision;
use super::facts::{Facts, Greeting, Outlet, Question};
use super::listener::Listener;
use super::log::{Log, Reader};
use super::running::{Requests, Runs};
use super::streams::{self, Streams};
use super::tasks::Whose;
use super::visit::Wish;

/// Questions of servers that wait for this client.
const MAX_QUESTIONS: usize = 64;
/// Resources one session may subscribe to.
const MAX_SUBSCRIPTIONS: usize = 256;

/// A legacy client's session.
#[derive(Debug)]
pub(super) struct Session {
    /// What it is and stays.
    pub(super) facts: Facts,
    /// What the client said first; HTTP+SSE opens the session before that.
    greeting: OnceLock<Greeting>,
    /// Who has the tasks of its calls, once it was asked for.
    pub(super) tasks: OnceLock<Whose>,
    /// Only with HTTP+SSE.
    outlet: OnceLock<Outlet>,
    /// What it wanted before a restart is brought back; so from the start where there was none.
    pub(super) restored: OnceCell<()>,
    /// Taken while the server is told again.
    telling: Arc<tokio::sync::Mutex<()>>,
    /// The connection that gets unsolicited messages.
    pub(super) listener: Listener,
    /// Cancelled when it ends.
    pub(super) gone: CancellationToken,
    /// One more than the place of the wanted log level; 0 before the client said so.
    level: AtomicU8,
    /// Milliseconds after the registry's start.
    used: AtomicU64,
    /// Connections that hold it open.
    open: AtomicUsize,
    /// Tells streams of this process apart from those before a restart.
    epoch: u32,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    asked: u64,
    streams: Streams,
    running: Requests,
    questions: HashMap<Id, Question>,
    subscriptions: HashMap<String, ResourceSubscription>,
}

impl Session {
    pub(super) fn new(facts: Facts) -> Self {
        let epoch = rand::random();
        Self {
            facts,
            greeting: OnceLock::new(),
            tasks: OnceLock::new(),
            outlet: OnceLock::new(),
            restored: OnceCell::new(),
            telling: Arc::default(),
            listener: Listener::default(),
            gone: CancellationToken::new(),
            level: AtomicU8::new(0),
            used: AtomicU64::new(0),
            open: AtomicUsize::new(0),
            epoch,
            state: Mutex::new(State {
                asked: 0,
                streams: Streams::new(epoch),
                running: Requests::default(),
                questions: HashMap::new(),
                subscriptions: HashMap::new(),
            }),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The client introduced itself. The first time counts.
    pub(super) fn greet(&self, greeting: Greeting) {
        let _ = self.greeting.set(greeting);
    }

    /// The revision spoken.
    pub(super) fn revision(&self) -> Revision {
        self.greeting
            .get()
            .map_or(Revision::V2024_11_05, |told| told.revision)
    }

    /// What the client can do for a server.
    pub(super) fn abilities(&self) -> Abilities {
        self.greeting
            .get()
            .map(|told| told.abilities)
            .unwrap_or_default()
    }

    /// The same as it declared it.
    pub(super) fn capabilities(&self) -> Arc<RawValue> {
        let told = self
            .greeting
            .get()
            .map(|told| Arc::clone(&told.capabilities));
        told.unwrap_or_else(|| Abilities::default().capabilities())
    }

    /// Gives it the one stream of HTTP+SSE.
    pub(super) fn let_out(&self, wish: Wish) -> Arc<Log> {
        let log = self.state().streams.open_once();
        let outlet = Outlet {
            log: Arc::clone(&log),
            wish,
        };
        let _ = self.outlet.set(outlet);
        log
    }

    /// The one stream of HTTP+SSE.
    pub(super) fn outlet(&self) -> Option<&Outlet> {
        self.outlet.get()
    }

    /// Somebody came with it.
    pub(super) fn touch(&self, at: u64) {
        self.used.store(at, Ordering::Relaxed);
    }

    /// When somebody last came with it; `None` while a connection holds it open.
    pub(super) fn idle_since(&self) -> Option<u64> {
        (self.open.load(Ordering::Relaxed) == 0).then(|| self.used.load(Ordering::Relaxed))
    }

    /// Holds it open as long as the guard lives.
    pub(super) fn hold(self: &Arc<Self>) -> Held {
        self.open.fetch_add(1, Ordering::Relaxed);
        Held(Arc::clone(self))
    }

    /// The least log level wanted; `None` before the client said so.
    pub(super) fn level(&self) -> Option<LogLevel> {
        let place = usize::from(self.level.load(Ordering::Relaxed)).checked_sub(1)?;
        LogLevel::ALL.get(place).copied()
    }

    /// `logging/setLevel`.
    pub(super) fn set_level(&self, level: LogLevel) {
        self.level.store(level as u8 + 1, Ordering::Relaxed);
    }

    /// Its turn to tell the server again what it wants.
    pub(super) async fn telling(&self) -> OwnedMutexGuard<()> {
        Arc::clone(&self.telling).lock_owned().await
    }

    /// A request runs as this call. False when too many run, or one of this id does.
    pub(super) fn begin(&self, id: &Id, call: Runs) -> bool {
        self.state().running.begin(id, call)
    }

    /// The request was answered; its questions are moot.
    pub(super) fn finish(&self, id: &Id) {
        let mut state = self.state();
        if let Some(call) = state.running.end(id) {
            state
                .questions
                .retain(|_, question| question.call_id != call.id);
        }
    }

    /// The call a request runs as.
    pub(super) fn running(&self, id: &Id) -> Option<Runs> {
        self.state().running.call(id)
    }

    /// All calls that run.
    pub(super) fn all_running(&self) -> Vec<Runs> {
        self.state().running.calls()
    }

    /// Asks the client something; the id to ask under, unless too much waits for it already.
    pub(super) fn ask(&self, question: Question) -> Option<Id> {
        let mut state = self.state();
        if state.questions.len() >= MAX_QUESTIONS {
            return None;
        }
        state.asked += 1;
        let id = Id::text(&format!("ask-{:x}-{:x}", self.epoch, state.asked));
        state.questions.insert(id.clone(), question);
        Some(id)
    }

    /// The client answered; whose question it was.
    pub(super) fn answered(&self, id: &Id) -> Option<Question> {
        self.state().questions.remove(id)
    }

    /// The question was withdrawn; the id it was asked under.
    pub(super) fn withdraw(&self, question: &Question) -> Option<Id> {
        let questions = &mut self.state().questions;
        let (id, _) = questions.iter().find(|(_, asked)| *asked == question)?;
        let id = id.clone();
        questions.remove(&id);
        Some(id)
    }

    /// A new stream of this session.
    pub(super) fn stream(&self) -> Arc<Log> {
        self.state().streams.open()
    }

    /// Forgets answered streams whose time is over.
    pub(super) fn forget_streams(&self) {
        self.state().streams.sweep();
    }

    /// Takes a stream up again after this event; `None` when it is not known (any more).
    pub(super) fn resume(&self, last_event_id: &str) -> Option<Reader> {
        self.state().streams.resume(last_event_id)
    }

    /// The id of an unsolicited message.
    pub(super) fn general_id(&self, number: u64) -> String {
        streams::general_id(self.epoch, number)
    }

    /// Keeps a subscription. False when there are too many.
    pub(super) fn subscribe(&self, uri: String, held: ResourceSubscription) -> bool {
        let subscriptions = &mut self.state().subscriptions;
        let fits = subscriptions.len() < MAX_SUBSCRIPTIONS || subscriptions.contains_key(&uri);
        if fits {
            subscriptions.insert(uri, held);
        }
        fits
    }

    /// Drops a subscription.
    pub(super) fn unsubscribe(&self, uri: &str) {
        let gone = self.state().subscriptions.remove(uri);
        drop(gone);
    }

    /// What is subscribed to.
    pub(super) fn subscribed(&self, uri: &str) -> bool {
        self.state().subscriptions.contains_key(uri)
    }

    /// All that is subscribed to.
    pub(super) fn subscriptions(&self) -> Vec<String> {
        self.state().subscriptions.keys().cloned().collect()
    }

    /// Ends it: streams close, subscriptions are dropped.
    pub(super) fn end(&self) {
        self.gone.cancel();
        let mut state = self.state();
        state.streams.end();
        let subscriptions = std::mem::take(&mut state.subscriptions);
        drop(state);
        drop(subscriptions);
    }
}

/// Holds a session open.
#[derive(Debug)]
pub(super) struct Held(Arc<Session>);

impl Drop for Held {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}
