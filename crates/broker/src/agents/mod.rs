//! The agents of users: programs that stand where the tools are and dial out to the bridge (docs/tunnel.md).
//!
//! Whose an agent is, which token of it is good, what it offers, and which one a caller means. The protocol itself is
//! `transports::tunnel`'s; what its calls leave in the ledger is `call`'s.

mod binding;
mod door;
mod fates;
mod keeping;
pub mod local;
pub(crate) mod offered;
pub mod pairing;
mod token;

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::Duration;

use chrono::{DateTime, Utc};
use sessions::{Lane, Sessions, UserId};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use transports::tunnel::AgentId;
use transports::tunnel::bridge::{Agent, AgentCatalogue, Refused};
use transports::tunnel::limits::close;

pub(crate) use self::binding::{Aim, agent_named, no_such_agent};
pub use self::door::AgentDoor;
pub(crate) use self::fates::round_id;
use self::keeping::Keeper;
pub use self::local::{LOCAL_AGENT, LocalRunner, LocalServer};
pub(crate) use self::offered::Owner;
use self::pairing::Pairings;
use self::token::Tokens;
use crate::call::live::LiveCalls;
use crate::catalogue::Catalogues;
use crate::error::BrokerError;
use crate::events::EventHub;
use crate::registry::{Registry, Server};
use crate::store::{AgentRow, Store};

/// How long agents have to take their farewell.
const FAREWELL: Duration = Duration::from_secs(1);
/// Servers that lead to an agent, as each user's calls see them; one is some hundred bytes.
const MAX_BOUND: u64 = 20_000;

/// One agent of a user.
#[derive(Debug)]
pub(crate) struct Known {
    pub owner: Owner,
    pub agent: Agent,
    /// As [`crate::registry::Via::incarnation`].
    pub incarnation: u64,
    row: Mutex<AgentRow>,
    /// By which token the present connection came in.
    pass: Mutex<Option<Pass>>,
}

/// A token a connection came in by.
#[derive(Debug, Clone, Copy)]
struct Pass {
    /// Of the connection.
    epoch: u64,
    version: u64,
    expires_at: DateTime<Utc>,
}

impl Known {
    /// What the store knows of it.
    pub(crate) fn row(&self) -> AgentRow {
        let row = self.row.lock().unwrap_or_else(PoisonError::into_inner);
        row.clone()
    }

    fn change(&self, change: impl FnOnce(&mut AgentRow)) {
        change(&mut self.row.lock().unwrap_or_else(PoisonError::into_inner));
    }

    fn pass(&self, pass: Pass) {
        *self.pass.lock().unwrap_or_else(PoisonError::into_inner) = Some(pass);
    }

    /// Forgets by which token a connection came in, unless a newer one is being let in.
    fn no_pass(&self, epoch: u64) {
        let mut pass = self.pass.lock().unwrap_or_else(PoisonError::into_inner);
        if pass.is_some_and(|pass| pass.epoch <= epoch) {
            *pass = None;
        }
    }

    /// Whether the present connection came in by a token that is not good any more: it expired, or was reset while
    /// the connection was being let in.
    fn is_overdue(&self, now: DateTime<Utc>) -> bool {
        let pass = *self.pass.lock().unwrap_or_else(PoisonError::into_inner);
        let live = || {
            let row = self.row.lock().unwrap_or_else(PoisonError::into_inner);
            row.token_version
        };
        pass.is_some_and(|pass| pass.expires_at <= now || pass.version != live())
    }
}

/// The bridge's own agent, made before there is anybody it could tell anything.
#[derive(Debug, Clone)]
pub(crate) struct Own {
    pub agent: Agent,
    shared: Arc<OnceLock<Weak<Shared>>>,
}

impl Own {
    /// An agent nobody has heard of yet.
    pub(crate) fn new() -> Option<Self> {
        let shared = Arc::<OnceLock<Weak<Shared>>>::default();
        let id = AgentId::new(LOCAL_AGENT.trim_start_matches('@')).ok()?;
        let keeper = Keeper::local(Arc::clone(&shared));
        Some(Self {
            agent: Agent::new(id, Arc::new(keeper)),
            shared,
        })
    }
}

