//! Definitions of servers: immutable versions, changed under `If-Match`, tested behind the same gate.

use axum::extract::{RawQuery, State};
use axum::response::Response;
use broker::operations::servers::{Change, IfMatch, ServerView};
use broker::{Definition, ErrorCode, Fault};
use http::header::LOCATION;
use http::{HeaderMap, HeaderValue, StatusCode};
use serde_json::value::RawValue;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::calls::at;
use super::views;
use crate::answer::{self, Answer};
use crate::app::{Asked, Segment, Shared};
use crate::front::body::{Json, JsonOrDefault, parse_part};
use crate::front::headers;
use crate::front::query::Query;
use crate::problem::Refused;
use crate::wire;

pub(super) fn routes() -> OpenApiRouter<Shared> {
    OpenApiRouter::new()
        .routes(routes!(list_servers, create_server))
        .routes(routes!(get_server, put_server, delete_server))
        .routes(routes!(list_server_versions))
        .routes(routes!(diff_server))
        .routes(routes!(rollback_server))
        .routes(routes!(test_server))
}

fn definition(raw: &RawValue) -> Result<Definition, Refused> {
    parse_part(raw.get(), "/definition")
}

fn shown(view: ServerView) -> Answer {
    let version = view.version.to_string();
    Ok(answer::tagged(
        answer::json(&views::server(view))?,
        &version,
    ))
}

/// The servers of the workspace, by name.
#[utoipa::path(
    get, path = "/v1/servers", operation_id = "list_servers", tag = "servers",
    params(("limit" = Option<u64>, Query), ("cursor" = Option<String>, Query)),
    responses((status = 200, body = wire::Page<wire::Server>))
)]
async fn list_servers(
    State(app): State<Shared>,
    Asked(asker): Asked,
    RawQuery(raw): RawQuery,
) -> Answer {
    let mut query = Query::parse(raw.as_deref(), &["limit", "cursor"], &[])?;
    let page = app
        .broker
        .list_servers(&asker, super::page(&mut query)?)
        .await?;
    answer::json(&views::page(page, views::server))
}

/// Adds a server.
#[utoipa::path(
    post, path = "/v1/servers", operation_id = "create_server", tag = "servers",
    request_body = wire::CreateServer,
    responses((status = 201, body = wire::Server))
)]
async fn create_server(
    State(app): State<Shared>,
    Asked(asker): Asked,
    Json(body): Json<wire::CreateServer>,
) -> Answer {
    let here = asker.principal.workspace.as_str();
    if body.workspace.as_deref().is_some_and(|told| told != here) {
        return Err(at(
            "/workspace",
            "the server belongs to the request's workspace (X-Workspace)",
        ));
    }
    let definition = definition(&body.definition)?;
    let view = app
        .broker
        .put_server(&asker, &body.name, definition, IfMatch::Absent)
        .await?;
    let location = HeaderValue::try_from(format!("/v1/servers/{}", view.name));
    let mut response: Response = answer::with_status(shown(view)?, StatusCode::CREATED);
    if let Ok(location) = location {
        response.headers_mut().insert(LOCATION, location);
    }
    Ok(response)
}

/// One server; its version is the `ETag`.
#[utoipa::path(
    get, path = "/v1/servers/{name}", operation_id = "get_server", tag = "servers",
    params(("name" = String, Path)),
    responses((status = 200, body = wire::Server))
)]
async fn get_server(
    State(app): State<Shared>,
    Asked(asker): Asked,
    Segment(name): Segment,
) -> Answer {
    shown(app.broker.get_server(&asker, &name).await?)
}

/// Changes a server: a new version.
#[utoipa::path(
    put, path = "/v1/servers/{name}", operation_id = "put_server", tag = "servers",
    params(("name" = String, Path), ("If-Match" = String, Header, description = "The version this is based on, or *")),
    request_body = wire::PutServer,
    responses((status = 200, body = wire::Server))
)]
async fn put_server(
    State(app): State<Shared>,
    Asked(asker): Asked,
    Segment(name): Segment,
    headers: HeaderMap,
    Json(body): Json<wire::PutServer>,
) -> Answer {
    let based_on = headers::if_match(&headers)?;
    let definition = definition(&body.definition)?;
    if based_on == IfMatch::Absent && app.broker.get_server(&asker, &name).await.is_ok() {
        let mut fault = Fault::new(ErrorCode::VersionConflict, "a change needs If-Match");
        fault.hint = Some("send the ETag of GET as If-Match, or If-Match: *".to_owned());
        return Err(fault.into());
    }
    shown(
        app.broker
            .put_server(&asker, &name, definition, based_on)
            .await?,
    )
}

