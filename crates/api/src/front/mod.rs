//! The one door: every request passes here before any route is looked at.
//!
//! Trace, Host, Origin, then the credential unless the route is in [`OPEN_ROUTES`]; after the handler the
//! failure's body and the headers every answer carries. Default deny: a route nobody thought of is closed.

pub mod body;
pub mod headers;
pub mod host;
pub mod query;

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::response::Response;
use broker::{Asker, ErrorCode, Principal, Role, Trace};
use futures_util::FutureExt as _;
use http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_REQUEST_HEADERS, ALLOW, AUTHORIZATION,
    CACHE_CONTROL, ETAG, HeaderName, VARY, X_CONTENT_TYPE_OPTIONS,
};
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode};
use sessions::{UserId, WorkspaceId};
use tower::Service as _;
use tracing::Instrument as _;

use crate::answer;
use crate::app::{Live, Shared};
use crate::meters::Meters;
use crate::problem::Refused;

/// Routes without a credential, GET and HEAD only. Everything else needs one.
pub const OPEN_ROUTES: [&str; 3] = ["/healthz", "/readyz", "/health"];
/// Routes whose caller has no key and shows something else: an agent its token, in the first frames; an agent that
/// is being paired, nothing yet, or what it polls with.
pub const OWN_CREDENTIAL: [(&str, &str); 3] = [
    ("GET", "/v1/agents/tunnel"),
    ("POST", "/v1/agents/pair"),
    ("POST", "/v1/agents/pair/poll"),
];
/// Open as well when the owner says `docs_public: true`.
const PUBLIC_DOCS: [&str; 2] = ["/openapi.json", "/docs"];
/// The trace of the request, on every answer.
const TRACE_HEADER: HeaderName = HeaderName::from_static("x-trace-id");
/// The workspace a request stands in.
const WORKSPACE_HEADER: &str = "x-workspace";
/// How headers begin that mirror a tool's arguments (MCP 2026-07-28).
const MIRRORED_PREFIX: &str = "mcp-param-";
/// The user of a bridge without keys.
const LOCAL_USER: &str = "local";

/// Marks an answer whose failure has a body of its own: JSON-RPC tells failures in its own words.
#[derive(Debug, Clone, Copy)]
pub(crate) struct AsItIs;

/// The one door.
#[derive(Debug, Clone)]
pub struct Front {
    app: Shared,
    router: Router,
    meters: Arc<Meters>,
}

impl Front {
    /// A door before these routes.
    #[must_use]
    pub fn new(app: Shared, router: Router) -> Self {
        Self {
            app,
            router,
            meters: Arc::new(Meters::new()),
        }
    }

    /// Answers one request; never fails and never panics.
    pub async fn answer(&self, request: Request<Body>) -> Response {
        let _in_flight = self.meters.begin();
        let trace = headers::trace(request.headers());
        let trace_id = trace.id();
        let path = request.uri().path().to_owned();
        // Whatever is logged while this request is handled holds its trace.
        let span = tracing::info_span!("api.request", trace_id = %trace_id);
        let handled =
            AssertUnwindSafe(self.handle(request, trace).instrument(span.clone())).catch_unwind();
        let (outcome, origin) = match handled.await {
            Ok(handled) => handled,
            Err(_panic) => {
                tracing::error!(trace_id = %trace_id, http.path = %path, "a request handler panicked");
                let refused = Refused::new(
                    ErrorCode::Internal,
                    "the bridge failed; the trace id finds it in its log",
                );
                (Err(refused), None)
            }
        };
        let code = outcome.as_ref().err().map(Refused::code);
        let mut response = match outcome {
            Ok(response) => settle(response, &path, &trace_id),
            Err(refused) => refused.answer(&path, &trace_id),
        };
        dress(&mut response, &trace_id, origin);
        let status = response.status();
        self.meters.answered(status);
        span.in_scope(|| {
            let (http_status, code) = (status.as_u16(), code.map_or("-", ErrorCode::as_str));
            if status.is_client_error() || status.is_server_error() {
                tracing::info!(http.path = %path, http.status = http_status, code, "refused");
            } else {
                tracing::debug!(http.path = %path, http.status = http_status, "answered");
            }
        });
        response
    }

    async fn handle(
        &self,
        request: Request<Body>,
        trace: Trace,
    ) -> (Result<Response, Refused>, Option<HeaderValue>) {
        let live = self.app.live.load();
        let checked = live
            .names
            .check_host(request.uri(), request.headers())
            .and_then(|()| live.names.check_origin(request.headers()));
        let origin = match checked {
            Ok(origin) => origin,
            Err(refused) => return (Err(refused), None),
        };
        if request.method() == Method::OPTIONS {
            let outcome = match &origin {
                Some(_) => Ok(preflight(request.headers())),
                None => Err(Refused::new(
                    ErrorCode::Forbidden,
                    "OPTIONS needs an allowed Origin",
                )),
            };
            return (outcome, origin);
        }
        (self.admit(request, trace, &live).await, origin)
    }

    async fn admit(
        &self,
        mut request: Request<Body>,
        trace: Trace,
        live: &Live,
    ) -> Result<Response, Refused> {
        let open = is_open(request.method(), request.uri().path(), live);
        // An open route that is asked with a credential is told as much as the credential may see.
        if !open || request.headers().contains_key(AUTHORIZATION) {
            let principal = self.principal(request.headers()).await?;
            request.extensions_mut().insert(Asker { principal, trace });
        }
        // The router never fails: its error type is `Infallible`.
        let Ok(response) = self.router.clone().call(request).await;
        match response.extensions().get::<Refused>() {
            Some(refused) => Err(refused.clone().allowing(response.headers().get(ALLOW))),
            None => Ok(response),
        }
    }

