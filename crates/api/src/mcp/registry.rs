//! All sessions of legacy clients in this process.
//!
//! A session is mostly its signed id: one that is not here (a restart, or the least used making room) is
//! brought back from it. Bounded in number, by user and in time.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use broker::Asker;
use serde_json::value::RawValue;
use tokio::time::Instant;

use super::Face;
use super::abilities::Abilities;
use super::era::Revision;
use super::facts::{Facts, Greeting};
use super::session::Session;
use super::session_id::{Nonce, Payload};
use super::signed::{Bound, Purpose, Signer};

/// Sessions of one user; the least used makes room and is brought back when it is asked for.
const MAX_PER_USER: usize = 4096;
/// Ids of ended sessions remembered, so that they stay ended.
const MAX_ENDED: usize = 65_536;
/// Largest `capabilities` kept as they were declared; of larger ones what is understood is kept.
const MAX_CAPABILITIES_BYTES: usize = 8 * 1024;
/// Bounds, from the configuration.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// A session nobody used for this long ends.
    pub(super) idle: Duration,
    /// Sessions of this process.
    pub(super) max: usize,
}

/// All sessions.
#[derive(Debug)]
pub(super) struct Registry {
    signer: Signer,
    limits: Limits,
    started: Instant,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    sessions: HashMap<String, Arc<Session>>,
    ended: HashSet<Nonce>,
    ended_order: VecDeque<Nonce>,
}

impl Registry {
    pub(super) fn new(signer: Signer, limits: Limits) -> Self {
        Self {
            signer,
            limits,
            started: Instant::now(),
            state: Mutex::default(),
        }
    }

