//! What every server offers, for whom: loaded on demand, kept in the store, shown stale rather than not at all,
//! refreshed behind the answer. Decides nothing about who may call.

mod kept;
mod moves;
mod of_agents;
mod refresh;
mod slot;
mod view;
mod watch;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use catalog::{Entry, Kind, Ref, Snapshot};
use foldhash::fast::RandomState;
use sessions::{Caller, Isolation, Lane, Sessions, UserId, WorkspaceId};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use transports::{Era, ServerName};

use crate::error::{BrokerError, ErrorCode, Fault};
use crate::events::EventHub;
use crate::limits::CatalogLimits;
use crate::pins::Pins;
use crate::registry::{Registry, Server};
use crate::store::Store;
use crate::vault::Vault;

use self::kept::KeptListing;
pub(crate) use self::moves::{Moved, Moves};
use self::refresh::{Because, Errand};
pub(crate) use self::slot::{Slot, SlotKey};
pub(crate) use self::view::{ViewDelta, Views};

/// Slots held; beyond it the least used are forgotten and listed again on demand.
const MAX_SLOTS: u64 = 10_000;

/// All catalogues of this process. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Catalogues {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    slots: moka::sync::Cache<SlotKey, Arc<Slot>, RandomState>,
    sessions: Sessions,
    registry: Arc<Registry>,
    vault: Vault,
    store: Store,
    events: EventHub,
    limits: CatalogLimits,
    tasks: TaskTracker,
    stop: CancellationToken,
    moves: Moves,
    pins: Arc<Pins>,
}

/// What the catalogues stand on.
#[derive(Debug)]
pub(crate) struct Ground {
    pub sessions: Sessions,
    pub registry: Arc<Registry>,
    pub vault: Vault,
    pub store: Store,
    pub events: EventHub,
    pub limits: CatalogLimits,
    pub tasks: TaskTracker,
    pub stop: CancellationToken,
    pub pins: Arc<Pins>,
}

impl Catalogues {
    /// Empty; watches the sessions until `stop`.
    pub(crate) fn start(ground: Ground) -> Self {
        let catalogues = Self {
            shared: Arc::new(Shared {
                slots: moka::sync::Cache::builder()
                    .max_capacity(MAX_SLOTS)
                    .build_with_hasher(RandomState::default()),
                sessions: ground.sessions,
                registry: ground.registry,
                vault: ground.vault,
                store: ground.store,
                events: ground.events,
                limits: ground.limits,
                tasks: ground.tasks,
                stop: ground.stop,
                moves: Moves::new(),
                pins: ground.pins,
            }),
        };
        watch::start(&catalogues);
        catalogues
    }

    /// Puts in place what the store kept.
    ///
    /// # Errors
    /// The store's.
    pub(crate) async fn restore(&self) -> Result<(), BrokerError> {
        for kept in self.shared.store.load_catalogs().await? {
            let Ok(listing) = serde_json::from_str::<KeptListing>(&kept.listing) else {
                tracing::warn!(server.name = %kept.server, "a kept catalogue cannot be read; it will be listed again");
                continue;
            };
            let key = SlotKey {
                workspace: kept.workspace,
                server: kept.server,
                user: kept.user,
                agent: None,
            };
            let name = key.server.clone();
            let built =
                tokio::task::spawn_blocking(move || Snapshot::build(&name, &listing.into()));
            if let Ok(snapshot) = built.await {
                self.slot(&key).restore(snapshot, kept.fetched_at);
            }
        }
        Ok(())
    }

    /// The slot a caller sees: its own, or the workspace's where sessions or listings are shared.
    pub(crate) fn slot_for(&self, server: &Server, user: &UserId) -> Arc<Slot> {
        let mut key = SlotKey {
            workspace: server.workspace.clone(),
            server: server.name.clone(),
            user: None,
            agent: None,
        };
        if server.via.is_some() || server.route().is_some() {
            key.user = Some(user.clone());
            key.agent = server.via.as_ref().map(|via| via.agent.id().clone());
            return self.slot(&key);
        }
        if server.definition.isolation == Isolation::Shared {
            return self.slot(&key);
        }
        let shared = self.shared.slots.get(&key);
        if let Some(slot) = shared.filter(|slot| slot.snapshot().is_some_and(|held| held.public)) {
            return slot;
        }
        key.user = Some(user.clone());
        self.slot(&key)
    }

    fn slot(&self, key: &SlotKey) -> Arc<Slot> {
        let slots = &self.shared.slots;
        slots.get_with_by_ref(key, || Arc::new(Slot::new(key.clone())))
    }

    /// Forgets the catalogues of a server whose definition changed or went away.
    pub(crate) async fn forget(&self, workspace: &WorkspaceId, server: &ServerName) {
        let slots = &self.shared.slots;
        let gone: Vec<SlotKey> = slots
            .iter()
            .map(|(key, _)| (*key).clone())
            .filter(|key| key.workspace == *workspace && key.server == *server)
            .collect();
        for key in gone {
            slots.invalidate(&key);
        }
        self.shared.moves.tell(Moved {
            workspace: workspace.clone(),
            server: server.clone(),
            user: None,
        });
        if let Err(error) = self.shared.store.delete_catalogs(workspace, server).await {
            tracing::warn!(server.name = %server, error = %error, "a kept catalogue could not be removed");
        }
    }

