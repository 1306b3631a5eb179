//! `call_tool`: the hot path, and the life of a call afterwards.

use std::io::Write as _;
use std::time::Duration;

use axum::extract::{RawQuery, Request, State};
use axum::response::Response;
use broker::operations::calls::{Admitted, CallAnswer, CallDone, CallTool, DryRun, ListCalls};
use broker::{Asker, CallState, ErrorCode, PointerDetail};
use http::header::{HeaderName, LOCATION};
use http::{HeaderMap, HeaderValue, StatusCode};
use sessions::Lane;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::views;
use crate::answer::{self, Answer, JSON};
use crate::app::{Asked, Segment, Shared};
use crate::call_stream;
use crate::front::body::{self, JsonOrDefault};
use crate::front::headers;
use crate::front::query::Query;
use crate::problem::Refused;
use crate::serve::peer::Peer;
use crate::suggestion;
use crate::wire;

/// Longest `wait_ms`: below the idle timeouts of common proxies.
const MAX_WAIT: Duration = Duration::from_mins(1);
/// What a done answer needs besides its content: ids, flags, member names.
const ANSWER_FRAME_BYTES: usize = 256;
/// Says that `Prefer` was obeyed (RFC 7240).
const PREFERENCE_APPLIED: HeaderName = HeaderName::from_static("preference-applied");

pub(super) fn routes() -> OpenApiRouter<Shared> {
    OpenApiRouter::new()
        .routes(routes!(call_tool, list_calls))
        .routes(routes!(get_call))
        .routes(routes!(cancel_call))
        .routes(routes!(stream_call))
}

/// Calls a tool. With `Accept: text/event-stream` the answer is this call's events, the last one terminal.
#[utoipa::path(
    post, path = "/v1/calls", operation_id = "call_tool", tag = "calls",
    params(
        ("Idempotency-Key" = Option<String>, Header, description = "Makes the call repeatable; it then outlives its connection"),
        ("Prefer" = Option<String>, Header, description = "`respond-async`: 202 and Location at once"),
    ),
    request_body = wire::CallRequest,
    responses(
        (status = 200, body = wire::CallDone, description = "The result; with `dry_run` a DryRun"),
        (status = 202, body = wire::CallAccepted),
    )
)]
async fn call_tool(State(app): State<Shared>, Asked(asker): Asked, request: Request) -> Answer {
    let (head, body) = request.into_parts();
    let request = wanted(body::json(&app, &head.headers, body).await?, &head.headers)?;
    if request.followed && !request.respond_async && !request.dry_run {
        return match app.broker.admit_call(&asker, request).await? {
            Admitted::Pending(pending) => {
                let peer = Peer::of(&head.extensions);
                Box::pin(call_stream::run(&app, &asker, pending, peer)).await
            }
            Admitted::Answer(CallAnswer::Done(done)) => Ok(call_stream::replayed(&done)),
            Admitted::Answer(other) => answered(&asker, other),
        };
    }
    let given = app.broker.call_tool(&asker, request).await?;
    answered(&asker, given)
}

fn answered(asker: &Asker, given: CallAnswer) -> Answer {
    match given {
        CallAnswer::Done(done) => Ok(answer::bytes(done_body(&done), JSON)),
        CallAnswer::Accepted { call_id } => accepted(asker, call_id, None),
        CallAnswer::Held { call_id, approval } => accepted(asker, call_id, Some(approval)),
        CallAnswer::Checked(checked) => dry_run(asker, checked),
    }
}

fn wanted(body: wire::CallRequest, headers: &HeaderMap) -> Result<CallTool, Refused> {
    Ok(CallTool {
        reference: body.reference,
        arguments: body.arguments,
        lane: lane(body.lane)?,
        timeout: timeout(body.timeout_ms)?,
        schema_hash: body.schema_hash,
        confirm_token: body.confirm_token,
        dry_run: body.dry_run,
        agent_id: body.agent_id,
        idempotency_key: headers::idempotency_key(headers)?,
        respond_async: headers::respond_async(headers),
        followed: headers::wants_events(headers),
        client: None,
    })
}