    /// Signs for other parts of this face.
    pub(super) fn signer(&self) -> &Signer {
        &self.signer
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Opens a session for a client that said what it can do.
    pub(super) fn open(
        &self,
        asker: &Asker,
        face: &Face,
        (revision, capabilities): (Revision, Option<Box<RawValue>>),
    ) -> Arc<Session> {
        let abilities = capabilities
            .as_deref()
            .map(Abilities::read)
            .unwrap_or_default();
        let payload = Payload {
            nonce: rand::random(),
            revision,
            abilities,
        };
        let id = self
            .signer
            .seal(Purpose::Session, &bound(asker, face), &payload.write());
        let capabilities = capabilities.filter(|raw| raw.get().len() <= MAX_CAPABILITIES_BYTES);
        let capabilities = capabilities.map_or_else(|| abilities.capabilities(), Arc::from);
        let session = self.keep(asker, face, (id, &payload, Some(capabilities)));
        // Nothing was before it.
        let _ = session.restored.set(());
        session
    }

    /// Opens a session for a client of HTTP+SSE, which introduces itself later. It lives as long as its stream.
    pub(super) fn open_unmet(&self, asker: &Asker, face: &Face) -> Arc<Session> {
        let payload = Payload {
            nonce: rand::random(),
            revision: Revision::V2024_11_05,
            abilities: Abilities::default(),
        };
        let id = self
            .signer
            .seal(Purpose::Session, &bound(asker, face), &payload.write());
        let session = self.keep(asker, face, (id, &payload, None));
        let _ = session.restored.set(());
        session
    }

    /// The session of an id this principal was given for this endpoint; brought back when it is not here.
    pub(super) fn find(&self, asker: &Asker, face: &Face, id: &str) -> Option<Arc<Session>> {
        let who = &asker.principal;
        if let Some(session) = self.state().sessions.get(id) {
            let facts = &session.facts;
            let own = facts.user == who.user && facts.workspace == who.workspace;
            if !own || facts.face != *face {
                return None;
            }
            session.touch(self.now());
            return Some(Arc::clone(session));
        }
        let bytes = self
            .signer
            .open(Purpose::Session, &bound(asker, face), id)?;
        let payload = Payload::read(&bytes)?;
        if self.state().ended.contains(&payload.nonce) {
            return None;
        }
        let capabilities = payload.abilities.capabilities();
        Some(self.keep(asker, face, (id.to_owned(), &payload, Some(capabilities))))
    }

    fn keep(
        &self,
        asker: &Asker,
        face: &Face,
        (id, payload, capabilities): (String, &Payload, Option<Arc<RawValue>>),
    ) -> Arc<Session> {
        let who = &asker.principal;
        let session = Arc::new(Session::new(Facts {
            id: id.clone(),
            user: who.user.clone(),
            workspace: who.workspace.clone(),
            face: face.clone(),
            lane: payload.lane(),
        }));
        if let Some(capabilities) = capabilities {
            session.greet(Greeting {
                revision: payload.revision,
                capabilities,
                abilities: payload.abilities,
            });
        }
        session.touch(self.now());
        let mut state = self.state();
        // Two requests may bring the same session back at once.
        let session = Arc::clone(state.sessions.entry(id).or_insert(session));
        let crowd = state.least_used(&session, self.limits.max);
        drop(state);
        if let Some(crowd) = crowd {
            crowd.end();
        }
        session
    }

    /// Ends a session for good.
    pub(super) fn end(&self, session: &Session) {
        let mut state = self.state();
        state.sessions.remove(&session.facts.id);
        state.remember_ended(&session.facts.id);
        drop(state);
        session.end();
    }

    /// Ends what nobody used for the idle time, and forgets answered streams of the others.
    pub(super) fn sweep(&self) {
        let all: Vec<_> = self.state().sessions.values().cloned().collect();
        for session in &all {
            session.forget_streams();
        }
        let idle = u64::try_from(self.limits.idle.as_millis()).unwrap_or(u64::MAX);
        let Some(latest) = self.now().checked_sub(idle) else {
            return;
        };
        let mut state = self.state();
        let is_idle = |session: &Session| session.idle_since().is_some_and(|at| at < latest);
        let idle: Vec<_> = state
            .sessions
            .values()
            .filter(|one| is_idle(one))
            .cloned()
            .collect();
        for session in &idle {
            state.sessions.remove(&session.facts.id);
            state.remember_ended(&session.facts.id);
        }
        drop(state);
        for session in idle {
            session.end();
        }
    }

    /// A session that is here, by its id alone.
    pub(super) fn live(&self, asker: &Asker, id: &str) -> Option<Arc<Session>> {
        let session = Arc::clone(self.state().sessions.get(id)?);
        let facts = &session.facts;
        let own =
            facts.user == asker.principal.user && facts.workspace == asker.principal.workspace;
        own.then(|| {
            session.touch(self.now());
            session
        })
    }
}

impl State {
    /// Takes out the least used session when the newest is one too many.
    fn least_used(&mut self, newest: &Session, max: usize) -> Option<Arc<Session>> {
        let own = |one: &&Arc<Session>| one.facts.user == newest.facts.user;
        let all = self.sessions.len() > max;
        if !all && self.sessions.values().filter(own).count() <= MAX_PER_USER {
            return None;
        }
        let others = self
            .sessions
            .values()
            .filter(|one| one.facts.id != newest.facts.id);
        let crowd = others.filter(|one| all || own(one));
        let least = crowd
            .filter_map(|one| Some((one.idle_since()?, one)))
            .min_by_key(|(at, _)| *at);
        let id = least.map(|(_, one)| one.facts.id.clone())?;
        self.sessions.remove(&id)
    }

    fn remember_ended(&mut self, id: &str) {
        let Some(nonce) = Payload::of_known(id).map(|payload| payload.nonce) else {
            return;
        };
        if self.ended.insert(nonce) {
            self.ended_order.push_back(nonce);
        }
        if self.ended_order.len() > MAX_ENDED
            && let Some(oldest) = self.ended_order.pop_front()
        {
            self.ended.remove(&oldest);
        }
    }
}

fn bound<'a>(asker: &'a Asker, face: &'a Face) -> Bound<'a> {
    Bound {
        principal: &asker.principal,
        place: face.place(),
    }
}

#[cfg(test)]
mod tests {
    use broker::{Principal, Scopes};
    use serde_json::json;
    use sessions::{UserId, WorkspaceId};

    use super::*;
    use crate::mcp::initialize::raw;

