//! What an agent's connections tell: who came and went as events, what it offers into the registry and the store.

use std::sync::{Arc, OnceLock, PoisonError, Weak};
use std::time::Duration;

use chrono::Utc;
use serde::Serialize;
use serde_json::value::to_raw_value;
use tokio::time::MissedTickBehavior;
use transports::tunnel::bridge::{AgentCatalogue, AgentFacts, AgentOwner, Fate, OwnFuture};
use transports::tunnel::limits::close;
use transports::tunnel::{AgentId, ReqId};

use super::fates::Whose;
use super::offered::Owner;
use super::{Agents, Known, Shared, names_of};
use crate::events::{EventKind, NewEvent};

/// How often it is looked whether the token of a connection is over.
const EXPIRY_LOOK: Duration = Duration::from_secs(1);
/// Pause after a catalogue could not be kept.
const RETRY: Duration = Duration::from_secs(2);

/// Whom the connections of one agent tell.
#[derive(Debug)]
pub(super) struct Keeper {
    shared: Arc<OnceLock<Weak<Shared>>>,
    /// `None`: the bridge's own.
    whose: Option<(Owner, AgentId)>,
}

impl Keeper {
    /// Of the bridge's own agent.
    pub(super) fn local(shared: Arc<OnceLock<Weak<Shared>>>) -> Self {
        Self {
            shared,
            whose: None,
        }
    }

    /// Of a user's agent.
    pub(super) fn of(shared: Weak<Shared>, owner: Owner, agent: AgentId) -> Self {
        Self {
            shared: Arc::new(OnceLock::from(shared)),
            whose: Some((owner, agent)),
        }
    }

    /// Sessions that wait for the bridge's own agent go on.
    fn own_is_back(&self) {
        let shared = self.shared.get().and_then(Weak::upgrade);
        if let (None, Some(shared)) = (&self.whose, shared)
            && let Some(own) = &shared.ground.own
        {
            shared.ground.sessions.agent_is_back(None, own.agent.id());
        }
    }

    /// The agents, and the one it is about; `None` once they are gone.
    fn known(&self) -> Option<(Agents, Arc<Known>)> {
        let (owner, agent) = self.whose.as_ref()?;
        let agents = Agents {
            shared: self.shared.get()?.upgrade()?,
        };
        let known = agents.get(owner, agent)?;
        Some((agents, known))
    }
}

impl AgentOwner for Keeper {
    fn online(&self, facts: &AgentFacts) {
        if let Some((agents, known)) = self.known() {
            agents.came(&known, facts);
        } else {
            self.own_is_back();
        }
    }

    fn offline(&self, why: &str) {
        if let Some((agents, known)) = self.known() {
            agents.went(&known, why);
        }
    }

    fn catalogue(&self, catalogue: Arc<AgentCatalogue>) {
        if let Some((agents, known)) = self.known() {
            agents.offers(&known, &catalogue);
        } else {
            // A server that was missing may be there now.
            self.own_is_back();
        }
    }

    fn fate(&self, req_id: &ReqId) -> OwnFuture<Fate> {
        let shared = self.shared.get().and_then(Weak::upgrade);
        let whose = match &self.whose {
            Some((owner, agent)) => Whose::User(owner.user.clone(), Arc::from(agent.as_str())),
            None => Whose::Everybody,
        };
        let req_id = req_id.clone();
        Box::pin(async move {
            let Some(shared) = shared else {
                return Fate::Awaited;
            };
            match shared.fate(&whose, &req_id).await {
                Ok(fate) => fate,
                Err(fault) => {
                    tracing::warn!(call.id = %req_id, error = %fault, "what became of a call is not known now");
                    // Not acknowledged: the agent keeps it and brings it again.
                    Fate::Awaited
                }
            }
        })
    }
}

impl Agents {
    fn came(&self, known: &Known, facts: &AgentFacts) {
        let ground = &self.shared.ground;
        let owner = &known.owner;
        tracing::info!(agent.id = %known.agent.id(), agent.epoch = facts.epoch, "agent.online");
        let whose = Some((&owner.workspace, &owner.user));
        ground.sessions.agent_is_back(whose, known.agent.id());
        ground
            .catalogues
            .agent_moved(owner, &self.servers_of(known));
        self.tell(known, EventKind::AgentOnline, None);
    }

