//! How a broker starts: what the store kept is put in place, and what a crash left over is swept or taken up again.

use std::sync::Arc;

use ::sessions::{Sessions, WorkspaceId};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::subscribing::Subscribed;
use super::{Broker, BrokerOptions, Inner, upkeep};
use crate::access::Access;
use crate::agents::local::LocalServers;
use crate::agents::{Agents, Ground as AgentsGround, LocalRunner, Own};
use crate::approvals::Approvals;
use crate::arguments::Validators;
use crate::audit::Keeper;
use crate::call::live::LiveCalls;
use crate::call::recent::Recent;
use crate::call::task_owners::TaskOwners;
use crate::catalogue::{Catalogues, Ground, Views};
use crate::definition::Secrets;
use crate::error::BrokerError;
use crate::events::EventHub;
use crate::gate::Gate;
use crate::keys::{DEFAULT_WORKSPACE, Keys};
use crate::ledger::Ledger;
use crate::meters::Meters;
use crate::pins::Pins;
use crate::policy::Policies;
use crate::registry::Registry;
use crate::vault::Vault;

/// What everything else stands on.
struct Base {
    events: EventHub,
    sessions: Sessions,
    registry: Arc<Registry>,
    vault: Vault,
    catalogues: Catalogues,
    pins: Arc<Pins>,
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
        let audit = Keeper::start(&options.store, (&base.tasks, &base.stop));
        let meters = Meters::new();
        let gate = Gate::new(options.calls, meters.in_flight());
        let keys = Keys::new(options.store.clone());
        let owner = (&base.tasks, &base.stop);
        let credentials = (options.access, options.store.clone());
        let access = Access::new(credentials, keys.clone(), owner);
        watch_keys(&keys, owner);
        let broker = Self {
            inner: Arc::new(Inner {
                local_runner: LocalRunner::new(&base.agents),
                agents: base.agents,
                ledger: Ledger::new(options.store.clone(), options.on_unavailable),
                access,
                keys,
                store: options.store.clone(),
                audit,
                events: base.events.clone(),
                sessions: base.sessions,
                registry: base.registry,
                vault: base.vault,
                catalogues: base.catalogues,
                views: Views::new(),
                validators: Validators::new(),
                live: base.live,
                tasks_of: TaskOwners::new(),
                subscribed: Subscribed::default(),
                recent,
                gate,
                approvals: Approvals::new(
                    options.store.clone(),
                    base.events.clone(),
                    options.confirm_ttl,
                ),
                policy: Policies::new(options.policy),
                pins: base.pins,
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

/// Streams that stand open hear of keys other nodes ended.
fn watch_keys(keys: &Keys, (tasks, stop): (&TaskTracker, &CancellationToken)) {
    let (keys, stop) = (keys.clone(), stop.clone());
    tasks.spawn(async move { stop.run_until_cancelled(keys.keep_watch()).await });
}

async fn base(options: &BrokerOptions) -> Result<Base, BrokerError> {
    let events = swept(options).await?;
    let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
    let sessions = Sessions::new(options.sessions);
    let own = options.local_agent.then(Own::new).flatten();
    let local = own.as_ref().map(|own| LocalServers::of(own.agent.clone()));
    let registry = Arc::new(Registry::new(
        Secrets::new(options.vault.keys.is_some()),
        options.outbound.clone(),
        local.unwrap_or_else(LocalServers::none),
    ));
    for saved in options.store.load_servers().await? {
        registry.put(saved);
    }
    let pins = Arc::new(Pins::load(&options.store).await?);
    let vault = Vault::new(
        options.store.clone(),
        options.outbound.clone(),
        options.vault.clone(),
    );
    rewrap(&vault).await;
    let catalogues = Catalogues::start(Ground {
        pins: Arc::clone(&pins),
        vault: vault.clone(),
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
        vault,
        catalogues,
        pins,
        agents,
        live,
        tasks,
        stop,
    })
}

/// After a change of the sealing key. A bridge that cannot do it now does it at its next start.
async fn rewrap(vault: &Vault) {
    match vault.rewrap().await {
        Ok(found) if found.left > 0 => tracing::warn!(
            vault.rows = found.left,
            "sealed values cannot be opened with the keys of the configuration"
        ),
        Ok(found) if found.done > 0 => {
            tracing::info!(
                vault.rows = found.done,
                "sealed values were wrapped by the new key"
            );
        }
        Ok(_) => {}
        Err(fault) => tracing::warn!(error = %fault, "sealed values could not be wrapped anew"),
    }
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
