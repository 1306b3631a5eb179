//! The pages a person sees while granting access at an authorization server: a question, and the way back.
//!
//! Whoever comes here has a browser and no key: a sealed link begins, and only the browser that set out comes back.
//! Nothing is sent anywhere before the person agreed.

use axum::extract::{Request, State};
use axum::response::Response;
use broker::Asker;
use broker::operations::credentials::{GrantQuestion, GrantReturned};
use http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, COOKIE, HeaderName, LOCATION,
    REFERRER_POLICY, SET_COOKIE, X_FRAME_OPTIONS,
};
use http::{HeaderMap, HeaderValue, StatusCode};
use secrecy::{ExposeSecret as _, SecretString};
use sessions::UserId;
use url::form_urlencoded;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::answer::{self, Answer};
use crate::app::{App, Shared};
use crate::front::body;
use crate::front::query::Query;
use crate::problem::Refused;

/// Longest body of whoever shows no credential.
const FORM_BYTES: usize = 16 * 1024;
/// How long the browser keeps its half: as long as the bridge keeps its own.
const COOKIE_S: u32 = 600;

pub(super) fn routes() -> OpenApiRouter<Shared> {
    OpenApiRouter::new()
        .routes(routes!(ask_for_grant, begin_grant))
        .routes(routes!(finish_grant))
}

/// Who is signed in in this browser, when the request showed a credential.
fn signed_in(request: &Request) -> Option<UserId> {
    let asker = request.extensions().get::<Asker>();
    asker.map(|asker| asker.principal.user.clone())
}

/// What a link asks of the person who opens it.
#[utoipa::path(
    get, path = "/v1/oauth/start", operation_id = "ask_for_grant", tag = "credentials",
    params(("ticket" = String, Query)),
    responses((status = 200, content_type = "text/html", body = String))
)]
async fn ask_for_grant(State(app): State<Shared>, request: Request) -> Answer {
    let mut query = Query::parse(request.uri().query(), &["ticket"], &[])?;
    let ticket = query.text("ticket").unwrap_or_default();
    let user = signed_in(&request);
    let question = app.broker.grant_question(&ticket, user.as_ref()).await?;
    Ok(page(StatusCode::OK, &asking(&question, &ticket)))
}

/// The person agreed: on to the authorization server.
#[utoipa::path(
    post, path = "/v1/oauth/start", operation_id = "begin_grant", tag = "credentials",
    request_body(content = String, content_type = "application/x-www-form-urlencoded"),
    responses((status = 303, description = "To the authorization server"))
)]
async fn begin_grant(State(app): State<Shared>, request: Request) -> Answer {
    let user = signed_in(&request);
    let (head, body) = request.into_parts();
    let form = body::read(body, &head.headers, FORM_BYTES).await?;
    let mut fields = form_urlencoded::parse(&form);
    let ticket = fields
        .find(|(name, _)| name == "ticket")
        .map(|(_, value)| value.into_owned())
        .unwrap_or_default();
    let begun = app.broker.begin_grant(&ticket, user.as_ref()).await?;
    let mut response = answer::empty(StatusCode::SEE_OTHER);
    let headers = response.headers_mut();
    guard(headers);
    let location = HeaderValue::try_from(begun.authorize.as_str());
    headers.insert(LOCATION, location.map_err(|_| unsayable())?);
    let cookie = set_cookie(&app, &begun.browser)?;
    headers.insert(SET_COOKIE, cookie);
    Ok(response)
}

/// The browser comes back from the authorization server.
#[utoipa::path(
    get, path = "/v1/oauth/callback", operation_id = "finish_grant", tag = "credentials",
    params(("state" = String, Query), ("code" = Option<String>, Query), ("iss" = Option<String>, Query), ("error" = Option<String>, Query)),
    responses((status = 200, content_type = "text/html", body = String))
)]
async fn finish_grant(State(app): State<Shared>, request: Request) -> Answer {
    let user = signed_in(&request);
    // Others' parameters may stand beside ours; each of ours only once.
    let mut returned = GrantReturned {
        browser: cookie(&app, request.headers()),
        ..GrantReturned::default()
    };
    let query = request.uri().query().unwrap_or_default();
    let mut seen = 0_u8;
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        let bit = match &*name {
            "state" => 1,
            "code" => 2,
            "iss" => 4,
            "error" => 8,
            _ => continue,
        };
        if seen & bit != 0 {
            return Err(Refused::invalid("a parameter stands twice"));
        }
        seen |= bit;
        let value = value.into_owned();
        match bit {
            1 => returned.state = value,
            2 => returned.code = Some(value),
            4 => returned.iss = Some(value),
            _ => returned.error = Some(value),
        }
    }
    let server = app.broker.finish_grant(returned, user.as_ref()).await?;
    let words = format!(
        "<h1>Access granted</h1><p>The bridge may now use <b>{}</b> for you. You can close this page.</p>",
        escaped(&server)
    );
    let mut response = page(StatusCode::OK, &words);
    let gone = format!(
        "{}=; Max-Age=0; Path=/{}",
        cookie_name(&app),
        attributes(&app)
    );
    if let Ok(gone) = HeaderValue::try_from(gone) {
        response.headers_mut().insert(SET_COOKIE, gone);
    }
    Ok(response)
}