    fn went(&self, known: &Arc<Known>, why: &str) {
        let ground = &self.shared.ground;
        tracing::info!(agent.id = %known.agent.id(), reason = why, "agent.offline");
        known.no_pass(known.agent.facts().epoch);
        known.change(|row| row.last_seen_at = Some(Utc::now()));
        ground
            .catalogues
            .agent_moved(&known.owner, &self.servers_of(known));
        self.tell(known, EventKind::AgentOffline, Some(why));
        let (store, known) = (ground.store.clone(), Arc::clone(known));
        ground.tasks.spawn(async move {
            let seen = store.agent_seen(&known.owner.user, known.agent.id());
            if let Err(error) = seen.await {
                // Only a display: the next connection notes itself.
                tracing::debug!(agent.id = %known.agent.id(), error = %error, "when an agent left could not be noted");
            }
        });
    }

    fn offers(&self, known: &Arc<Known>, catalogue: &AgentCatalogue) {
        let ground = &self.shared.ground;
        let before = self.servers_of(known);
        let names = names_of(catalogue);
        let offerer = (&known.agent, known.incarnation);
        ground.registry.offer(&known.owner, offerer, names);
        let after = self.servers_of(known);
        let whose = Some((&known.owner.workspace, &known.owner.user));
        ground.sessions.agent_is_back(whose, known.agent.id());
        for gone in before
            .iter()
            .filter(|one| !after.iter().any(|other| other.name == one.name))
        {
            ground.catalogues.tell_moved(&known.owner, &gone.name);
        }
        ground.catalogues.agent_moved(&known.owner, &after);
        let mut unkept = self
            .shared
            .unkept
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        // One place for each agent: bounded by how many there are.
        if !unkept.iter().any(|one| one.ptr_eq(&Arc::downgrade(known))) {
            unkept.push(Arc::downgrade(known));
        }
        drop(unkept);
        self.shared.keep.notify_one();
    }

    fn tell(&self, known: &Known, kind: EventKind, reason: Option<&str>) {
        #[derive(Serialize)]
        struct Told<'a> {
            agent_id: &'a str,
            #[serde(skip_serializing_if = "Option::is_none")]
            label: Option<String>,
            epoch: u64,
            #[serde(skip_serializing_if = "Option::is_none")]
            reason: Option<&'a str>,
        }
        let data = to_raw_value(&Told {
            agent_id: known.agent.id(),
            label: known.row().label,
            epoch: known.agent.facts().epoch,
            reason,
        });
        let Ok(data) = data else { return };
        self.shared.ground.events.publish(NewEvent {
            kind,
            workspace: known.owner.workspace.clone(),
            user: Some(known.owner.user.clone()),
            trace_id: None,
            session_id: None,
            call_id: None,
            agent_id: Some(known.agent.id().to_string()),
            data,
        });
    }

    /// Starts what keeps catalogues and watches tokens; it ends with `stop`.
    pub(super) fn start_keeping(&self) {
        let agents = self.clone();
        let stop = self.shared.ground.stop.clone();
        self.shared.ground.tasks.spawn(async move {
            tokio::select! {
                () = agents.keep_catalogues() => {}
                () = agents.watch_tokens() => {}
                () = stop.cancelled() => {}
            }
        });
    }

    async fn keep_catalogues(&self) {
        loop {
            self.shared.keep.notified().await;
            while let Some(known) = self.next_unkept() {
                let Ok(text) = serde_json::to_string(&*known.agent.catalogue()) else {
                    continue;
                };
                let (user, id) = (&known.owner.user, known.agent.id());
                let store = &self.shared.ground.store;
                let kept = store.keep_agent_catalogue(user, id, &text).await;
                if let Err(error) = kept {
                    tracing::warn!(agent.id = %id, error = %error, "an agent's catalogue could not be kept; trying again");
                    self.unkept().push(Arc::downgrade(&known));
                    tokio::time::sleep(RETRY).await;
                }
            }
        }
    }

    fn unkept(&self) -> std::sync::MutexGuard<'_, Vec<Weak<Known>>> {
        self.shared
            .unkept
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn next_unkept(&self) -> Option<Arc<Known>> {
        loop {
            let next = self.unkept().pop()?;
            if let Some(known) = next.upgrade() {
                return Some(known);
            }
        }
    }

    /// A token that is over ends its connection.
    async fn watch_tokens(&self) {
        let mut look = tokio::time::interval(EXPIRY_LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            look.tick().await;
            let now = Utc::now();
            let overdue: Vec<_> = {
                let known = self.known();
                let over = known.values().filter(|one| one.is_overdue(now));
                over.cloned().collect()
            };
            for known in overdue {
                // One that is being let in just now is looked at again when it stands.
                known.no_pass(known.agent.facts().epoch);
                let reason = "the token expired or was reset";
                known.agent.disconnect(close::REVOKED, reason);
            }
        }
    }
}