/// What the agents stand on.
#[derive(Debug)]
pub(crate) struct Ground {
    pub store: Store,
    pub sessions: Sessions,
    pub registry: Arc<Registry>,
    pub catalogues: Catalogues,
    pub events: EventHub,
    pub live: Arc<LiveCalls>,
    pub tasks: TaskTracker,
    pub stop: CancellationToken,
    pub own: Option<Own>,
}

/// The lanes of a user that mean a certain agent.
type Defaults = HashMap<Owner, BTreeMap<Lane, AgentId>>;

#[derive(Debug)]
pub(crate) struct Shared {
    ground: Ground,
    pub(crate) tokens: Tokens,
    pub(crate) pairings: Pairings,
    known: Mutex<HashMap<(UserId, AgentId), Arc<Known>>>,
    defaults: Mutex<Defaults>,
    /// By the versions of definition and agent.
    bound: moka::sync::Cache<(u64, u64), Arc<Server>>,
    /// Agents whose catalogue is to be kept, and who is told of it.
    unkept: Mutex<Vec<Weak<Known>>>,
    keep: Notify,
    /// The bridge goes: nobody is let in any more.
    closing: AtomicBool,
}

impl Shared {
    /// Whether agents are let in.
    ///
    /// # Errors
    /// Not once the bridge goes.
    fn check_open(&self) -> Result<(), Refused> {
        if self.closing.load(Ordering::SeqCst) {
            return Err(Refused {
                reason: "the bridge shuts down".to_owned(),
            });
        }
        Ok(())
    }
}

/// All agents of this process. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Agents {
    pub(crate) shared: Arc<Shared>,
}

impl Agents {
    /// Those the store knows, all of them away.
    ///
    /// # Errors
    /// `store_unavailable`.
    pub(crate) async fn start(ground: Ground) -> Result<Self, BrokerError> {
        let tokens = Tokens::load(&ground.store).await?;
        let (rows, lanes) = (
            ground.store.agents().await?,
            ground.store.default_agents().await?,
        );
        let own = ground.own.clone();
        let agents = Self {
            shared: Arc::new(Shared {
                ground,
                tokens,
                pairings: Pairings::default(),
                known: Mutex::default(),
                defaults: Mutex::default(),
                bound: moka::sync::Cache::new(MAX_BOUND),
                unkept: Mutex::default(),
                keep: Notify::new(),
                closing: AtomicBool::new(false),
            }),
        };
        if let Some(own) = own {
            // The first time is the only one.
            let _ = own.shared.set(Arc::downgrade(&agents.shared));
        }
        for row in rows {
            agents.add(row);
        }
        for ((workspace, user, lane), agent) in lanes {
            if let Ok(agent) = AgentId::new(&agent) {
                let owner = Owner { workspace, user };
                agents.set_default(&owner, lane, Some(agent));
            }
        }
        agents.start_keeping();
        Ok(agents)
    }

    fn known(&self) -> MutexGuard<'_, HashMap<(UserId, AgentId), Arc<Known>>> {
        self.shared
            .known
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn defaults(&self) -> MutexGuard<'_, Defaults> {
        self.shared
            .defaults
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// One of the owner's agents.
    pub(crate) fn get(&self, owner: &Owner, id: &AgentId) -> Option<Arc<Known>> {
        let found = self.of_user(&owner.user, id)?;
        (found.owner.workspace == owner.workspace).then_some(found)
    }

    /// One of a user's agents, whatever its workspace.
    pub(crate) fn of_user(&self, user: &UserId, id: &AgentId) -> Option<Arc<Known>> {
        self.known().get(&(user.clone(), id.clone())).cloned()
    }

    /// The owner's agents, by id.
    pub(crate) fn all(&self, owner: &Owner) -> Vec<Arc<Known>> {
        let known = self.known();
        let mut own: Vec<_> = known
            .values()
            .filter(|one| one.owner == *owner)
            .cloned()
            .collect();
        own.sort_by(|one, other| one.agent.id().cmp(other.agent.id()));
        own
    }

    /// The bridge's own.
    pub(crate) fn own(&self) -> Option<&Agent> {
        self.shared.ground.own.as_ref().map(|own| &own.agent)
    }

