//! The bridge as an MCP server: `/mcp` over all servers of a workspace, `/mcp/{server}` for one of them.
//!
//! Turns JSON-RPC of either era into operations of the broker and back. Decides nothing about tools and
//! keeps nothing a restart could not lose, but for what stands signed in a client's own hands.

mod abilities;
mod brought;
mod call;
mod capabilities;
mod deferred;
mod ending;
mod endpoint;
mod envelope;
mod era;
mod exchange;
mod facts;
mod frame;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
mod headers;
mod held;
mod http;
mod initialize;
mod lacking;
mod legacy;
mod legacy_sse;
mod listen;
mod listener;
mod lists;
mod log;
mod notice;
mod parts;
mod problem;
mod registry;
mod reply;
mod respond;
mod running;
mod server_face;
mod session;
mod session_id;
mod signed;
mod stream;
mod streams;
mod strict;
mod tasks;
mod visit;
mod wanted;
mod watch;
mod wishes;

use std::time::Duration;

use ::http::HeaderMap;
use axum::Router;
use axum::routing;
use broker::{Broker, BrokerError};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use transports::ServerName;

use self::envelope::{Call, Id};
use self::lists::Lists;
use self::registry::{Limits, Registry};
use self::reply::Outcome;
use self::signed::Signer;
use self::stream::Places;
use self::tasks::Tokens;
use self::visit::Visit;
use crate::app::Shared;

/// How often idle sessions are looked for.
const SWEEP: Duration = Duration::from_mins(1);

/// Bounds of this face, from the configuration.
#[derive(Debug, Clone, Copy)]
pub struct McpLimits {
    /// A legacy client's session nobody used for this long ends.
    pub session_idle: Duration,
    /// Legacy clients' sessions kept at once.
    pub max_sessions: usize,
}

/// What the MCP endpoints share.
#[derive(Debug)]
pub struct Mcp {
    registry: Registry,
    lists: Lists,
    places: Places,
    tokens: Tokens,
    /// Exchanges that outlive their connection.
    tasks: TaskTracker,
}

impl Mcp {
    /// Ready for clients of before a restart, too.
    ///
    /// # Errors
    /// `store_unavailable`.
    pub async fn start(broker: &Broker, limits: McpLimits) -> Result<Self, BrokerError> {
        let signer = Signer::new(broker.signing_secret(signed::SECRET).await?);
        let limits = Limits {
            idle: limits.session_idle,
            max: limits.max_sessions,
        };
        Ok(Self {
            registry: Registry::new(signer, limits),
            lists: Lists::new(),
            places: Places::default(),
            tokens: Tokens::default(),
            tasks: TaskTracker::new(),
        })
    }

    /// Lets go of idle sessions until the bridge closes.
    pub async fn upkeep(&self, closing: &CancellationToken) {
        let mut round = tokio::time::interval(SWEEP);
        while closing.run_until_cancelled(round.tick()).await.is_some() {
            self.registry.sweep();
        }
    }

    /// Waits for exchanges that outlived their connections; the broker's shutdown ends them.
    pub async fn drained(&self) {
        self.tasks.close();
        self.tasks.wait().await;
    }
}

/// Which endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Face {
    /// `/mcp`.
    Deferred,
    /// `/mcp/{server}`.
    Server(ServerName),
}

impl Face {
    /// What signed texts of this endpoint are bound to; no server's name is empty.
    fn place(&self) -> &str {
        match self {
            Self::Deferred => "",
            Self::Server(name) => name.as_str(),
        }
    }
}

/// Serves one request at its endpoint.
async fn serve(mut visit: Visit, (id, call): (Id, Call), headers: &HeaderMap) -> Outcome {
    visit.join_trace(&call.meta);
    let served = match visit.face.clone() {
        // Boxed, so that the other face's calls need not hold its room.
        Face::Deferred => Box::pin(deferred::serve(visit, (id, call), headers)).await,
        Face::Server(name) => server_face::serve(visit, &name, (id, call), headers).await,
    };
    served.unwrap_or_else(Outcome::Fault)
}

/// The endpoints.
pub(crate) fn routes() -> Router<Shared> {
    let endpoint = || {
        routing::post(http::post)
            .get(http::get)
            .delete(http::delete)
    };
    Router::new()
        .route("/mcp", endpoint())
        .route("/mcp/{server}", endpoint())
        .route("/sse", routing::get(legacy_sse::open))
        .route("/sse/{server}", routing::get(legacy_sse::open))
        .route("/message", routing::post(legacy_sse::message))
}