fn unsayable() -> Refused {
    Refused::new(
        broker::ErrorCode::UpstreamProtocolError,
        "the authorization server's address cannot be told to a browser",
    )
}

fn asking(question: &GrantQuestion, ticket: &str) -> String {
    let whose = if question.shared {
        "for <b>everybody in the workspace</b>"
    } else {
        "for this user alone"
    };
    format!(
        "<h1>Grant access?</h1>\
         <p>The user <b>{}</b> of the workspace <b>{}</b> asks to use the server <b>{}</b> at <b>{}</b> \
         with an account that you sign in to next. The bridge keeps the grant {whose}.</p>\
         <p>Go on only if this is you and you asked for it.</p>\
         <form method=\"post\" action=\"/v1/oauth/start\">\
         <input type=\"hidden\" name=\"ticket\" value=\"{}\">\
         <button>Go on</button></form>",
        escaped(&question.user),
        escaped(&question.workspace),
        escaped(&question.server),
        escaped(&question.address),
        escaped(ticket),
    )
}

/// Text inside a page or an attribute.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}

fn page(status: StatusCode, words: &str) -> Response {
    let html = format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><title>PaperBot MCP Bridge</title></head>\
         <body>{words}</body></html>"
    );
    let mut response = answer::with_status(Response::new(html.into()), status);
    let headers = response.headers_mut();
    let kind = HeaderValue::from_static("text/html; charset=utf-8");
    headers.insert(CONTENT_TYPE, kind);
    guard(headers);
    response
}

/// No script, no frame, no cache, and no word to another site of where the browser came from.
fn guard(headers: &mut HeaderMap) {
    let guards: [(HeaderName, &'static str); 4] = [
        (
            CONTENT_SECURITY_POLICY,
            "default-src 'none'; base-uri 'none'; frame-ancestors 'none'",
        ),
        (X_FRAME_OPTIONS, "DENY"),
        (CACHE_CONTROL, "no-store"),
        (REFERRER_POLICY, "same-origin"),
    ];
    for (name, value) in guards {
        headers.insert(name, HeaderValue::from_static(value));
    }
}

/// Whether browsers reach the bridge by TLS.
fn secure(app: &App) -> bool {
    let live = app.live.load();
    live.public_url
        .as_ref()
        .is_some_and(|url| url.scheme() == "https")
}

/// With the prefix no other host of the site can set it.
fn cookie_name(app: &App) -> &'static str {
    if secure(app) {
        "__Host-paperbot-grant"
    } else {
        "paperbot-grant"
    }
}

fn attributes(app: &App) -> &'static str {
    // Lax: the way back begins at the authorization server.
    if secure(app) {
        "; HttpOnly; SameSite=Lax; Secure"
    } else {
        "; HttpOnly; SameSite=Lax"
    }
}

fn set_cookie(app: &App, browser: &SecretString) -> Result<HeaderValue, Refused> {
    let text = format!(
        "{}={}; Max-Age={COOKIE_S}; Path=/{}",
        cookie_name(app),
        browser.expose_secret(),
        attributes(app)
    );
    let mut value = HeaderValue::try_from(text).map_err(|_| unsayable())?;
    value.set_sensitive(true);
    Ok(value)
}

fn cookie(app: &App, headers: &HeaderMap) -> Option<SecretString> {
    let name = cookie_name(app);
    let lines = headers.get_all(COOKIE).iter();
    lines
        .filter_map(|line| line.to_str().ok())
        .flat_map(|line| line.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .find(|(key, _)| *key == name)
        .map(|(_, value)| SecretString::from(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_in_a_page_can_leave_its_place() {
        let question = GrantQuestion {
            server: "s".to_owned(),
            address: "https://x/\"><script>".to_owned(),
            workspace: "<img onerror=x>".to_owned(),
            user: "a'b&c".to_owned(),
            shared: false,
        };
        let html = asking(&question, "\"><b>");
        assert!(!html.contains("<script") && !html.contains("<img"));
        assert!(html.contains("a&#39;b&amp;c"));
        assert!(html.contains("value=\"&quot;&gt;&lt;b&gt;\""));
    }
}