    /// Makes an agent known, or changes what is known of it.
    pub(crate) fn add(&self, row: AgentRow) -> Option<Arc<Known>> {
        let id = AgentId::new(&row.agent_id).ok()?;
        let owner = Owner::new(&row.workspace, &row.user);
        let mut known = self.known();
        let key = (row.user.clone(), id.clone());
        if let Some(here) = known.get(&key).filter(|here| here.owner == owner) {
            here.change(|held| *held = row);
            return Some(Arc::clone(here));
        }
        let keeper = Keeper::of(Arc::downgrade(&self.shared), owner.clone(), id.clone());
        let agent = Agent::new(id, Arc::new(keeper));
        let kept = row.catalogue.as_deref().map(serde_json::from_str);
        match kept {
            Some(Ok(catalogue)) => agent.restore_catalogue(catalogue),
            Some(Err(_)) => {
                tracing::warn!(agent.id = %agent.id(), "an agent's kept catalogue cannot be read; it will tell it again");
            }
            None => {}
        }
        let one = Arc::new(Known {
            owner: owner.clone(),
            agent: agent.clone(),
            incarnation: self.shared.ground.registry.next_generation(),
            // The catalogue is the agent's own from here on.
            row: Mutex::new(AgentRow {
                catalogue: None,
                ..row
            }),
            pass: Mutex::default(),
        });
        known.insert(key, Arc::clone(&one));
        drop(known);
        let names = names_of(&agent.catalogue());
        let offerer = (&agent, one.incarnation);
        self.shared.ground.registry.offer(&owner, offerer, names);
        Some(one)
    }

    /// Forgets an agent and closes its connection.
    pub(crate) fn remove(&self, known: &Known) {
        let key = (known.owner.user.clone(), known.agent.id().clone());
        self.known().remove(&key);
        if let Some(lanes) = self.defaults().get_mut(&known.owner) {
            lanes.retain(|_, agent| agent != known.agent.id());
        }
        known
            .agent
            .disconnect(close::REVOKED, "the agent was deleted");
        let ground = &self.shared.ground;
        let gone = self.servers_of(known);
        let offerer = (&known.agent, known.incarnation);
        ground.registry.offer(&known.owner, offerer, Vec::new());
        for server in gone {
            ground.catalogues.tell_moved(&known.owner, &server.name);
        }
    }

    /// Says which agent a lane means.
    pub(crate) fn set_default(&self, owner: &Owner, lane: Lane, agent: Option<AgentId>) {
        let mut defaults = self.defaults();
        let lanes = defaults.entry(owner.clone()).or_default();
        match agent {
            Some(agent) => drop(lanes.insert(lane, agent)),
            None => drop(lanes.remove(&lane)),
        }
        if lanes.is_empty() {
            defaults.remove(owner);
        }
    }

    /// The lanes that mean a certain agent, by lane.
    pub(crate) fn lanes(&self, owner: &Owner) -> BTreeMap<Lane, AgentId> {
        self.defaults().get(owner).cloned().unwrap_or_default()
    }

    /// Closes every connection: the bridge goes, what runs goes on running. Waits a moment until they are closed, so
    /// that nothing said afterwards reaches an agent.
    pub(crate) async fn say_goodbye(&self) {
        self.shared.closing.store(true, Ordering::SeqCst);
        let all: Vec<_> = self.known().values().cloned().collect();
        let agents = all.iter().map(|known| &known.agent).chain(self.own());
        let mut online = Vec::new();
        for agent in agents {
            agent.disconnect(close::GOING_AWAY, "the bridge shuts down");
            online.push(agent.online_changes());
        }
        let closed = async {
            for mut online in online {
                // An agent that is gone altogether is closed, too.
                let _ = online.wait_for(|online| !online).await;
            }
        };
        // One that does not take its farewell is left standing.
        let _ = tokio::time::timeout(FAREWELL, closed).await;
    }
}

/// The servers of an agent, as the agent names them.
fn names_of(catalogue: &AgentCatalogue) -> Vec<String> {
    let servers = catalogue.servers.iter();
    servers.map(|server| server.told.server.clone()).collect()
}