    async fn principal(&self, headers: &HeaderMap) -> Result<Principal, Refused> {
        let workspace = workspace(headers)?;
        if self.app.open_access {
            return local_admin(workspace);
        }
        let token = bearer(headers)?;
        Ok(self.app.broker.authenticate(token, workspace).await?)
    }
}

fn is_open(method: &Method, path: &str, live: &Live) -> bool {
    let reads = method == Method::GET || method == Method::HEAD;
    has_own_credential(method.as_str(), path)
        || reads
            && (OPEN_ROUTES.contains(&path) || (live.docs_public && PUBLIC_DOCS.contains(&path)))
}

fn has_own_credential(method: &str, path: &str) -> bool {
    OWN_CREDENTIAL.contains(&(method, path))
}

/// Whether some route of a path needs no key.
pub(crate) fn is_open_path(path: &str) -> bool {
    OPEN_ROUTES.contains(&path) || OWN_CREDENTIAL.iter().any(|(_, open)| *open == path)
}

fn bearer(headers: &HeaderMap) -> Result<&str, Refused> {
    let missing = || {
        Refused::new(
            ErrorCode::Unauthenticated,
            "the header Authorization: Bearer <key> is required",
        )
    };
    let mut told = headers.get_all(AUTHORIZATION).iter();
    let (Some(value), None) = (told.next(), told.next()) else {
        return Err(missing());
    };
    let (scheme, token) = value
        .to_str()
        .ok()
        .and_then(|text| text.split_once(' '))
        .ok_or_else(missing)?;
    if scheme.eq_ignore_ascii_case("bearer") && !token.trim().is_empty() {
        Ok(token.trim())
    } else {
        Err(missing())
    }
}

fn workspace(headers: &HeaderMap) -> Result<Option<&str>, Refused> {
    let mut told = headers.get_all(WORKSPACE_HEADER).iter();
    match (told.next(), told.next()) {
        (None, _) => Ok(None),
        (Some(value), None) => value
            .to_str()
            .map(Some)
            .map_err(|_| Refused::invalid("X-Workspace is not printable ASCII")),
        (Some(_), Some(_)) => Err(Refused::invalid("X-Workspace may stand only once")),
    }
}

fn local_admin(workspace: Option<&str>) -> Result<Principal, Refused> {
    let not_found = |_| Refused::new(ErrorCode::ResourceNotFound, "no such workspace");
    let name = workspace.unwrap_or(broker::definition::DEFAULT_WORKSPACE);
    let workspace = WorkspaceId::new(name).map_err(not_found)?;
    Ok(Principal {
        user: UserId::new(LOCAL_USER).map_err(not_found)?,
        workspaces: vec![workspace.clone()],
        workspace,
        roles: vec![Role::Admin],
        key_id: "none".to_owned(),
        scopes: broker::Scopes::default(),
    })
}

/// A failure that did not come from a handler of ours (a rejection inside axum) becomes a problem too.
fn settle(response: Response, path: &str, trace_id: &str) -> Response {
    let status = response.status();
    if response.extensions().get::<AsItIs>().is_some() {
        return response;
    }
    if status.is_client_error() {
        return Refused::invalid("the request cannot be read").answer(path, trace_id);
    }
    if status.is_server_error() && status != StatusCode::SERVICE_UNAVAILABLE {
        return Refused::new(ErrorCode::Internal, "the bridge failed").answer(path, trace_id);
    }
    response
}

fn dress(response: &mut Response, trace_id: &str, origin: Option<HeaderValue>) {
    let headers = response.headers_mut();
    if let Ok(value) = HeaderValue::from_str(trace_id) {
        headers.insert(TRACE_HEADER, value);
    }
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if !headers.contains_key(CACHE_CONTROL) {
        let tagged = headers.contains_key(ETAG);
        let rule = if tagged {
            "private, no-cache"
        } else {
            "no-store"
        };
        headers.insert(CACHE_CONTROL, HeaderValue::from_static(rule));
    }
    if let Some(origin) = origin {
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        headers.insert(VARY, HeaderValue::from_static("origin"));
        let exposed = "etag, location, mcp-session-id, retry-after, x-trace-id";
        headers.insert(
            ACCESS_CONTROL_EXPOSE_HEADERS,
            HeaderValue::from_static(exposed),
        );
    }
}

fn preflight(asked: &HeaderMap) -> Response {
    let mut response = answer::empty(StatusCode::NO_CONTENT);
    let headers = response.headers_mut();
    let methods = HeaderValue::from_static("GET, POST, PUT, DELETE");
    headers.insert(ACCESS_CONTROL_ALLOW_METHODS, methods);
    let mut allowed = String::from(
        "accept, authorization, content-type, idempotency-key, if-match, if-none-match, last-event-id, \
         mcp-method, mcp-name, mcp-protocol-version, mcp-session-id, prefer, traceparent, x-workspace",
    );
    // Tools name these; no list can know them.
    let asked = asked.get(ACCESS_CONTROL_REQUEST_HEADERS);
    let asked = asked
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    for name in asked.split(',').map(str::trim) {
        if name.to_ascii_lowercase().starts_with(MIRRORED_PREFIX) {
            allowed.push_str(", ");
            allowed.push_str(name);
        }
    }
    if let Ok(allowed) = HeaderValue::try_from(allowed) {
        headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, allowed);
    }
    response
}
