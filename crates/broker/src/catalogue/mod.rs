//! What every server offers, for whom: loaded on demand, kept in the store, shown stale rather than not at all,
//! refreshed behind the answer. Decides nothing about who may call.

mod slot;
mod view;
mod watch;

use std::sync::Arc;
use std::time::Duration;

use catalog::{Delta, Entry, Kind, Listing, Ref, Snapshot};
use chrono::Utc;
use serde::{Deserialize, Serialize};
use serde_json::value::{RawValue, to_raw_value};
use sessions::{Caller, Isolation, Lane, Sessions, UserId, WorkspaceId};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use transports::{Era, ServerName};

use crate::error::{BrokerError, ErrorCode, Fault};
use crate::events::{EventHub, EventKind, NewEvent};
use crate::limits::CatalogLimits;
use crate::registry::{Registry, Server};
use crate::store::Store;
use crate::upstream_fault::Upstream;

use self::slot::Claim;
pub(crate) use self::slot::{Slot, SlotKey};
pub(crate) use self::view::{ViewDelta, Views};

/// Slots held; beyond it the least used are forgotten and listed again on demand.
const MAX_SLOTS: u64 = 10_000;
/// Refs told in one `catalog_changed`; the rest is found by `since`.
const MAX_REFS_TOLD: usize = 200;

/// Why a refresh is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Because {
    /// Somebody looked, and what is held is old.
    Looked,
    /// The server said that its lists changed.
    ListChanged,
}

/// All catalogues of this process. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Catalogues {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    slots: moka::sync::Cache<SlotKey, Arc<Slot>>,
    sessions: Sessions,
    registry: Arc<Registry>,
    store: Store,
    events: EventHub,
    limits: CatalogLimits,
    tasks: TaskTracker,
    stop: CancellationToken,
}

/// What the catalogues stand on.
#[derive(Debug)]
pub(crate) struct Ground {
    pub sessions: Sessions,
    pub registry: Arc<Registry>,
    pub store: Store,
    pub events: EventHub,
    pub limits: CatalogLimits,
    pub tasks: TaskTracker,
    pub stop: CancellationToken,
}