    fn asker(user: &str) -> Asker {
        Asker::new(Principal {
            user: UserId::new(user).unwrap(),
            workspace: WorkspaceId::new("w").unwrap(),
            workspaces: Vec::new(),
            roles: Vec::new(),
            key_id: "k".to_owned(),
            scopes: Scopes::default(),
            expires_at: None,
        })
    }

    fn registry(max: usize) -> Registry {
        let limits = Limits {
            idle: Duration::from_hours(8),
            max,
        };
        Registry::new(Signer::new([1; 32]), limits)
    }

    fn open(registry: &Registry, who: &Asker) -> Arc<Session> {
        let capabilities = raw(&json!({"elicitation": {}}));
        registry.open(
            who,
            &Face::Deferred,
            (Revision::V2025_06_18, Some(capabilities)),
        )
    }

    #[tokio::test(start_paused = true)]
    async fn a_session_nobody_uses_ends_and_one_that_is_held_open_does_not() {
        let (registry, ann) = (registry(10), asker("ann"));
        let (idle, used, held) = (
            open(&registry, &ann),
            open(&registry, &ann),
            open(&registry, &ann),
        );
        let guard = held.hold();
        tokio::time::advance(Duration::from_hours(5)).await;
        assert!(
            registry
                .find(&ann, &Face::Deferred, &used.facts.id)
                .is_some()
        );
        tokio::time::advance(Duration::from_hours(5)).await;
        registry.sweep();
        assert!(idle.gone.is_cancelled());
        // Its id is good no more, although it is well signed.
        assert!(
            registry
                .find(&ann, &Face::Deferred, &idle.facts.id)
                .is_none()
        );
        assert!(
            registry
                .find(&ann, &Face::Deferred, &used.facts.id)
                .is_some()
        );
        assert!(!held.gone.is_cancelled());
        drop(guard);
    }

    #[tokio::test(start_paused = true)]
    async fn the_sweep_forgets_answered_streams_of_sessions_that_stay() {
        let (registry, ann) = (registry(10), asker("ann"));
        let session = open(&registry, &ann);
        let stream = session.stream();
        stream.prime();
        stream.end();
        let kept = Arc::downgrade(&stream);
        drop(stream);
        registry.sweep();
        assert!(kept.upgrade().is_some(), "it may still be taken up again");
        tokio::time::advance(Duration::from_mins(2)).await;
        registry.sweep();
        assert!(kept.upgrade().is_none());
        assert!(!session.gone.is_cancelled());
    }

    #[tokio::test(start_paused = true)]
    async fn the_least_used_makes_room_and_comes_back_with_what_it_was() {
        let (registry, ann) = (registry(2), asker("ann"));
        let first = open(&registry, &ann);
        tokio::time::advance(Duration::from_secs(1)).await;
        let second = open(&registry, &ann);
        tokio::time::advance(Duration::from_secs(1)).await;
        open(&registry, &ann);
        assert!(first.gone.is_cancelled());
        assert!(!second.gone.is_cancelled());
        let back = registry
            .find(&ann, &Face::Deferred, &first.facts.id)
            .unwrap();
        assert_eq!(back.revision(), Revision::V2025_06_18);
        assert_eq!(back.abilities(), first.abilities());
        assert_eq!(back.facts.lane, first.facts.lane);
        assert!(second.gone.is_cancelled(), "now that one makes room");
        assert_eq!(registry.state().sessions.len(), 2);
    }

    #[tokio::test]
    async fn a_session_that_was_ended_is_not_brought_back() {
        let (registry, ann) = (registry(10), asker("ann"));
        let session = open(&registry, &ann);
        registry.end(&session);
        assert!(
            registry
                .find(&ann, &Face::Deferred, &session.facts.id)
                .is_none()
        );
        assert!(registry.live(&ann, &session.facts.id).is_none());
        let other = open(&registry, &ann);
        assert!(registry.live(&asker("bob"), &other.facts.id).is_none());
        assert!(
            registry
                .find(&asker("bob"), &Face::Deferred, &other.facts.id)
                .is_none()
        );
    }
}
