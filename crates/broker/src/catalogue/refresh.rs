//! Lists a server again: one at a time per slot, in a task the broker owns; then the store and the events hear of it.

use std::sync::Arc;

use catalog::{Delta, Snapshot};
use chrono::Utc;
use serde::Serialize;
use serde_json::value::to_raw_value;
use sessions::{Caller, Isolation, UserId};
use tokio::time::Instant;

use super::kept::KeptListing;
use super::slot::Claim;
use super::{Catalogues, Moved, Slot, SlotKey, era_name};
use crate::definition::PinRule;
use crate::error::{BrokerError, ErrorCode, Fault};
use crate::events::{EventKind, NewEvent};
use crate::pins::scope_of;
use crate::registry::Server;
use crate::store::PinPlace;
use crate::upstream_fault::Upstream;

/// Refs told in one `catalog_changed`; the rest is found by `since`.
const MAX_REFS_TOLD: usize = 200;

/// Why a refresh is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Because {
    /// Somebody looked, and what is held is old.
    Looked,
    /// The server said that its lists changed.
    ListChanged,
}

/// Which server is to be listed, on whose behalf.
#[derive(Debug)]
pub(super) struct Errand {
    pub server: Arc<Server>,
    pub caller: Caller,
    pub because: Because,
}

struct Fetched {
    snapshot: Snapshot,
    era: &'static str,
}

impl Catalogues {
    /// Starts a refresh unless one runs.
    pub(super) fn refresh(&self, slot: &Arc<Slot>, errand: Errand) {
        let Some(claim) = slot.begin(errand.because == Because::ListChanged) else {
            return;
        };
        let catalogues = self.clone();
        self.shared.tasks.spawn(async move {
            let stop = catalogues.shared.stop.clone();
            let work = catalogues.run(&claim, &errand);
            tokio::select! {
                () = work => {}
                () = stop.cancelled() => {}
            }
        });
    }

    async fn run(&self, claim: &Claim, errand: &Errand) {
        if errand.because == Because::ListChanged {
            tokio::time::sleep(claim.pause()).await;
        }
        loop {
            claim.started();
            if let Some(via) = &errand.server.via {
                self.take_from_agent(claim, &errand.server, via).await;
                if !claim.again() {
                    return;
                }
                tokio::time::sleep(claim.pause()).await;
                continue;
            }
            match self.fetch(errand).await {
                Ok(fetched) => self.install(claim, fetched, &errand.caller.user).await,
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

    async fn fetch(&self, errand: &Errand) -> Result<Fetched, BrokerError> {
        let vault = &self.shared.vault;
        let whose = (&*errand.server, &errand.caller.user);
        let fetched = match vault.personal(&errand.server, whose.1).await {
            Ok(own) => self.fetch_from(&own, &errand.caller).await,
            Err(fault) => Err(fault),
        };
        fetched.map_err(|fault| vault.with_link(fault, whose))
    }

    async fn fetch_from(
        &self,
        server: &Arc<Server>,
        caller: &Caller,
    ) -> Result<Fetched, BrokerError> {
        let target = server.target()?;
        let timeout = self.shared.limits.fetch_timeout;
        let deadline = Instant::now() + timeout;
        let upstream = Upstream {
            server: server.name.as_str(),
            redactions: server.redactions(),
        };
        let lease = self.shared.sessions.acquire(caller, target, deadline).await;
        let lease = lease.map_err(|error| upstream.not_opened(&error))?;
        let listing = Box::pin(catalog::listing::fetch(&lease, timeout)).await;
        let listing = listing.map_err(|error| upstream.not_listed(&error))?;
        let era = era_name(lease.peer().era);
        drop(lease);
        let name = server.name.clone();
        let built = tokio::task::spawn_blocking(move || Snapshot::build(&name, &listing)).await;
        built
            .map(|snapshot| Fetched { snapshot, era })
            .map_err(|_| Fault::new(ErrorCode::Internal, "building the catalogue failed"))
    }

    /// Puts a listing where it belongs: what a server calls public is shared by the workspace.
    async fn install(&self, claim: &Claim, fetched: Fetched, user: &UserId) {
        let Fetched { snapshot, era } = fetched;
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
            let other = self.slot(&SlotKey {
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
    pub(super) async fn record(
        &self,
        key: &SlotKey,
        snapshot: &Arc<Snapshot>,
        delta: Option<Delta>,
    ) {
        let unchanged = delta
            .as_ref()
            .is_some_and(|delta| *delta == Delta::default());
        if unchanged {
            return;
        }
        self.pin(key, snapshot).await;
        self.shared.moves.tell(Moved {
            workspace: key.workspace.clone(),
            server: key.server.clone(),
            user: key.user.clone(),
        });
        if key.agent.is_none() {
            self.keep(key, snapshot).await;
        }
        if let Some(delta) = delta {
            self.tell(key, &delta);
        }
    }

    /// Tools that are seen first are pinned before anybody hears of them, where their server's definition trusts so.
    async fn pin(&self, key: &SlotKey, snapshot: &Snapshot) {
        let shared = self.shared.registry.get(&key.workspace, &key.server);
        let rule = shared.map_or_else(PinRule::default, |server| server.definition.pins);
        if rule != PinRule::TrustFirstUse {
            return;
        }
        let own = key.user.as_ref().zip(key.agent.as_ref());
        let place = PinPlace {
            workspace: key.workspace.clone(),
            server: key.server.clone(),
            scope: own.map_or_else(String::new, |(user, agent)| scope_of(user, agent)),
        };
        self.shared.pins.see(&place, snapshot).await;
    }

    async fn keep(&self, key: &SlotKey, snapshot: &Arc<Snapshot>) {
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
    }

    fn tell(&self, key: &SlotKey, delta: &Delta) {
        #[derive(Serialize)]
        struct Told<'a> {
            server: &'a str,
            added: &'a [String],
            removed: &'a [String],
            changed: &'a [String],
        }
        let first = |refs: &'_ Vec<String>| refs.len().min(MAX_REFS_TOLD);
        let data = Told {
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
                agent_id: None,
                data,
            });
        }
    }
}
