//! The operations: what a caller asks for and what it gets. One file per group.

pub mod calls;
pub mod catalog;
pub mod page;
pub mod principals;
pub mod records;
pub mod resources;
pub mod servers;
pub mod sessions;
pub mod traces;
mod upkeep;
mod visibility;

use std::sync::Arc;
use std::time::Duration;

use ::sessions::{SessionLimits, Sessions, WorkspaceId};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use transports::OutboundPolicy;

use crate::arguments::Validators;
use crate::call::live::{LiveCalls, Stop};
use crate::catalogue::{Catalogues, Ground, Views};
use crate::definition::Secrets;
use crate::error::{BrokerError, ErrorCode, Fault};
use crate::events::EventHub;
use crate::gate::Gate;
use crate::keys::{DEFAULT_WORKSPACE, Keys};
use crate::ledger::Ledger;
use crate::limits::{CallLimits, CatalogLimits};
use crate::meters::Meters;
use crate::registry::Registry;
use crate::store::Store;

/// How long settling may take once everything was told to stop: a few commits.
const SETTLE_GRACE: Duration = Duration::from_secs(2);

/// What a broker is started with.
#[derive(Debug, Clone)]
pub struct BrokerOptions {
    /// The database, already migrated.
    pub store: Store,
    /// Bounds and timers of sessions.
    pub sessions: SessionLimits,
    /// Bounds of calls.
    pub calls: CallLimits,
    /// Freshness of catalogues.
    pub catalog: CatalogLimits,
    /// Where servers that are not in the admin's own file may lead.
    pub outbound: OutboundPolicy,
    /// Reads secret references.
    pub secrets: Secrets,
    /// How long a key is remembered.
    pub idempotency_retention: Duration,
    /// How long rows of calls and events are kept.
    pub retention: Duration,
    /// This node's name.
    pub node: String,
}

impl BrokerOptions {
    /// Everything at its default but the store.
    #[must_use]
    pub fn new(store: Store) -> Self {
        Self {
            store,
            sessions: SessionLimits::default(),
            calls: CallLimits::default(),
            catalog: CatalogLimits::default(),
            outbound: OutboundPolicy::default(),
            secrets: Secrets::default(),
            idempotency_retention: Duration::from_hours(24),
            retention: Duration::from_hours(90 * 24),
            node: "local".to_owned(),
        }
    }
}

/// Everything behind the faces. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Broker {
    pub(crate) inner: Arc<Inner>,
}

/// What all operations share.
#[derive(Debug)]
pub(crate) struct Inner {
    pub store: Store,
    pub events: EventHub,
    pub keys: Keys,
    pub sessions: Sessions,
    pub registry: Arc<Registry>,
    pub catalogues: Catalogues,
    pub views: Views,
    pub validators: Validators,
    pub ledger: Ledger,
    pub live: LiveCalls,
    pub gate: Arc<Gate>,
    pub meters: Meters,
    pub calls: CallLimits,
    pub tasks: TaskTracker,
    pub stop: CancellationToken,
}

impl Broker {
    /// Starts: sweeps calls a crash left over, loads servers and kept catalogues. Opens no session.
    ///
    /// # Errors
    /// `store_unavailable`.
    pub async fn start(options: BrokerOptions) -> Result<Self, BrokerError> {
        options
            .store
            .set_key_retention(options.idempotency_retention);
        if let Ok(workspace) = WorkspaceId::new(DEFAULT_WORKSPACE) {
            options.store.add_workspace(&workspace).await?;
        }
        let events = EventHub::start(&options.store).await?;
        let swept = options.store.sweep_calls(&options.node).await?;
        if swept > 0 {
            tracing::warn!(
                calls.swept = swept,
                "calls were running when the bridge last stopped; their outcome is unknown"
            );
        }
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        let sessions = Sessions::new(options.sessions);
        let registry = Arc::new(Registry::new(options.secrets, options.outbound));
        for saved in options.store.load_servers().await? {
            registry.put(saved);
        }
        let catalogues = Catalogues::start(Ground {
            sessions: sessions.clone(),
            registry: Arc::clone(&registry),
            store: options.store.clone(),
            events: events.clone(),
            limits: options.catalog,
            tasks: tasks.clone(),
            stop: stop.clone(),
        });
        catalogues.restore().await?;
        upkeep::start(&options.store, options.retention, (&tasks, &stop));
        let meters = Meters::new();
        let (own, all) = (options.calls.in_flight_per_user, options.calls.in_flight);
        let gate = Gate::new(own, all, meters.in_flight());
        Ok(Self {
            inner: Arc::new(Inner {
                ledger: Ledger::new(options.store.clone()),
                keys: Keys::new(options.store.clone()),
                store: options.store,
                events,
                sessions,
                registry,
                catalogues,
                views: Views::new(),
                validators: Validators::new(),
                live: LiveCalls::default(),
                gate,
                meters,
                calls: options.calls,
                tasks,
                stop,
            }),
        })
    }

    /// Ready to serve: the store answers and no shutdown has begun.
    ///
    /// # Errors
    /// `store_unavailable` or `shutting_down`.
    pub async fn ready(&self) -> Result<(), BrokerError> {
        if self.inner.gate.is_closed() {
            return Err(Fault::new(
                ErrorCode::ShuttingDown,
                "the bridge is shutting down",
            ));
        }
        self.inner.store.ping().await?;
        Ok(())
    }

    /// Refuses new calls, lets those in flight finish within `grace`, settles the rest, closes every session,
    /// writes what is buffered. When it returns nothing of this broker runs.
    pub async fn shutdown(&self, grace: Duration) {
        let inner = &self.inner;
        inner.gate.close();
        let deadline = Instant::now() + grace;
        for live in inner.live.all() {
            // Whoever has not ended by then is stopped below.
            let _ = live.wait(deadline).await;
        }
        for live in inner.live.all() {
            live.cancel(Stop::ShuttingDown);
        }
        let settled = Instant::now() + SETTLE_GRACE;
        for live in inner.live.all() {
            let _ = live.wait(settled).await;
        }
        inner.stop.cancel();
        inner.tasks.close();
        inner.sessions.drain(deadline.max(Instant::now())).await;
        if tokio::time::timeout(SETTLE_GRACE, inner.tasks.wait())
            .await
            .is_err()
        {
            tracing::error!("tasks of the broker did not end in time");
        }
        inner.events.shutdown().await;
        inner.store.shutdown().await;
    }
}

#[cfg(test)]
mod tests;
