//! What every request handler may reach: the broker, bounds, and what a reload changes.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};
use axum::extract::FromRequestParts;
use broker::{Asker, Broker, BrokerError, ErrorCode};
use http::request::Parts;
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use url::Url;

use crate::front::address::Addresses;
use crate::front::cookie::CookieKind;
use crate::front::host::Names;
use crate::front::tries::LoginTries;
use crate::mcp::Mcp;
use crate::pages::Pages;
use crate::problem::Refused;
use crate::tunnels::Tunnels;
use crate::wire::Reloaded;

/// The state of all handlers.
pub type Shared = Arc<App>;

/// Answers one wish to reload the configuration.
pub type ReloadAnswer = oneshot::Sender<Result<Reloaded, BrokerError>>;

/// Bounds of this face.
#[derive(Debug, Clone, Copy)]
pub struct FaceLimits {
    /// Largest request body.
    pub body_bytes: usize,
}

/// What a reload changes without a restart.
#[derive(Debug)]
pub struct Live {
    /// Which `Host` and `Origin` are ours.
    pub names: Names,
    /// Under which URL people reach the bridge.
    pub public_url: Option<Url>,
    /// `/openapi.json` and `/docs` are open.
    pub docs_public: bool,
    /// Keys are taken by HTTP Basic, too.
    pub basic: bool,
    /// Which addresses may come in.
    pub addresses: Addresses,
    /// How long a login lasts.
    pub login_ttl: Duration,
}

impl Live {
    /// How people reach the bridge, as far as cookies are concerned.
    #[must_use]
    pub fn cookie_kind(&self) -> CookieKind {
        let public = self.public_url.as_ref();
        if public.is_some_and(|url| url.scheme() == "https") {
            CookieKind::Secure
        } else {
            CookieKind::Plain
        }
    }
}

/// What every request handler may reach.
#[derive(Debug)]
pub struct App {
    /// The operations.
    pub broker: Broker,
    /// Bounds of this face.
    pub limits: FaceLimits,
    /// What the MCP endpoints share.
    pub mcp: Mcp,
    /// What a reload changes.
    pub live: ArcSwap<Live>,
    /// Pages of the catalogue.
    pub pages: Pages,
    /// Renders the metrics.
    pub metrics: PrometheusHandle,
    /// When the daemon started.
    pub started: Instant,
    /// Shutdown has begun: streams end, `/readyz` is 503.
    pub closing: CancellationToken,
    /// Open connections.
    pub connections: AtomicUsize,
    /// Connections of agents.
    pub tunnels: Tunnels,
    /// No credential is taken at all: whoever reaches the loopback listener is the local admin.
    pub open_access: bool,
    /// Who tried to sign in of late.
    pub login_tries: LoginTries,
    /// Wishes to reload, to the one task that does it.
    pub reload: mpsc::Sender<ReloadAnswer>,
    /// Why the last reload changed nothing.
    pub reload_fault: ArcSwapOption<String>,
}

impl App {
    /// Open connections now.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }
}

/// Who asks: put there by the front, after the credential was checked.
#[derive(Debug)]
pub struct Asked(pub Asker);

impl FromRequestParts<Shared> for Asked {
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, _: &Shared) -> Result<Self, Refused> {
        // Absent only on open routes; a handler that wants it there is refused, never let through.
        parts
            .extensions
            .remove::<Asker>()
            .map(Self)
            .ok_or_else(|| Refused::new(ErrorCode::Unauthenticated, "a credential is required"))
    }
}

/// Who asks, and about which named thing.
#[derive(Debug)]
pub struct Named {
    /// Who asks.
    pub asker: Asker,
    /// The one segment of the path.
    pub name: String,
}

impl FromRequestParts<Shared> for Named {
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, app: &Shared) -> Result<Self, Refused> {
        let Asked(asker) = Asked::from_request_parts(parts, app).await?;
        let Segment(name) = Segment::from_request_parts(parts, app).await?;
        Ok(Self { asker, name })
    }
}

/// One decoded path segment.
#[derive(Debug)]
pub struct Segment(pub String);

impl FromRequestParts<Shared> for Segment {
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, app: &Shared) -> Result<Self, Refused> {
        axum::extract::Path::<String>::from_request_parts(parts, app)
            .await
            .map(|axum::extract::Path(segment)| Self(segment))
            .map_err(|_| Refused::invalid("the path is not valid UTF-8"))
    }
}
