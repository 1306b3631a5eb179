//! Pins of a server's tools: what was approved, what differs, and approving it.

use axum::extract::{RawQuery, State};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::views;
use crate::answer::{self, Answer};
use crate::app::{Asked, Segment, Shared};
use crate::front::body::Json;
use crate::front::query::Query;
use crate::wire;

pub(super) fn routes() -> OpenApiRouter<Shared> {
    OpenApiRouter::new()
        .routes(routes!(list_pins))
        .routes(routes!(approve_pin))
}

/// The tools of a server with the definitions that were approved, by ref.
#[utoipa::path(
    get, path = "/v1/servers/{name}/pins", operation_id = "list_pins", tag = "servers",
    params(("name" = String, Path), ("limit" = Option<u64>, Query), ("cursor" = Option<String>, Query)),
    responses((status = 200, body = wire::Page<wire::Pin>))
)]
async fn list_pins(
    State(app): State<Shared>,
    Asked(asker): Asked,
    Segment(name): Segment,
    RawQuery(raw): RawQuery,
) -> Answer {
    let mut query = Query::parse(raw.as_deref(), &["limit", "cursor"], &[])?;
    let page = super::page(&mut query)?;
    let pins = app.broker.list_pins(&asker, &name, page).await?;
    answer::json(&views::page(pins, views::pin))
}

/// Approves the present definition of a tool.
#[utoipa::path(
    post, path = "/v1/servers/{name}/pins/approve", operation_id = "approve_pin", tag = "servers",
    params(("name" = String, Path)),
    request_body = wire::ApprovePin,
    responses((status = 200, body = wire::Pin))
)]
async fn approve_pin(
    State(app): State<Shared>,
    Asked(asker): Asked,
    Segment(name): Segment,
    Json(body): Json<wire::ApprovePin>,
) -> Answer {
    let pin = app
        .broker
        .approve_pin(&asker, &name, &body.reference, &body.hash)
        .await?;
    answer::json(&views::pin(pin))
}
