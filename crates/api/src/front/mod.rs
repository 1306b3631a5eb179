//! The one door: every request passes here before any route is looked at.
//!
//! Trace, address, Host, Origin, then the credential unless the route is in [`OPEN_ROUTES`]; after the handler the
//! failure's body and the headers every answer carries. Default deny: a route nobody thought of is closed.

pub mod address;
pub mod body;
pub mod cookie;
mod cors;
mod credential;
pub mod headers;
mod held;
pub mod host;
pub mod query;
pub(crate) mod rates;
pub mod tries;

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::response::Response;
use broker::{Asker, Credential, ErrorCode, Principal, Role, Trace};
use futures_util::FutureExt as _;
use http::header::{
    ALLOW, AUTHORIZATION, CACHE_CONTROL, ETAG, HeaderName, WWW_AUTHENTICATE, X_CONTENT_TYPE_OPTIONS,
};
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode};
use sessions::{UserId, WorkspaceId};
use tower::Service as _;

use self::address::Remote;
use self::cors::Page;
use self::credential::Presented;
use self::rates::Told;
use crate::answer;
use crate::app::{Live, Shared};
use crate::meters::Meters;
use crate::problem::Refused;
use crate::traced::{traced, within};

/// Routes without a credential, GET and HEAD only. Everything else needs one.
pub const OPEN_ROUTES: [&str; 3] = ["/healthz", "/readyz", "/health"];
/// Routes whose caller has no key in the head and shows something else: a person who signs in, the key in the body; an
/// agent its token, in the first frames; an agent that is being paired, nothing yet, or what it polls with; a browser
/// that grants access, a sealed link or its state.
pub const OWN_CREDENTIAL: [(&str, &str); 7] = [
    ("POST", "/v1/login"),
    ("GET", "/v1/agents/tunnel"),
    ("POST", "/v1/agents/pair"),
    ("POST", "/v1/agents/pair/poll"),
    ("GET", GRANT_START),
    ("POST", GRANT_START),
    ("GET", "/v1/oauth/callback"),
];
/// Where a person agrees to a grant.
const GRANT_START: &str = "/v1/oauth/start";
/// Open as well when the owner says `docs_public: true`.
const PUBLIC_DOCS: [&str; 2] = ["/openapi.json", "/docs"];
/// The trace of the request, on every answer.
const TRACE_HEADER: HeaderName = HeaderName::from_static("x-trace-id");
/// The workspace a request stands in.
const WORKSPACE_HEADER: &str = "x-workspace";
/// Told besides `Bearer` where `auth.basic` is on.
const BASIC_CHALLENGE: HeaderValue =
    HeaderValue::from_static(r#"Basic realm="paperbot", charset="UTF-8""#);
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
        let number = trace.number();
        // Whatever is logged while this request is handled holds its trace.
        let handled = traced(number, self.handle(request, trace));
        let handled = AssertUnwindSafe(handled).catch_unwind();
        let (outcome, page) = match handled.await {
            Ok(handled) => handled,
            Err(_panic) => {
                within(
                    number,
                    || tracing::error!(http.path = %path, "a request handler panicked"),
                );
                let refused = Refused::new(
                    ErrorCode::Internal,
                    "the bridge failed; the trace id finds it in its log",
                );
                (Err(refused), Page::None)
            }
        };
        let code = outcome.as_ref().err().map(Refused::code);
        let mut response = match outcome {
            Ok(response) => settle(response, &path, &trace_id),
            Err(refused) => refused.answer(&path, &trace_id),
        };
        dress(&mut response, &trace_id);
        let live = self.app.live.load();
        cors::dress(response.headers_mut(), &page, live.names.trusts_any());
        let status = response.status();
        if live.basic && status == StatusCode::UNAUTHORIZED {
            response
                .headers_mut()
                .append(WWW_AUTHENTICATE, BASIC_CHALLENGE);
        }
        self.meters.answered(status);
        within(number, || {
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
    ) -> (Result<Response, Refused>, Page) {
        let live = self.app.live.load();
        let checked = check_address(&request, &live)
            .and_then(|()| live.names.check_host(request.uri(), request.headers()))
            .and_then(|()| live.names.check_origin(request.headers()));
        let page = match checked {
            Ok(page) => page,
            Err(refused) => return (Err(refused), Page::None),
        };
        if request.method() == Method::OPTIONS {
            return (self.preflight(request, &page).await, page);
        }
        (self.admit(request, trace, &live).await, page)
    }

    async fn preflight(&self, request: Request<Body>, page: &Page) -> Result<Response, Refused> {
        match page {
            Page::None => Err(Refused::new(
                ErrorCode::Forbidden,
                "OPTIONS needs an allowed Origin",
            )),
            Page::Own => Ok(answer::empty(StatusCode::NO_CONTENT)),
            Page::Trusted(_) => {
                let asked = request.headers().clone();
                // No route answers OPTIONS: the router refuses it with the verbs the path knows.
                let Ok(refused) = self.router.clone().call(request).await;
                Ok(cors::preflight(&asked, refused.headers().get(ALLOW)))
            }
        }
    }

    async fn admit(
        &self,
        mut request: Request<Body>,
        trace: Trace,
        live: &Live,
    ) -> Result<Response, Refused> {
        let open = is_open(request.method(), request.uri().path(), live);
        request.extensions_mut().insert(trace.clone());
        let claim = if open {
            self.claim_by_the_way(&request, live)?
        } else {
            Some(self.claim(&request, live)?)
        };
        let known = match claim {
            Some(claim) => self.known(claim).await?,
            None => None,
        };
        let (mut held, mut rates) = (None, None);
        if let Some(Known {
            principal,
            credential,
        }) = known
        {
            held = credential.map(|credential| (credential, principal.clone()));
            rates = Some(Told::of(&principal));
            request.extensions_mut().insert(Asker { principal, trace });
        }
        // The router never fails: its error type is `Infallible`.
        let Ok(response) = self.router.clone().call(request).await;
        let rates = rates.map(|told| told.now(&self.app.broker));
        match (response.extensions().get::<Refused>(), held) {
            (Some(refused), _) => Err(refused
                .clone()
                .allowing(response.headers().get(ALLOW))
                .within(rates)),
            (None, Some((credential, principal))) if held::is_stream(&response) => {
                let broker = self.app.broker.clone();
                let lost = async move { broker.until_lost(credential, principal).await };
                Ok(rates::dressed(held::until(response, lost), rates))
            }
            (None, _) => Ok(rates::dressed(response, rates)),
        }
    }
}

/// What a request says of who asks, before anybody looked whether it is so.
struct Claim<'a> {
    workspace: Option<&'a str>,
    /// `None` where nobody need show anything.
    presented: Option<Presented>,
    forgery: Result<(), Refused>,
    /// What is not so counts as nothing said.
    lenient: bool,
}

