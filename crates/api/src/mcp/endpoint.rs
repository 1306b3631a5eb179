//! Which endpoint a request is for, and what its query says.

use axum::extract::{FromRequestParts, RawPathParams};
use broker::ErrorCode;
use http::request::Parts;
use sessions::Lane;
use transports::ServerName;

use super::Face;
use super::visit::Wish;
use crate::app::Shared;
use crate::front::query::Query;
use crate::problem::Refused;

/// Most tools exposed by a URL.
const MAX_EXPOSED: usize = 64;

/// The endpoint of a request and what its query says.
#[derive(Debug)]
pub(super) struct Endpoint {
    pub(super) face: Face,
    pub(super) wish: Wish,
}

impl FromRequestParts<Shared> for Endpoint {
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, app: &Shared) -> Result<Self, Refused> {
        let path = RawPathParams::from_request_parts(parts, app).await;
        let path = path.map_err(|_| no_such_server())?;
        let face = match path.iter().next() {
            None => Face::Deferred,
            Some((_, name)) => Face::Server(ServerName::new(name).map_err(|_| no_such_server())?),
        };
        let wish = wish(parts.uri.query(), &face)?;
        Ok(Self { face, wish })
    }
}

/// The same for every server this caller cannot see.
pub(super) fn no_such_server() -> Refused {
    Refused::new(ErrorCode::ServerNotFound, "there is no such server")
}

fn wish(raw: Option<&str>, face: &Face) -> Result<Wish, Refused> {
    let exposes = *face == Face::Deferred;
    let known = ["expose", "lane", "timeout_ms"];
    let mut query = Query::parse(raw, if exposes { &known } else { &known[1..] }, &[])?;
    let expose = query.text("expose").unwrap_or_default();
    let expose: Vec<String> = expose
        .split(',')
        .map(str::trim)
        .filter(|reference| !reference.is_empty())
        .map(str::to_owned)
        .collect();
    if expose.len() > MAX_EXPOSED {
        let detail = format!("expose names at most {MAX_EXPOSED} tools");
        return Err(Refused::invalid(detail));
    }
    let lane = query
        .text("lane")
        .map(|lane| Lane::new(&lane).map_err(|error| Refused::invalid(format!("lane: {error}"))));
    Ok(Wish {
        expose,
        lane: lane.transpose()?,
        timeout: crate::routes::timeout(query.number("timeout_ms")?)?,
    })
}
