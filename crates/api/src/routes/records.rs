//! What was done: the audit record and traces.

use axum::body::Body;
use axum::extract::{RawQuery, State};
use broker::operations::page::MAX_PAGE;
use broker::operations::records::{AuditQuery, AuditRow};
use bytes::Bytes;
use futures_util::stream;
use http::{HeaderMap, HeaderValue};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::views;
use crate::answer::{self, Answer};
use crate::app::{Asked, Segment, Shared};
use crate::event_stream;
use crate::front::headers;
use crate::front::query::Query;
use crate::wire;

/// Media type of one JSON document per line.
const NDJSON: HeaderValue = HeaderValue::from_static("application/x-ndjson");

pub(super) fn routes() -> OpenApiRouter<Shared> {
    OpenApiRouter::new()
        .routes(routes!(list_audit))
        .routes(routes!(get_trace))
}

/// The audit record; with `Accept: application/x-ndjson` all of it, one entry a line.
#[utoipa::path(
    get, path = "/v1/audit", operation_id = "list_audit", tag = "audit",
    params(
        ("since" = Option<String>, Query, description = "RFC 3339"),
        ("until" = Option<String>, Query, description = "RFC 3339"),
        ("user" = Option<String>, Query), ("ref" = Option<String>, Query), ("outcome" = Option<String>, Query),
        ("limit" = Option<u64>, Query), ("cursor" = Option<String>, Query),
    ),
    responses((status = 200, body = wire::Page<wire::AuditEntry>))
)]
async fn list_audit(
    State(app): State<Shared>,
    Asked(asker): Asked,
    headers: HeaderMap,
    RawQuery(raw): RawQuery,
) -> Answer {
    let once = [
        "since", "until", "user", "ref", "outcome", "limit", "cursor",
    ];
    let mut query = Query::parse(raw.as_deref(), &once, &[])?;
    let mut wanted = AuditQuery {
        since: query.text("since"),
        until: query.text("until"),
        user: query.text("user"),
        reference: query.text("ref"),
        outcome: query.text("outcome"),
        page: super::page(&mut query)?,
    };
    let export = headers::wants_lines(&headers);
    if export {
        wanted.page.limit.get_or_insert(MAX_PAGE);
    }
    let first = app.broker.list_audit(&asker, wanted.clone()).await?;
    if !export {
        return answer::json(&views::page(first, entry));
    }
    let state = (app, asker, wanted, Some(first));
    let lines = stream::unfold(state, |(app, asker, mut wanted, page)| async move {
        let page = page?;
        let body = lines(page.items);
        // A page that fails ends the export without its last line: a reader counts, or asks again.
        let next = match page.next_cursor {
            Some(cursor) => {
                wanted.page.cursor = Some(cursor);
                app.broker
                    .list_audit(&asker, wanted.clone())
                    .await
                    .map(Some)
            }
            None => Ok(None),
        };
        let next = match next {
            Ok(next) => next,
            Err(error) => {
                return Some((
                    Err(std::io::Error::other(error.to_string())),
                    (app, asker, wanted, None),
                ));
            }
        };
        Some((Ok(body), (app, asker, wanted, next)))
    });
    Ok(answer::bytes(Body::from_stream(lines), NDJSON))
}

fn lines(rows: Vec<AuditRow>) -> Bytes {
    let mut body = Vec::new();
    for row in rows {
        // A row is plain text and numbers: it always has a JSON form.
        if let Ok(mut line) = serde_json::to_vec(&entry(row)) {
            line.push(b'\n');
            body.append(&mut line);
        }
    }
    Bytes::from(body)
}

fn entry(row: AuditRow) -> wire::AuditEntry {
    wire::AuditEntry {
        seq: Some(row.seq),
        ts: row.ts,
        user: row.user,
        workspace: row.workspace,
        action: row.action,
        reference: row.reference,
        outcome: row.outcome,
        code: row.code,
        call_id: row.call_id,
        trace_id: row.trace_id,
        key_id: row.key_id,
        detail: row.detail,
    }
}

/// The calls and events under one trace id, oldest first.
#[utoipa::path(
    get, path = "/v1/traces/{trace_id}", operation_id = "get_trace", tag = "audit",
    params(("trace_id" = String, Path)),
    responses((status = 200, body = wire::Trace))
)]
async fn get_trace(
    State(app): State<Shared>,
    Asked(asker): Asked,
    Segment(trace_id): Segment,
) -> Answer {
    let view = app.broker.trace(&asker, &trace_id).await?;
    answer::json(&wire::Trace {
        trace_id: view.trace_id,
        calls: view.calls.into_iter().map(views::call).collect(),
        events: view
            .events
            .iter()
            .map(|event| event_stream::shown(event))
            .collect(),
    })
}
