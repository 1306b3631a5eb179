//! `list_catalog` and `get_tool_help`.

use axum::extract::{RawQuery, State};
use broker::operations::catalog::{HelpRequest, ListCatalog};
use bytes::Bytes;
use catalog::Kind;
use http::{HeaderMap, StatusCode};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::views;
use crate::answer::{self, Answer, JSON};
use crate::app::{Asked, Shared};
use crate::front::headers;
use crate::front::query::Query;
use crate::problem::Refused;
use crate::suggestion;
use crate::wire::{Catalog, Help};

/// The names of `kind`.
const KINDS: [(&str, Kind); 4] = [
    ("tool", Kind::Tool),
    ("resource", Kind::Resource),
    ("template", Kind::Template),
    ("prompt", Kind::Prompt),
];

pub(super) fn routes() -> OpenApiRouter<Shared> {
    OpenApiRouter::new()
        .routes(routes!(list_catalog))
        .routes(routes!(get_tool_help))
}

/// Searches or lists what can be called, read and asked for.
#[utoipa::path(
    get, path = "/v1/catalog", operation_id = "list_catalog", tag = "catalog",
    params(
        ("q" = Option<Vec<String>>, Query, description = "Repeat it: sub-queries are merged into one ranked list"),
        ("server" = Option<String>, Query),
        ("kind" = Option<String>, Query, description = "Comma-separated: tool, resource, template, prompt"),
        ("limit" = Option<u64>, Query, description = "1 to 500, default 50"),
        ("cursor" = Option<String>, Query),
        ("since" = Option<String>, Query, description = "An earlier catalog_hash: only what changed"),
        ("fields" = Option<String>, Query, description = "`names`: ref and kind only"),
        ("If-None-Match" = Option<String>, Header),
    ),
    responses((status = 200, body = Catalog), (status = 304, description = "Unchanged"))
)]
async fn list_catalog(
    State(app): State<Shared>,
    Asked(asker): Asked,
    headers: HeaderMap,
    RawQuery(raw): RawQuery,
) -> Answer {
    let once = ["server", "limit", "cursor", "since", "fields"];
    let mut query = Query::parse(raw.as_deref(), &once, &["q", "kind"])?;
    let names_only = match query.text("fields").as_deref() {
        None => false,
        Some("names") => true,
        Some(_) => return Err(Refused::invalid("`fields` knows only `names`")),
    };
    let request = ListCatalog {
        queries: query.all("q"),
        server: query.text("server"),
        kinds: kinds(&query.all("kind"))?,
        since: query.text("since"),
        page: super::page(&mut query)?,
    };
    // The tag names the catalogue, and the URL the view of it: an equal tag means an equal answer.
    if headers.contains_key(http::header::IF_NONE_MATCH) {
        let hash = app.broker.catalog_hash(&asker).await?;
        if headers::none_match(&headers, &hash) {
            return Ok(answer::tagged(
                answer::empty(StatusCode::NOT_MODIFIED),
                &hash,
            ));
        }
    }
    let since = request.since.is_some();
    let stamp = app.broker.catalog_stamp(&asker).await?;
    if let Some(page) = app.pages.get(&stamp, raw.as_deref()).filter(|_| !since) {
        return Ok(answer::tagged(answer::bytes(page, JSON), stamp.hash()));
    }
    let found = app.broker.list_catalog(&asker, request).await?;
    let hash = found.catalog_hash.clone();
    let page = Bytes::from(answer::json_text(&views::catalog(found, names_only))?);
    // Only what surely belongs to the stamp; what a page is compared with is not part of it.
    if !since && app.broker.catalog_stamp(&asker).await? == stamp {
        app.pages.keep(&stamp, raw.as_deref(), &page);
    }
    Ok(answer::tagged(answer::bytes(page, JSON), &hash))
}

fn kinds(values: &[String]) -> Result<Vec<Kind>, Refused> {
    let mut kinds = Vec::new();
    for word in values.iter().flat_map(|value| value.split(',')) {
        let word = word.trim();
        let known = KINDS.iter().find(|(name, _)| *name == word);
        let Some((_, kind)) = known else {
            let names = KINDS.iter().map(|(name, _)| *name);
            return Err(Refused::invalid(suggestion::unknown("kind", word, names)));
        };
        kinds.push(*kind);
    }
    Ok(kinds)
}

/// Explains up to 20 tools, in the order asked.
#[utoipa::path(
    get, path = "/v1/tools/help", operation_id = "get_tool_help", tag = "catalog",
    params(
        ("ref" = Vec<String>, Query, description = "Repeat it: up to 20"),
        ("if_hash" = Option<Vec<String>>, Query, description = "Hashes the caller has: such a tool answers `unchanged`"),
    ),
    responses((status = 200, body = Help))
)]
async fn get_tool_help(
    State(app): State<Shared>,
    Asked(asker): Asked,
    RawQuery(raw): RawQuery,
) -> Answer {
    let mut query = Query::parse(raw.as_deref(), &[], &["ref", "if_hash"])?;
    let request = HelpRequest {
        refs: query.all("ref"),
        if_hash: query.all("if_hash"),
    };
    let items = app.broker.get_tool_help(&asker, request).await?;
    let items = items.into_iter().map(views::help_item).collect();
    answer::json(&Help { items })
}
