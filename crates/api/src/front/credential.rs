//! The credential of a request: where it stands, which kind it is, and what besides it must be said.
//!
//! `Authorization` goes before a cookie. A cookie opens the REST routes to a page of ours and nothing else: MCP, the
//! tunnel and other origins never. Decides nothing about who somebody is.

use axum::body::Body;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use broker::{Broker, Credential, ErrorCode, Principal, logins};
use http::header::AUTHORIZATION;
use http::{HeaderMap, Method, Request};
use secrecy::{ExposeSecret as _, SecretString};

use super::cookie;
use crate::app::Live;
use crate::problem::Refused;

/// What a page says to show that it is ours; follows from its cookie.
pub(crate) const CSRF_HEADER: &str = "x-csrf-token";
/// Longest Basic credential, encoded: a user's id and a key.
const MAX_BASIC_BYTES: usize = 1024;
/// Routes outside `/v1/` that a cookie opens.
const COOKIE_PATHS: [&str; 3] = ["/openapi.json", "/docs", "/metrics"];
/// The one route under `/v1/` that no cookie opens: agents dial in there.
const TUNNEL: &str = "/v1/agents/tunnel";

/// A credential, and what must hold besides.
#[derive(Debug, Clone)]
pub(crate) struct Presented {
    pub(crate) credential: Credential,
    /// The name it was given under; the key must be that user's, or have that id.
    name: Option<String>,
}

fn missing() -> Refused {
    let detail = "the header Authorization: Bearer <key> is required";
    Refused::new(ErrorCode::Unauthenticated, detail)
}

impl Presented {
    /// The credential of a request.
    ///
    /// # Errors
    /// `unauthenticated` when there is none, or none that is taken here.
    pub(crate) fn of(request: &Request<Body>, live: &Live) -> Result<Self, Refused> {
        let headers = request.headers();
        if headers.contains_key(AUTHORIZATION) {
            return Self::authorization(headers, live.basic);
        }
        let cookie = Some(request.uri().path())
            .filter(|path| takes_cookies(path))
            .and_then(|_| cookie::read(headers, live.cookie_kind()));
        let cookie = cookie.ok_or_else(missing)?;
        Ok(Self {
            credential: Credential::Login(SecretString::from(cookie)),
            name: None,
        })
    }

    fn authorization(headers: &HeaderMap, basic: bool) -> Result<Self, Refused> {
        let mut told = headers.get_all(AUTHORIZATION).iter();
        let (Some(value), None) = (told.next(), told.next()) else {
            return Err(missing());
        };
        let (scheme, rest) = value
            .to_str()
            .ok()
            .and_then(|text| text.split_once(' '))
            .ok_or_else(missing)?;
        let rest = rest.trim();
        if scheme.eq_ignore_ascii_case("bearer") && !rest.is_empty() {
            return Ok(Self {
                credential: Credential::Token(SecretString::from(rest)),
                name: None,
            });
        }
        if basic && scheme.eq_ignore_ascii_case("basic") {
            return named(rest).ok_or_else(missing);
        }
        Err(missing())
    }

    /// Who it is.
    ///
    /// # Errors
    /// As [`Broker::admit`]; `unauthenticated` when the key is not that of the name it was given under.
    pub(crate) async fn admit(
        &self,
        broker: &Broker,
        workspace: Option<&str>,
    ) -> Result<Principal, Refused> {
        let principal = broker.admit(&self.credential, workspace).await?;
        let own = |name: &String| *name == principal.key_id || name == principal.user.as_str();
        if self.name.as_ref().is_none_or(own) {
            return Ok(principal);
        }
        let detail = "no valid credential was given";
        Err(Refused::new(ErrorCode::Unauthenticated, detail))
    }

    /// A cookie comes along whoever made the browser send the request: what changes anything must say besides what
    /// only our own page can know.
    ///
    /// # Errors
    /// `forbidden`.
    pub(crate) fn check_forgery(&self, request: &Request<Body>) -> Result<(), Refused> {
        let Credential::Login(cookie) = &self.credential else {
            return Ok(());
        };
        if matches!(*request.method(), Method::GET | Method::HEAD) {
            return Ok(());
        }
        let told = request.headers().get(CSRF_HEADER);
        let told = told.and_then(|value| value.to_str().ok());
        if told.is_some_and(|told| logins::is_ours(cookie.expose_secret(), told)) {
            return Ok(());
        }
        let detail = "with a login's cookie the header X-CSRF-Token is required";
        Err(Refused::new(ErrorCode::Forbidden, detail))
    }
}

/// `name:key` of HTTP Basic. A token of the issuer is no password.
fn named(encoded: &str) -> Option<Presented> {
    if encoded.len() > MAX_BASIC_BYTES {
        return None;
    }
    let plain = String::from_utf8(STANDARD.decode(encoded).ok()?).ok()?;
    let (name, key) = plain.split_once(':')?;
    (key.starts_with("pb_") && !name.is_empty()).then(|| Presented {
        credential: Credential::Token(SecretString::from(key)),
        name: Some(name.to_owned()),
    })
}

fn takes_cookies(path: &str) -> bool {
    COOKIE_PATHS.contains(&path) || (path.starts_with("/v1/") && path != TUNNEL)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cookie_opens_rest_and_neither_mcp_nor_the_tunnel() {
        for open in ["/v1/me", "/v1/login", "/docs", "/v1/agents"] {
            assert!(takes_cookies(open), "{open}");
        }
        for closed in [
            "/mcp",
            "/mcp/files",
            "/sse",
            "/message",
            "/v1/agents/tunnel",
            "//v1/me",
            "/V1/me",
            "/api/register",
        ] {
            assert!(!takes_cookies(closed), "{closed}");
        }
    }

    #[test]
    fn basic_is_a_name_and_a_key_and_nothing_else() {
        let given = |plain: &str| named(&STANDARD.encode(plain)).and_then(|given| given.name);
        assert_eq!(given("ann:pb_1_2").as_deref(), Some("ann"));
        for bad in ["ann", ":pb_1_2", "ann:secret", "ann:a.b.c", ""] {
            assert_eq!(given(bad), None, "{bad}");
        }
        assert!(named("%%%").is_none());
        assert!(named(&"A".repeat(MAX_BASIC_BYTES + 4)).is_none());
    }
}
