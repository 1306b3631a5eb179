//! Sessions: open, list, inspect, close, refresh. Opening is never needed.

use std::time::Duration;

use axum::extract::{RawQuery, State};
use broker::operations::sessions::OpenSession;
use http::StatusCode;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::calls::lane;
use super::views;
use crate::answer::{self, Answer};
use crate::app::{Asked, Segment, Shared};
use crate::front::body::{Json, JsonOrDefault};
use crate::front::query::Query;
use crate::wire;

pub(super) fn routes() -> OpenApiRouter<Shared> {
    OpenApiRouter::new()
        .routes(routes!(open_session, list_sessions))
        .routes(routes!(inspect_session, close_session))
        .routes(routes!(refresh_session))
}

/// Opens a session now.
#[utoipa::path(
    post, path = "/v1/sessions", operation_id = "open_session", tag = "sessions",
    request_body = wire::OpenSession,
    responses((status = 200, body = wire::Session))
)]
async fn open_session(
    State(app): State<Shared>,
    Asked(asker): Asked,
    Json(body): Json<wire::OpenSession>,
) -> Answer {
    let request = OpenSession {
        server: body.server,
        lane: lane(body.lane)?,
        ttl: body.ttl_s.map(Duration::from_secs),
    };
    let view = app.broker.open_session(&asker, request).await?;
    answer::json(&views::session(view, true))
}

/// The caller's own and the workspace's shared sessions.
#[utoipa::path(
    get, path = "/v1/sessions", operation_id = "list_sessions", tag = "sessions",
    params(("limit" = Option<u64>, Query), ("cursor" = Option<String>, Query)),
    responses((status = 200, body = wire::Page<wire::Session>))
)]
async fn list_sessions(
    State(app): State<Shared>,
    Asked(asker): Asked,
    RawQuery(raw): RawQuery,
) -> Answer {
    let mut query = Query::parse(raw.as_deref(), &["limit", "cursor"], &[])?;
    let page = app
        .broker
        .list_sessions(&asker, super::page(&mut query)?)
        .await?;
    answer::json(&views::page(page, |view| views::session(view, false)))
}

/// Everything the bridge knows of one session.
#[utoipa::path(
    get, path = "/v1/sessions/{session_id}", operation_id = "inspect_session", tag = "sessions",
    params(("session_id" = String, Path)),
    responses((status = 200, body = wire::Session))
)]
async fn inspect_session(
    State(app): State<Shared>,
    Asked(asker): Asked,
    Segment(id): Segment,
) -> Answer {
    let view = app.broker.inspect_session(&asker, &id).await?;
    answer::json(&views::session(view, true))
}

/// Closes a session; its process or socket is gone when this answers.
#[utoipa::path(
    delete, path = "/v1/sessions/{session_id}", operation_id = "close_session", tag = "sessions",
    params(("session_id" = String, Path)),
    responses((status = 204, description = "Closed"))
)]
async fn close_session(
    State(app): State<Shared>,
    Asked(asker): Asked,
    Segment(id): Segment,
) -> Answer {
    app.broker.close_session(&asker, &id).await?;
    Ok(answer::empty(StatusCode::NO_CONTENT))
}

/// Drops the connection, opens a new one, and lists the catalogue again.
#[utoipa::path(
    post, path = "/v1/sessions/{session_id}/refresh", operation_id = "refresh_session", tag = "sessions",
    params(("session_id" = String, Path)),
    responses((status = 200, body = wire::Session))
)]
async fn refresh_session(
    State(app): State<Shared>,
    Asked(asker): Asked,
    Segment(id): Segment,
    JsonOrDefault(_nothing): JsonOrDefault<wire::system::Nothing>,
) -> Answer {
    let view = app.broker.refresh_session(&asker, &id).await?;
    answer::json(&views::session(view, true))
}