/// Who asks.
struct Known {
    principal: Principal,
    /// What it was shown by; `None` where nobody need show anything.
    credential: Option<Credential>,
}

impl Front {
    fn claim<'a>(&self, request: &'a Request<Body>, live: &Live) -> Result<Claim<'a>, Refused> {
        let workspace = workspace(request.headers())?;
        let presented = if self.app.open_access {
            None
        } else {
            Some(Presented::of(request, live)?)
        };
        let forgery = presented
            .as_ref()
            .map_or(Ok(()), |presented| presented.check_forgery(request));
        Ok(Claim {
            workspace,
            presented,
            forgery,
            lenient: false,
        })
    }

    /// What is said on an open route, which tells as much more as a credential may see.
    fn claim_by_the_way<'a>(
        &self,
        request: &'a Request<Body>,
        live: &Live,
    ) -> Result<Option<Claim<'a>>, Refused> {
        let path = request.uri().path();
        if request.headers().contains_key(AUTHORIZATION) {
            // Whoever looks whether the bridge lives need not be anybody, and is told so with a wrong key too.
            let lenient = OPEN_ROUTES.contains(&path);
            return match self.claim(request, live) {
                Err(_) if lenient => Ok(None),
                claim => Ok(Some(Claim { lenient, ..claim? })),
            };
        }
        // A grant is for the person signed in in this browser. Its link is sealed, and stands in for the word
        // against forgery.
        if path != GRANT_START || self.app.open_access {
            return Ok(None);
        }
        let presented = Presented::of(request, live).ok();
        Ok(presented.map(|presented| Claim {
            workspace: None,
            presented: Some(presented),
            forgery: Ok(()),
            lenient: true,
        }))
    }

    async fn known(&self, claim: Claim<'_>) -> Result<Option<Known>, Refused> {
        let lenient = claim.lenient;
        match self.known_by(claim).await {
            Err(_) if lenient => Ok(None),
            known => known.map(Some),
        }
    }

    async fn known_by(&self, claim: Claim<'_>) -> Result<Known, Refused> {
        let Some(presented) = claim.presented else {
            return Ok(Known {
                principal: local_admin(claim.workspace)?,
                credential: None,
            });
        };
        let principal = presented.admit(&self.app.broker, claim.workspace).await?;
        claim.forgery?;
        Ok(Known {
            principal,
            credential: Some(presented.credential),
        })
    }
}

/// Whether the address a request comes from may come in at all.
fn check_address(request: &Request<Body>, live: &Live) -> Result<(), Refused> {
    let remote = request.extensions().get::<Remote>();
    let origin = remote.and_then(|remote| live.addresses.origin(remote.0.ip(), request.headers()));
    if live.addresses.admits(origin) {
        return Ok(());
    }
    Err(Refused::new(
        ErrorCode::Forbidden,
        "this address may not come in",
    ))
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

/// Whether an operation needs no credential in its head.
pub(crate) fn is_open_operation(verb: &str, path: &str) -> bool {
    (verb == "GET" && OPEN_ROUTES.contains(&path)) || has_own_credential(verb, path)
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
        expires_at: None,
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

fn dress(response: &mut Response, trace_id: &str) {
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
}