/// A lane of a body.
pub(super) fn lane(text: Option<String>) -> Result<Lane, Refused> {
    Lane::new(&text.unwrap_or_default()).map_err(|error| at("/lane", &error.to_string()))
}

/// A deadline of a body.
pub(crate) fn timeout(millis: Option<u64>) -> Result<Option<Duration>, Refused> {
    match millis {
        Some(0) => Err(at("/timeout_ms", "a deadline must be in the future")),
        Some(millis) => Ok(Some(Duration::from_millis(millis))),
        None => Ok(None),
    }
}

/// `invalid_request` at one place of the body.
pub(super) fn at(pointer: &str, detail: &str) -> Refused {
    let mut fault = broker::Fault::new(ErrorCode::InvalidRequest, detail);
    fault.errors.push(PointerDetail {
        pointer: pointer.to_owned(),
        detail: detail.to_owned(),
    });
    fault.into()
}

/// The answer assembled around the server's own bytes, which are copied once and never parsed again.
fn done_body(done: &CallDone) -> Vec<u8> {
    let result = &done.result;
    let content = result.content().unwrap_or("[]");
    let structured = result.structured_content();
    let meta = result.meta();
    let payload = content.len() + structured.map_or(0, str::len) + meta.map_or(0, str::len);
    let mut body = Vec::with_capacity(payload + ANSWER_FRAME_BYTES);
    // Ids are ours and need no escaping; writing to a Vec cannot fail.
    let _ = write!(
        body,
        r#"{{"call_id":"{}","trace_id":"{}","is_error":{},"content":{content}"#,
        done.call_id,
        done.trace_id,
        result.is_error(),
    );
    for (name, value) in [("structured_content", structured), ("meta", meta)] {
        if let Some(value) = value {
            let _ = write!(body, r#","{name}":{value}"#);
        }
    }
    let millis = u64::try_from(done.duration.as_millis()).unwrap_or(u64::MAX);
    let _ = write!(
        body,
        r#","duration_ms":{millis},"replayed":{}}}"#,
        done.replayed
    );
    body
}

fn accepted(asker: &Asker, call_id: String, approval: Option<serde_json::Value>) -> Answer {
    let location = HeaderValue::try_from(format!("/v1/calls/{call_id}"));
    let response = answer::json(&wire::CallAccepted {
        call_id,
        trace_id: asker.trace.id(),
        state: match &approval {
            None => CallState::Accepted,
            Some(_) => CallState::AwaitingApproval,
        }
        .as_str()
        .to_owned(),
        approval,
    })?;
    let mut response: Response = answer::with_status(response, StatusCode::ACCEPTED);
    let headers = response.headers_mut();
    if let Ok(location) = location {
        headers.insert(LOCATION, location);
    }
    headers.insert(
        PREFERENCE_APPLIED,
        HeaderValue::from_static("respond-async"),
    );
    Ok(response)
}

fn dry_run(asker: &Asker, checked: DryRun) -> Answer {
    answer::json(&wire::DryRun {
        dry_run: true,
        trace_id: asker.trace.id(),
        reference: checked.reference,
        schema_hash: checked.schema_hash,
        decision: checked.decision.to_owned(),
        rule: checked.rule,
        needs_key: checked.needs_key,
        preview: checked.preview,
        read_only: checked.read_only,
    })
}

/// One call; `wait_ms` waits for its end.
#[utoipa::path(
    get, path = "/v1/calls/{call_id}", operation_id = "get_call", tag = "calls",
    params(("call_id" = String, Path), ("wait_ms" = Option<u64>, Query, description = "At most 60000")),
    responses((status = 200, body = wire::Call))
)]
async fn get_call(
    State(app): State<Shared>,
    Asked(asker): Asked,
    Segment(call_id): Segment,
    RawQuery(raw): RawQuery,
) -> Answer {
    let mut query = Query::parse(raw.as_deref(), &["wait_ms"], &[])?;
    let wait = Duration::from_millis(query.number("wait_ms")?.unwrap_or_default());
    let view = app
        .broker
        .get_call(&asker, &call_id, wait.min(MAX_WAIT))
        .await?;
    answer::json(&views::call(view))
}