impl Catalogues {
    /// Empty; watches the sessions until `stop`.
    pub(crate) fn start(ground: Ground) -> Self {
        let catalogues = Self {
            shared: Arc::new(Shared {
                slots: moka::sync::Cache::new(MAX_SLOTS),
                sessions: ground.sessions,
                registry: ground.registry,
                store: ground.store,
                events: ground.events,
                limits: ground.limits,
                tasks: ground.tasks,
                stop: ground.stop,
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
            };
            let name = key.server.clone();
            let built =
                tokio::task::spawn_blocking(move || Snapshot::build(&name, &listing.into()));
            if let Ok(snapshot) = built.await {
                self.slot(key).restore(snapshot, kept.fetched_at);
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
        };
        if server.definition.isolation == Isolation::Shared {
            return self.slot(key);
        }
        if let Some(slot) = self.shared.slots.get(&key) {
            if slot.snapshot().is_some_and(|held| held.public) {
                return slot;
            }
        }
        key.user = Some(user.clone());
        self.slot(key)
    }

    fn slot(&self, key: SlotKey) -> Arc<Slot> {
        let slots = &self.shared.slots;
        slots.get_with_by_ref(&key, || Arc::new(Slot::new(key.clone())))
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
        if let Err(error) = self.shared.store.delete_catalogs(workspace, server).await {
            tracing::warn!(server.name = %server, error = %error, "a kept catalogue could not be removed");
        }
    }

    /// Starts a refresh unless one runs.
    pub(crate) fn refresh(
        &self,
        server: &Arc<Server>,
        slot: &Arc<Slot>,
        caller: Caller,
        because: Because,
    ) {
        let Some(claim) = slot.begin(because == Because::ListChanged) else {
            return;
        };
        let (catalogues, server) = (self.clone(), Arc::clone(server));
        self.shared.tasks.spawn(async move {
            let stop = catalogues.shared.stop.clone();
            let work = catalogues.refresh_all(&server, &claim, &caller, because);
            tokio::select! {
                () = work => {}
                () = stop.cancelled() => {}
            }
        });
    }

    async fn refresh_all(
        &self,
        server: &Arc<Server>,
        claim: &Claim,
        caller: &Caller,
        because: Because,
    ) {
        if because == Because::ListChanged {
            tokio::time::sleep(claim.pause()).await;
        }
        loop {
            claim.started();
            match self.fetch(server, caller).await {
                Ok((snapshot, era)) => self.install(claim, snapshot, era, &caller.user).await,
                Err(fault) => {
                    metrics::counter!("paperbot_catalog_refreshes_total", "outcome" => "failed")
                        .increment(1);
                    claim.failed(fault);
                }
            }
            if !claim.again() {
                return;
            }
            tokio::time::sleep(claim.pause()).await;
        }
    }

    async fn fetch(
        &self,
        server: &Server,
        caller: &Caller,
    ) -> Result<(Snapshot, &'static str), BrokerError> {
        let target = server.target()?;
        let timeout = self.shared.limits.fetch_timeout;
        let deadline = Instant::now() + timeout;
        let upstream = Upstream {
            server: server.name.as_str(),
            redactions: server.redactions(),
        };
        let lease = self.shared.sessions.acquire(caller, target, deadline).await;
        let lease = lease.map_err(|error| upstream.not_opened(&error))?;
        let listing = catalog::listing::fetch(&lease, timeout).await;
        let listing = listing.map_err(|error| upstream.not_listed(&error))?;
        let era = era_name(lease.peer().era);
        drop(lease);
        let name = server.name.clone();
        let built = tokio::task::spawn_blocking(move || Snapshot::build(&name, &listing)).await;
        built
            .map(|snapshot| (snapshot, era))
            .map_err(|_| Fault::new(ErrorCode::Internal, "building the catalogue failed"))
    }

    /// Puts a listing where it belongs: what a server calls public is shared by the workspace.
    async fn install(&self, claim: &Claim, snapshot: Snapshot, era: &'static str, user: &UserId) {
        metrics::counter!("paperbot_catalog_refreshes_total", "outcome" => "ok").increment(1);
        let slot = claim.slot();
        let key = &slot.key;
        let isolated = self
            .shared
            .registry
            .get(&key.workspace, &key.server)
            .is_some_and(|server| server.definition.isolation != Isolation::Shared);
        let moves_out = isolated && snapshot.public && key.user.is_some();
        let moves_in = isolated && !snapshot.public && key.user.is_none();
        if moves_out || moves_in {
            let other = self.slot(SlotKey {
                user: moves_in.then(|| user.clone()),
                ..key.clone()
            });
            if moves_in {
                slot.forget();
            }
            if let Some(theirs) = other.begin(false) {
                theirs.started();
                let (snapshot, delta) = theirs.install(snapshot.clone(), era);
                self.record(&other.key, &snapshot, delta).await;
            }
            if moves_in {
                return;
            }
        }
        let (snapshot, delta) = claim.install(snapshot, era);
        self.record(key, &snapshot, delta).await;
    }

    /// Keeps a snapshot in the store and tells what changed.
    async fn record(&self, key: &SlotKey, snapshot: &Arc<Snapshot>, delta: Option<Delta>) {
        let unchanged = delta
            .as_ref()
            .is_some_and(|delta| *delta == Delta::default());
        if unchanged {
            return;
        }
        let source = Arc::clone(snapshot);
        let text = tokio::task::spawn_blocking(move || {
            serde_json::to_string(&KeptListing::from(source.to_listing()))
        });
        if let Ok(Ok(listing)) = text.await {
            let kept = crate::store::KeptCatalog {
                workspace: key.workspace.clone(),
                server: key.server.clone(),
                user: key.user.clone(),
                hash: snapshot.hash.hex(),
                listing,
                fetched_at: Utc::now(),
            };
            if let Err(error) = self.shared.store.save_catalog(&kept).await {
                tracing::warn!(server.name = %key.server, error = %error, "a catalogue could not be kept");
            }
        }
        if let Some(delta) = delta {
            self.tell(key, &delta);
        }
    }

    fn tell(&self, key: &SlotKey, delta: &Delta) {
        #[derive(Serialize)]
        struct Changed<'a> {
            server: &'a str,
            added: &'a [String],
            removed: &'a [String],
            changed: &'a [String],
        }
        let first = |refs: &'_ Vec<String>| refs.len().min(MAX_REFS_TOLD);
        let data = Changed {
            server: key.server.as_str(),
            added: &delta.added[..first(&delta.added)],
            removed: &delta.removed[..first(&delta.removed)],
            changed: &delta.changed[..first(&delta.changed)],
        };
        if let Ok(data) = to_raw_value(&data) {
            self.shared.events.publish(NewEvent {
                kind: EventKind::CatalogChanged,
                workspace: key.workspace.clone(),
                user: key.user.clone(),
                trace_id: None,
                session_id: None,
                call_id: None,
                data,
            });
        }
    }

    /// One entry a call needs. Waits for a listing when nothing is held, when the entry is missing and what is
    /// held was not confirmed, or when it is older than `age`; never past `deadline`.
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
                self.refresh(server, &slot, wanted.caller.clone(), Because::Looked);
            }
            return Ok(found);
        }
        if !slot.is_fresh(self.shared.limits.max_age) {
            self.listed(server, &slot, wanted.caller, wanted.deadline)
                .await;
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

    /// Makes sure what is held was confirmed within `age`, as far as the server allows.
    pub(crate) async fn confirm(
        &self,
        server: &Arc<Server>,
        caller: &Caller,
        age: Duration,
        deadline: Instant,
    ) {
        let slot = self.slot_for(server, &caller.user);
        if !slot.is_fresh(age) {
            self.listed(server, &slot, caller, deadline).await;
        }
    }

    /// Refreshes and waits for the end of it.
    pub(crate) async fn listed(
        &self,
        server: &Arc<Server>,
        slot: &Arc<Slot>,
        caller: &Caller,
        deadline: Instant,
    ) {
        let mut finished = slot.finished();
        self.refresh(server, slot, caller.clone(), Because::Looked);
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
            self.refresh(
                server,
                &slot,
                catalogue_caller(server, user),
                Because::Looked,
            );
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

/// A listing as the store keeps it.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct KeptListing {
    tools: Vec<Box<RawValue>>,
    resources: Vec<Box<RawValue>>,
    templates: Vec<Box<RawValue>>,
    prompts: Vec<Box<RawValue>>,
    ttl_ms: Option<u64>,
    public: bool,
    truncated: Option<String>,
    left_out: usize,
}

impl From<KeptListing> for Listing {
    fn from(kept: KeptListing) -> Self {
        let shared = |list: Vec<Box<RawValue>>| list.into_iter().map(Arc::from).collect();
        Self {
            tools: shared(kept.tools),
            resources: shared(kept.resources),
            templates: shared(kept.templates),
            prompts: shared(kept.prompts),
            ttl_ms: kept.ttl_ms,
            public: kept.public,
            truncated: kept.truncated,
            left_out: kept.left_out,
        }
    }
}

impl From<Listing> for KeptListing {
    fn from(listing: Listing) -> Self {
        let owned = |list: Vec<Arc<RawValue>>| list.iter().map(|one| (**one).to_owned()).collect();
        Self {
            tools: owned(listing.tools),
            resources: owned(listing.resources),
            templates: owned(listing.templates),
            prompts: owned(listing.prompts),
            ttl_ms: listing.ttl_ms,
            public: listing.public,
            truncated: listing.truncated,
            left_out: listing.left_out,
        }
    }
}