    /// Who may see what has changed: whoever follows a catalogue looks again.
    pub(crate) fn moved_everywhere(&self) {
        let keys = self.shared.slots.iter().map(|(key, _)| key);
        let servers: HashSet<_> = keys
            .map(|key| (key.workspace.clone(), key.server.clone()))
            .collect();
        for (workspace, server) in servers {
            self.shared.moves.tell(Moved {
                workspace,
                server,
                user: None,
            });
        }
    }

    /// What a server offers is shown differently from now on, though it says the same.
    pub(crate) fn reconsidered(&self, server: &Server) {
        self.shared.moves.tell(Moved {
            workspace: server.workspace.clone(),
            server: server.name.clone(),
            user: None,
        });
    }

    /// What moves from now on.
    pub(crate) fn moves(&self) -> tokio::sync::broadcast::Receiver<Arc<Moved>> {
        self.shared.moves.follow()
    }

    /// One entry a call needs. Waits for a listing when nothing is held, or when the entry is missing and what is
    /// held was not confirmed lately; never past the deadline.
    ///
    /// # Errors
    /// Why the server could not be listed, when nothing is held. `Ok(None)`: it has no such entry.
    pub(crate) async fn entry(
        &self,
        server: &Arc<Server>,
        wanted: Wanted<'_>,
    ) -> Result<Option<Arc<Entry>>, BrokerError> {
        let slot = self.slot_for(server, &wanted.caller.user);
        let found = slot.entry(wanted.kind, wanted.reference);
        if found.is_some() {
            if slot.is_due(self.shared.limits.max_age) {
                self.refresh(&slot, looked(server, wanted.caller));
            }
            return Ok(found);
        }
        if !slot.is_fresh(self.shared.limits.max_age) {
            self.listed(server, wanted.caller, wanted.deadline).await;
        }
        // The listing may have moved to the workspace's slot.
        let slot = self.slot_for(server, &wanted.caller.user);
        let shown = slot.shown();
        match (shown.snapshot, shown.error) {
            (None, Some(fault)) => Err(fault),
            (None, None) => Err(still_opening(server)),
            (Some(_), _) => Ok(slot.entry(wanted.kind, wanted.reference)),
        }
    }

    /// Makes sure what is held was confirmed within `age`, as far as the server allows until the deadline.
    pub(crate) async fn confirm(&self, server: &Arc<Server>, wanted: Wanted<'_>, age: Duration) {
        if !self.slot_for(server, &wanted.caller.user).is_fresh(age) {
            self.listed(server, wanted.caller, wanted.deadline).await;
        }
    }

    /// Refreshes and waits for the end of it.
    pub(crate) async fn listed(&self, server: &Arc<Server>, caller: &Caller, deadline: Instant) {
        let slot = self.slot_for(server, &caller.user);
        let mut finished = slot.finished();
        self.refresh(&slot, looked(server, caller));
        // An elapsed deadline is no error here: whoever asked looks at what is held then.
        let _ = tokio::time::timeout_at(deadline, finished.changed()).await;
    }

    /// Looks at many servers at once: starts what is due, waits for what was never listed, at most `first_wait` in all.
    pub(crate) async fn look(
        &self,
        servers: &[Arc<Server>],
        user: &UserId,
    ) -> Vec<(Arc<Server>, Arc<Slot>)> {
        let mut waits = Vec::new();
        for server in servers.iter().filter(|server| !server.definition.disabled) {
            let slot = self.slot_for(server, user);
            if !slot.is_due(self.shared.limits.max_age) && !slot.shown().untried {
                continue;
            }
            let untried = slot.shown().untried;
            let finished = slot.finished();
            self.refresh(&slot, looked(server, &catalogue_caller(server, user)));
            if untried {
                waits.push(finished);
            }
        }
        if !waits.is_empty() {
            let deadline = Instant::now() + self.shared.limits.first_wait;
            for mut finished in waits {
                let _ = tokio::time::timeout_at(deadline, finished.changed()).await;
            }
        }
        let pair = |server: &Arc<Server>| (Arc::clone(server), self.slot_for(server, user));
        servers.iter().map(pair).collect()
    }
}

fn looked(server: &Arc<Server>, caller: &Caller) -> Errand {
    Errand {
        server: Arc::clone(server),
        caller: caller.clone(),
        because: Because::Looked,
    }
}

/// Which entry a call needs.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wanted<'a> {
    pub caller: &'a Caller,
    pub kind: Kind,
    pub reference: &'a Ref,
    pub deadline: Instant,
}

/// Who lists on behalf of a user: the empty lane.
pub(crate) fn catalogue_caller(server: &Server, user: &UserId) -> Caller {
    Caller {
        user: user.clone(),
        workspace: server.workspace.clone(),
        lane: Lane::default(),
    }
}

/// An era as it stands on the wire.
pub(crate) fn era_name(era: Era) -> &'static str {
    match era {
        Era::Modern => "modern",
        Era::Legacy => "legacy",
    }
}

fn still_opening(server: &Server) -> BrokerError {
    let mut fault = Fault::new(
        ErrorCode::UpstreamTimeout,
        "the server did not list its tools in time; the listing goes on",
    );
    fault.upstream = Some((server.name.to_string(), None));
    fault
}
