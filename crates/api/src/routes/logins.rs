//! Signing in with a browser: a key or a token becomes a cookie no script can read, until it is given back.

use std::convert::Infallible;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use axum::Extension;
use axum::extract::{FromRequestParts, State};
use axum::response::Response;
use broker::{Credential, ErrorCode, Principal, Trace, logins};
use chrono::{DateTime, SecondsFormat, Utc};
use http::header::SET_COOKIE;
use http::request::Parts;
use http::{HeaderMap, HeaderValue, StatusCode};
use secrecy::{ExposeSecret as _, SecretString};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::principals::role_name;
use crate::answer::{self, Answer};
use crate::app::{Asked, Shared};
use crate::front::address::Remote;
use crate::front::body::Json;
use crate::front::cookie;
use crate::problem::Refused;
use crate::wire;

pub(super) fn routes() -> OpenApiRouter<Shared> {
    OpenApiRouter::new()
        .routes(routes!(login, get_login))
        .routes(routes!(logout))
}

/// What is told of a login: who came in, and what a page must say besides the cookie.
fn view(principal: Principal, csrf_token: String, expires_at: DateTime<Utc>) -> wire::Login {
    wire::Login {
        user: principal.user.into(),
        workspace: principal.workspace.into(),
        workspaces: principal.workspaces.into_iter().map(String::from).collect(),
        roles: principal.roles.into_iter().map(role_name).collect(),
        csrf_token,
        expires_at: expires_at.to_rfc3339_opts(SecondsFormat::Millis, true),
    }
}

/// Where a request comes from. Whoever cannot be told apart by a proxy's word counts with the proxy.
struct Caller(IpAddr);

impl FromRequestParts<Shared> for Caller {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, app: &Shared) -> Result<Self, Infallible> {
        let remote = parts.extensions.get::<Remote>();
        let peer = remote.map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |remote| remote.0.ip());
        let origin = app.live.load().addresses.origin(peer, &parts.headers);
        Ok(Self(origin.unwrap_or(peer)))
    }
}

fn with_cookie(mut response: Response, cookie: Option<HeaderValue>) -> Answer {
    let unwritable = || Refused::new(ErrorCode::Internal, "the cookie cannot be written");
    let cookie = cookie.ok_or_else(unwritable)?;
    response.headers_mut().insert(SET_COOKIE, cookie);
    Ok(response)
}

/// Signs in with a key, or a token of the issuer; sets the cookie.
#[utoipa::path(
    post, path = "/v1/login", operation_id = "login", tag = "principals",
    request_body = wire::LoginRequest,
    responses((status = 200, body = wire::Login))
)]
async fn login(
    State(app): State<Shared>,
    Extension(trace): Extension<Trace>,
    Caller(address): Caller,
    Json(body): Json<wire::LoginRequest>,
) -> Answer {
    let key = SecretString::from(body.key);
    let live = app.live.load();
    app.login_tries.begin(address)?;
    let wish = (key.expose_secret(), live.login_ttl);
    let (login, principal) = app.broker.begin_login(wish, trace).await?;
    app.login_tries.succeeded(address);
    let left = (login.expires_at - Utc::now()).to_std();
    let set = cookie::set(
        live.cookie_kind(),
        login.cookie.expose_secret(),
        left.unwrap_or(Duration::ZERO),
    );
    let shown = view(principal, login.csrf_token, login.expires_at);
    with_cookie(answer::json(&shown)?, set)
}

/// The login this request came by, with the word its page must say.
#[utoipa::path(
    get, path = "/v1/login", operation_id = "get_login", tag = "principals",
    responses((status = 200, body = wire::Login))
)]
async fn get_login(State(app): State<Shared>, Asked(asker): Asked, headers: HeaderMap) -> Answer {
    let none = || Refused::new(ErrorCode::ResourceNotFound, "this request came by no login");
    let cookie = cookie::read(&headers, app.live.load().cookie_kind()).ok_or_else(none)?;
    let credential = Credential::Login(SecretString::from(cookie));
    let workspace = asker.principal.workspace.as_str();
    let admitted = app.broker.admit(&credential, Some(workspace)).await?;
    // A key was shown besides the cookie of somebody, or of another login.
    if admitted.key_id != asker.principal.key_id {
        return Err(none());
    }
    let expires_at = admitted.expires_at.unwrap_or(DateTime::<Utc>::MAX_UTC);
    let csrf_token = logins::csrf_token(cookie);
    answer::json(&view(admitted, csrf_token, expires_at))
}

/// Ends the login this request came by, and removes the cookie.
#[utoipa::path(
    post, path = "/v1/logout", operation_id = "logout", tag = "principals",
    responses((status = 204, description = "Signed out"))
)]
async fn logout(State(app): State<Shared>, Asked(asker): Asked) -> Answer {
    app.broker.end_login(&asker).await?;
    let removal = cookie::remove(app.live.load().cookie_kind());
    with_cookie(answer::empty(StatusCode::NO_CONTENT), removal)
}
