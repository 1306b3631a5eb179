//! Events of the workspace, live and kept.

use axum::extract::{RawQuery, Request, State};
use broker::events::EventKind;
use broker::operations::records::EventQuery;
use http::HeaderMap;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::answer::Answer;
use crate::app::{Asked, Shared};
use crate::event_stream;
use crate::front::headers;
use crate::front::query::Query;
use crate::problem::Refused;
use crate::serve::peer::Peer;
use crate::wire;

pub(super) fn routes() -> OpenApiRouter<Shared> {
    OpenApiRouter::new()
        .routes(routes!(stream_events))
        .routes(routes!(list_events))
}

fn kinds(values: &[String]) -> Result<Vec<EventKind>, Refused> {
    values
        .iter()
        .flat_map(|value| value.split(','))
        .map(|word| {
            let unknown = || {
                let known = EventKind::ALL.iter().map(|kind| kind.as_str());
                Refused::invalid(crate::suggestion::unknown("event type", word.trim(), known))
            };
            EventKind::parse(word.trim()).ok_or_else(unknown)
        })
        .collect()
}

/// Events as they happen; resumes after `Last-Event-ID` or `after`, from now on without either.
#[utoipa::path(
    get, path = "/v1/events", operation_id = "stream_events", tag = "events",
    params(
        ("types" = Option<String>, Query, description = "Comma-separated"),
        ("after" = Option<String>, Query, description = "An event id; 0 replays all that is kept"),
        ("Last-Event-ID" = Option<String>, Header),
    ),
    responses((status = 200, body = wire::Event, content_type = "text/event-stream"))
)]
async fn stream_events(State(app): State<Shared>, Asked(asker): Asked, request: Request) -> Answer {
    let mut query = Query::parse(request.uri().query(), &["after"], &["types"])?;
    let wanted = EventQuery {
        kinds: kinds(&query.all("types"))?,
        after: headers::resume_after(request.headers(), query.text("after"))?,
        call_id: None,
    };
    let subscription = app.broker.subscribe(&asker, wanted).await?;
    let peer = Peer::of(request.extensions());
    Ok(event_stream::answer(event_stream::endless(
        &app,
        subscription,
        peer,
    )))
}

/// Kept events, oldest first.
#[utoipa::path(
    get, path = "/v1/events/history", operation_id = "list_events", tag = "events",
    params(
        ("types" = Option<String>, Query), ("after" = Option<String>, Query), ("call_id" = Option<String>, Query),
        ("limit" = Option<u64>, Query), ("cursor" = Option<String>, Query),
    ),
    responses((status = 200, body = wire::Page<wire::Event>))
)]
async fn list_events(
    State(app): State<Shared>,
    Asked(asker): Asked,
    RawQuery(raw): RawQuery,
) -> Answer {
    let once = ["after", "call_id", "limit", "cursor"];
    let mut query = Query::parse(raw.as_deref(), &once, &["types"])?;
    let page = super::page(&mut query)?;
    let wanted = EventQuery {
        kinds: kinds(&query.all("types"))?,
        after: headers::resume_after(&HeaderMap::new(), query.text("after"))?,
        call_id: query.text("call_id"),
    };
    let found = app.broker.list_events(&asker, wanted, page).await?;
    crate::answer::json(&super::views::page(found, |event| {
        event_stream::shown(&event)
    }))
}