/// Removes a server; its versions stay readable.
#[utoipa::path(
    delete, path = "/v1/servers/{name}", operation_id = "delete_server", tag = "servers",
    params(("name" = String, Path), ("If-Match" = String, Header)),
    responses((status = 204, description = "Removed"))
)]
async fn delete_server(
    State(app): State<Shared>,
    Asked(asker): Asked,
    Segment(name): Segment,
    headers: HeaderMap,
) -> Answer {
    let based_on = headers::if_match(&headers)?;
    app.broker.delete_server(&asker, &name, based_on).await?;
    Ok(answer::empty(StatusCode::NO_CONTENT))
}

/// All versions, newest first.
#[utoipa::path(
    get, path = "/v1/servers/{name}/versions", operation_id = "list_server_versions", tag = "servers",
    params(("name" = String, Path)),
    responses((status = 200, body = wire::Items<wire::Server>))
)]
async fn list_server_versions(
    State(app): State<Shared>,
    Asked(asker): Asked,
    Segment(name): Segment,
) -> Answer {
    let versions = app.broker.list_server_versions(&asker, &name).await?;
    let items = versions.into_iter().map(views::server).collect();
    answer::json(&wire::Items { items })
}

/// What differs between two versions.
#[utoipa::path(
    get, path = "/v1/servers/{name}/diff", operation_id = "diff_server", tag = "servers",
    params(("name" = String, Path), ("from" = u64, Query), ("to" = u64, Query)),
    responses((status = 200, body = wire::Items<wire::Change>))
)]
async fn diff_server(
    State(app): State<Shared>,
    Asked(asker): Asked,
    Segment(name): Segment,
    RawQuery(raw): RawQuery,
) -> Answer {
    let mut query = Query::parse(raw.as_deref(), &["from", "to"], &[])?;
    let missing = || Refused::invalid("the query parameters `from` and `to` are required");
    let from = query.number("from")?.ok_or_else(missing)?;
    let to = query.number("to")?.ok_or_else(missing)?;
    let changes = app.broker.diff_server(&asker, &name, (from, to)).await?;
    let items = changes.into_iter().map(change).collect();
    answer::json(&wire::Items { items })
}

fn change(change: Change) -> wire::Change {
    wire::Change {
        pointer: change.pointer,
        from: change.from,
        to: change.to,
    }
}

/// Makes an old version the newest again.
#[utoipa::path(
    post, path = "/v1/servers/{name}/rollback", operation_id = "rollback_server", tag = "servers",
    params(("name" = String, Path), ("If-Match" = String, Header)),
    request_body = wire::Rollback,
    responses((status = 200, body = wire::Server))
)]
async fn rollback_server(
    State(app): State<Shared>,
    Asked(asker): Asked,
    Segment(name): Segment,
    headers: HeaderMap,
    Json(body): Json<wire::Rollback>,
) -> Answer {
    let based_on = headers::if_match(&headers)?;
    let view = app
        .broker
        .rollback_server(&asker, &name, body.version, based_on)
        .await?;
    shown(view)
}

/// Opens a server apart from its sessions and lists it. A server that does not answer is a report.
#[utoipa::path(
    post, path = "/v1/servers/{name}/test", operation_id = "test_server", tag = "servers",
    params(("name" = String, Path)),
    request_body = wire::TestRequest,
    responses((status = 200, body = wire::TestReport))
)]
async fn test_server(
    State(app): State<Shared>,
    Asked(asker): Asked,
    Segment(name): Segment,
    JsonOrDefault(body): JsonOrDefault<wire::TestRequest>,
) -> Answer {
    let unsaved = body.definition.as_deref().map(definition).transpose()?;
    let report = app.broker.test_server(&asker, &name, unsaved).await?;
    let instance = format!("/v1/servers/{name}/test");
    answer::json(&views::test_report(&report, &instance, &asker.trace.id()))
}
