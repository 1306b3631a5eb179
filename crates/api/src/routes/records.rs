//! What was done: the audit record, whether it holds, and traces.

use axum::body::Body;
use axum::extract::{RawQuery, State};
use broker::audit::{Entry, SignedPlace};
use broker::operations::audit::{AuditExport, AuditQuery};
use broker::operations::page::MAX_PAGE;
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
use crate::problem::Refused;
use crate::wire;

/// Media type of one JSON document per line.
const NDJSON: HeaderValue = HeaderValue::from_static("application/x-ndjson");

pub(super) fn routes() -> OpenApiRouter<Shared> {
    OpenApiRouter::new()
        .routes(routes!(list_audit))
        .routes(routes!(verify_audit))
        .routes(routes!(get_audit_key))
        .routes(routes!(get_trace))
}

/// The audit record, newest first; as NDJSON all of it, an admin's whole and in the order of its chain.
#[utoipa::path(
    get, path = "/v1/audit", operation_id = "list_audit", tag = "audit",
    params(
        ("since" = Option<String>, Query, description = "RFC 3339"),
        ("until" = Option<String>, Query, description = "RFC 3339"),
        ("user" = Option<String>, Query), ("ref" = Option<String>, Query), ("outcome" = Option<String>, Query),
        ("format" = Option<String>, Query, description = "json or ndjson; else as Accept says"),
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
        "since", "until", "user", "ref", "outcome", "format", "limit", "cursor",
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
    if as_lines(query.text("format").as_deref(), &headers)? {
        wanted.page.limit.get_or_insert(MAX_PAGE);
        let export = app.broker.export_audit(&asker, wanted).await?;
        let lines = stream::unfold(Some(export), next_lines);
        return Ok(answer::bytes(Body::from_stream(lines), NDJSON));
    }
    let page = app.broker.list_audit(&asker, wanted).await?;
    answer::json(&views::page(page, entry))
}

/// Whether the caller wants one entry a line.
fn as_lines(format: Option<&str>, headers: &HeaderMap) -> Result<bool, Refused> {
    match format {
        None => Ok(headers::wants_lines(headers)),
        Some("ndjson") => Ok(true),
        Some("json") => Ok(false),
        Some(_) => Err(Refused::new(
            broker::ErrorCode::InvalidRequest,
            "format is json or ndjson",
        )),
    }
}

/// The next lines of an export. One that fails breaks the answer off, so that nobody takes it for whole.
async fn next_lines(
    export: Option<AuditExport>,
) -> Option<(Result<Bytes, std::io::Error>, Option<AuditExport>)> {
    let mut export = export?;
    match export.next().await {
        Ok(Some(entries)) => Some((Ok(lines(entries)), Some(export))),
        Ok(None) => None,
        Err(error) => Some((Err(std::io::Error::other(error.to_string())), None)),
    }
}

fn lines(entries: Vec<Entry<'static>>) -> Bytes {
    let mut body = Vec::new();
    for one in entries {
        // An entry is texts and whole numbers: it always has a JSON form.
        if let Ok(mut line) = serde_json::to_vec(&entry(one)) {
            line.push(b'\n');
            body.append(&mut line);
        }
    }
    Bytes::from(body)
}

fn entry(entry: Entry<'static>) -> wire::AuditEntry {
    wire::AuditEntry {
        action: entry.action.into_owned(),
        agent_id: entry.agent_id.map(Into::into),
        approval_id: entry.approval_id.map(Into::into),
        arguments_digest: entry.arguments_digest,
        call_id: entry.call_id,
        chain: entry.chain.into_owned(),
        code: entry.code.map(Into::into),
        detail: entry.detail.map(Into::into),
        duration_ms: entry.duration_ms,
        executed: entry.executed.into_owned(),
        hash: entry.hash,
        key_id: entry.key_id.into_owned(),
        lane: entry.lane.map(Into::into),
        outcome: entry.outcome.into_owned(),
        prev: entry.prev,
        reference: entry.reference.into_owned(),
        schema_hash: entry.schema_hash,
        seq: entry.seq,
        session_id: entry.session_id.map(Into::into),
        trace_id: entry.trace_id.into_owned(),
        ts: entry.ts,
        user: entry.user.into_owned(),
        workspace: entry.workspace.into_owned(),
    }
}

/// Whether the workspace's audit chains hold, where they end, and the first entry that was tampered with.
#[utoipa::path(
    get, path = "/v1/audit/verify", operation_id = "verify_audit", tag = "audit",
    responses((status = 200, body = wire::AuditReport))
)]
async fn verify_audit(State(app): State<Shared>, Asked(asker): Asked) -> Answer {
    let report = app.broker.verify_audit(&asker).await?;
    let bad = report.first_bad;
    answer::json(&wire::AuditReport {
        ok: report.ok,
        entries: report.entries,
        first_bad: bad.as_ref().map(|bad| bad.seq),
        first_bad_chain: bad.as_ref().map(|bad| bad.chain.clone()),
        reason: bad.map(|bad| bad.reason.to_owned()),
        head: report.head.map(head),
        heads: report.places.into_iter().map(head).collect(),
        public_key: report.public_key,
    })
}

fn head(signed: SignedPlace) -> wire::AuditHead {
    wire::AuditHead {
        chain: signed.place.chain.clone(),
        hash: signed.place.link.hash.hex(),
        kind: signed.place.kind.as_str().to_owned(),
        seq: signed.place.link.seq,
        signed_at: signed.place.signed_at(),
        workspace: signed.place.workspace,
        signature: signed.signature,
    }
}

/// The public key that audit heads are checked with.
#[utoipa::path(
    get, path = "/v1/audit/key", operation_id = "get_audit_key", tag = "audit",
    responses((status = 200, body = wire::AuditKey))
)]
async fn get_audit_key(State(app): State<Shared>, Asked(_asker): Asked) -> Answer {
    answer::json(&wire::AuditKey {
        algorithm: "Ed25519".to_owned(),
        public_key: app.broker.audit_key().await?,
    })
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