/// Calls, newest first.
#[utoipa::path(
    get, path = "/v1/calls", operation_id = "list_calls", tag = "calls",
    params(
        ("state" = Option<String>, Query),
        ("ref" = Option<String>, Query),
        ("since" = Option<String>, Query, description = "RFC 3339"),
        ("idempotency_key" = Option<String>, Query),
        ("limit" = Option<u64>, Query, description = "1 to 500, default 50"),
        ("cursor" = Option<String>, Query),
    ),
    responses((status = 200, body = wire::Page<wire::Call>))
)]
async fn list_calls(
    State(app): State<Shared>,
    Asked(asker): Asked,
    RawQuery(raw): RawQuery,
) -> Answer {
    let once = [
        "state",
        "ref",
        "since",
        "idempotency_key",
        "limit",
        "cursor",
    ];
    let mut query = Query::parse(raw.as_deref(), &once, &[])?;
    let request = ListCalls {
        state: query.text("state").map(|word| state(&word)).transpose()?,
        reference: query.text("ref"),
        since: query.text("since"),
        idempotency_key: query.text("idempotency_key"),
        page: super::page(&mut query)?,
    };
    let page = app.broker.list_calls(&asker, request).await?;
    answer::json(&views::page(page, views::call))
}

fn state(word: &str) -> Result<CallState, Refused> {
    CallState::parse(word).ok_or_else(|| {
        let known = CallState::ALL.iter().map(|state| state.as_str());
        Refused::invalid(suggestion::unknown("state", word, known))
    })
}

/// Cancels a call; answers its state after that. A call that ended stays as it is.
#[utoipa::path(
    post, path = "/v1/calls/{call_id}/cancel", operation_id = "cancel_call", tag = "calls",
    params(("call_id" = String, Path)),
    responses((status = 200, body = wire::Call))
)]
async fn cancel_call(
    State(app): State<Shared>,
    Asked(asker): Asked,
    Segment(call_id): Segment,
    JsonOrDefault(_nothing): JsonOrDefault<wire::system::Nothing>,
) -> Answer {
    let view = app.broker.cancel_call(&asker, &call_id).await?;
    answer::json(&views::call(view))
}

/// A call's events from its start; the last one is terminal.
#[utoipa::path(
    get, path = "/v1/calls/{call_id}/events", operation_id = "stream_call", tag = "calls",
    params(
        ("call_id" = String, Path),
        ("after" = Option<String>, Query),
        ("Last-Event-ID" = Option<String>, Header),
    ),
    responses((status = 200, body = wire::Event, content_type = "text/event-stream"))
)]
async fn stream_call(
    State(app): State<Shared>,
    Asked(asker): Asked,
    Segment(call_id): Segment,
    request: Request,
) -> Answer {
    let mut query = Query::parse(request.uri().query(), &["after"], &[])?;
    let after = headers::resume_after(request.headers(), query.text("after"))?.unwrap_or(0);
    let peer = Peer::of(request.extensions());
    call_stream::follow(&app, &asker, (&call_id, after), peer).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lane_or_deadline_that_makes_no_sense_is_pointed_at() {
        assert!(lane(Some("a b".to_owned())).is_err());
        assert_eq!(lane(None).unwrap(), Lane::default());
        assert!(timeout(Some(0)).is_err());
        assert_eq!(timeout(Some(5)).unwrap(), Some(Duration::from_millis(5)));
    }
}
