//! The operations: what a caller asks for and what it gets. One file per group.

pub mod calls;
pub mod catalog;
pub mod page;
pub mod resources;
pub mod servers;
pub mod sessions;
pub mod traces;

use std::sync::Arc;
use std::time::Duration;

use ::sessions::SessionLimits;
use transports::OutboundPolicy;

use crate::definition::Secrets;
use crate::error::BrokerError;
use crate::limits::{CallLimits, CatalogLimits};
use crate::store::Store;

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
            idempotency_retention: Duration::from_secs(24 * 3600),
            retention: Duration::from_secs(90 * 24 * 3600),
            node: "local".to_owned(),
        }
    }
}

/// Everything behind the faces. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Broker {
    #[expect(dead_code, reason = "filled by the operations")]
    inner: Arc<()>,
}

impl Broker {
    /// Starts: sweeps calls a crash left over, loads servers and kept catalogues. Opens no session.
    ///
    /// # Errors
    /// `store_unavailable`.
    pub async fn start(options: BrokerOptions) -> Result<Self, BrokerError> {
        let _ = options;
        todo!("filled next")
    }

    /// Ready to serve: the store answers and no shutdown has begun.
    ///
    /// # Errors
    /// `store_unavailable` or `shutting_down`.
    pub async fn ready(&self) -> Result<(), BrokerError> {
        todo!("filled next")
    }

    /// Refuses new calls, lets those in flight finish within `grace`, settles the rest, closes every session,
    /// writes what is buffered. When it returns nothing of this broker runs.
    pub async fn shutdown(&self, grace: Duration) {
        let _ = grace;
        todo!("filled next")
    }
}
