//! How a broker starts: what the store kept is put in place, and what a crash left over is swept or taken up again.

use std::sync::Arc;

use ::sessions::{Sessions, WorkspaceId};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::subscribing::Subscribed;
use super::{Broker, BrokerOptions, Inner, upkeep};
use crate::agents::local::LocalServers;
use crate::agents::{Agents, Ground as AgentsGround, LocalRunner, Own};
use crate::arguments::Validators;
use crate::call::live::LiveCalls;
use crate::call::recent::Recent;
use crate::call::task_owners::TaskOwners;
use crate::catalogue::{Catalogues, Ground, Views};
use crate::error::BrokerError;
use crate::events::EventHub;
use crate::gate::Gate;
use crate::keys::{DEFAULT_WORKSPACE, Keys};
use crate::ledger::Ledger;
use crate::meters::Meters;
use crate::registry::Registry;

/// What everything else stands on.
struct Base {
    events: EventHub,
    sessions: Sessions,
    registry: Arc<Registry>,
    catalogues: Catalogues,
    agents: Agents,
    live: Arc<LiveCalls>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl Broker {
    /// Starts: sweeps calls a crash left over, takes up those that agents run, loads servers, agents and kept
    /// catalogues. Opens no session.
    ///
    /// # Errors
    /// `store_unavailable`.
    pub async fn start(options: BrokerOptions) -> Result<Self, BrokerError> {
        let base = base(&options).await?;
        let recent = Arc::new(Recent::default());
        let kept = (&options.store, options.retention);
        upkeep::start(kept, &recent, (&base.tasks, &base.stop));
        let meters = Meters::new();
        let (own, all) = (options.calls.in_flight_per_user, options.calls.in_flight);
        let gate = Gate::new(own, all, meters.in_flight());
        let broker = Self {
            inner: Arc::new(Inner {
                local_runner: LocalRunner::new(&base.agents),
                agents: base.agents,
                ledger: Ledger::new(options.store.clone()),
                keys: Keys::new(options.store.clone()),
                store: options.store,
                events: base.events,
                sessions: base.sessions,
                registry: base.registry,
                catalogues: base.catalogues,
                views: Views::new(),
                validators: Validators::new(),
                live: base.live,
                tasks_of: TaskOwners::new(),
                subscribed: Subscribed::default(),
                recent,
                gate,
                meters,
                calls: options.calls,
                tasks: base.tasks,
                stop: base.stop,
            }),
        };
        broker.inner.adopt(&options.node).await?;
        Ok(broker)
    }
}

async fn base(options: &BrokerOptions) -> Result<Base, BrokerError> {
    let events = swept(options).await?;
    let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
    let sessions = Sessions::new(options.sessions);
    let own = options.local_agent.then(Own::new).flatten();
    let local = own.as_ref().map(|own| LocalServers::of(own.agent.clone()));
    let registry = Arc::new(Registry::new(
        options.secrets.clone(),
        options.outbound.clone(),
        local.unwrap_or_else(LocalServers::none),
    ));
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
    let live = Arc::<LiveCalls>::default();
    let agents = Agents::start(AgentsGround {
        store: options.store.clone(),
        sessions: sessions.clone(),
        registry: Arc::clone(&registry),
        catalogues: catalogues.clone(),
        events: events.clone(),
        live: Arc::clone(&live),
        tasks: tasks.clone(),
        stop: stop.clone(),
        own,
    })
    .await?;
    Ok(Base {
        events,
        sessions,
        registry,
        catalogues,
        agents,
        live,
        tasks,
        stop,
    })
}

/// The store made ready: nothing of an earlier process is left open but what goes on without it.
async fn swept(options: &BrokerOptions) -> Result<EventHub, BrokerError> {
    let store = &options.store;
    store.set_key_retention(options.idempotency_retention);
    if let Ok(workspace) = WorkspaceId::new(DEFAULT_WORKSPACE) {
        store.add_workspace(&workspace).await?;
    }
    let events = EventHub::start(store).await?;
    let swept = store.sweep_calls(&options.node).await?;
    if swept > 0 {
        tracing::warn!(
            calls.swept = swept,
            "calls were running when the bridge last stopped; their outcome is unknown"
        );
    }
    Ok(events)
}
