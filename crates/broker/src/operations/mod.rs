//! The operations: what a caller asks for and what it gets. One file per group.

pub mod agents;
pub mod api_keys;
pub mod approvals;
pub mod audit;
pub mod calls;
pub mod catalog;
pub mod credentials;
pub mod face;
pub mod logins;
pub mod notes;
pub mod page;
pub mod passing;
pub mod pins;
pub mod policies;
pub mod principals;
pub mod records;
pub mod relay;
pub mod resources;
pub mod servers;
pub mod sessions;
mod start;
pub mod subscribing;
pub mod traces;
mod upkeep;
mod visibility;
pub mod watching;

use std::sync::Arc;
use std::time::Duration;

use ::sessions::{SessionLimits, Sessions, UserId, WorkspaceId};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use transports::OutboundPolicy;

use self::subscribing::Subscribed;
use crate::access::{Access, AccessOptions};
use crate::agents::{Agents, LocalRunner};
use crate::approvals::Approvals;
use crate::arguments::Validators;
use crate::audit::{Keeper, OnUnavailable};
use crate::call::live::{LiveCalls, Stop};
use crate::call::recent::Recent;
use crate::call::task_owners::TaskOwners;
use crate::call_state::CallState;
use crate::catalogue::{Catalogues, Views};
use crate::error::{BrokerError, ErrorCode, Fault};
use crate::events::EventHub;
use crate::gate::{Gate, RateStanding};
use crate::keys::Keys;
use crate::ledger::Ledger;
use crate::limits::{CallLimits, CatalogLimits};
use crate::meters::Meters;
use crate::pins::Pins;
use crate::policy::{Policies, Policy};
use crate::registry::Registry;
use crate::store::Store;
use crate::vault::{Vault, VaultOptions};

/// How long settling may take once everything was told to stop: a few commits.
const SETTLE_GRACE: Duration = Duration::from_secs(2);

/// What a broker is started with.
#[derive(Debug, Clone)]
pub struct BrokerOptions {
    /// The database, already migrated.
    pub store: Store,
    /// Which credentials are taken.
    pub access: AccessOptions,
    /// Bounds and timers of sessions.
    pub sessions: SessionLimits,
    /// Bounds of calls.
    pub calls: CallLimits,
    /// Freshness of catalogues.
    pub catalog: CatalogLimits,
    /// Where servers that are not in the admin's own file may lead.
    pub outbound: OutboundPolicy,
    /// The sealing key, and where browsers reach the bridge.
    pub vault: VaultOptions,
    /// How long a key is remembered.
    pub idempotency_retention: Duration,
    /// How long rows of calls and events are kept.
    pub retention: Duration,
    /// What happens to calls while nothing can be audited.
    pub on_unavailable: OnUnavailable,
    /// This node's name.
    pub node: String,
    /// The bridge has an agent of its own, which runs servers with `runner: agent`.
    pub local_agent: bool,
    /// Who may call what.
    pub policy: Policy,
    /// How long an approval is open, and its token good.
    pub confirm_ttl: Duration,
}

impl BrokerOptions {
    /// Everything at its default but the store.
    #[must_use]
    pub fn new(store: Store) -> Self {
        Self {
            store,
            access: AccessOptions::default(),
            sessions: SessionLimits::default(),
            calls: CallLimits::default(),
            catalog: CatalogLimits::default(),
            outbound: OutboundPolicy::default(),
            vault: VaultOptions::default(),
            idempotency_retention: Duration::from_hours(24),
            retention: Duration::from_hours(90 * 24),
            on_unavailable: OnUnavailable::default(),
            node: "local".to_owned(),
            local_agent: false,
            policy: Policy::default(),
            confirm_ttl: Duration::from_mins(5),
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
    pub audit: Keeper,
    pub events: EventHub,
    pub keys: Keys,
    pub access: Access,
    pub sessions: Sessions,
    pub registry: Arc<Registry>,
    pub vault: Vault,
    pub catalogues: Catalogues,
    pub views: Views,
    pub validators: Validators,
    pub ledger: Ledger,
    pub live: Arc<LiveCalls>,
    pub agents: Agents,
    pub local_runner: Option<LocalRunner>,
    pub tasks_of: TaskOwners,
    pub subscribed: Subscribed,
    pub recent: Arc<Recent>,
    pub gate: Arc<Gate>,
    pub policy: Policies,
    pub approvals: Approvals,
    pub pins: Arc<Pins>,
    pub meters: Meters,
    pub calls: CallLimits,
    pub tasks: TaskTracker,
    pub stop: CancellationToken,
}

impl Broker {
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

    /// Rows of the ledger and runs of events that were lost since the start: the store did not keep up, was away
    /// too long, or refused them.
    #[must_use]
    pub fn lost_rows(&self) -> u64 {
        self.inner.store.lost_rows()
    }

    /// How the buckets of calls stand that a caller may know of: its user's and its workspace's.
    #[must_use]
    pub fn rate_standings(
        &self,
        user: &UserId,
        workspace: &WorkspaceId,
    ) -> [Option<RateStanding>; 2] {
        self.inner.gate.standings(user, workspace)
    }

    /// Refuses new calls, lets those in flight finish within `grace`, settles the rest, closes every session,
    /// writes what is buffered. When it returns nothing of this broker runs.
    pub async fn shutdown(&self, grace: Duration) {
        let inner = &self.inner;
        inner.gate.close();
        let deadline = Instant::now() + grace;
        for live in inner.live.all() {
            // Nothing of it was sent, and nobody may let it go on any more.
            if live.state() == CallState::AwaitingApproval {
                live.cancel(Stop::ShuttingDown);
            }
        }
        for live in inner.live.all() {
            // Whoever has not ended by then is stopped below.
            let _ = live.wait(deadline).await;
        }
        // First, so that no agent is told to stop what may go on without the bridge.
        inner.agents.say_goodbye().await;
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
        inner.store.flush().await;
        inner.audit.sign_all().await;
        inner.store.shutdown().await;
    }
}

#[cfg(test)]
mod tests;
