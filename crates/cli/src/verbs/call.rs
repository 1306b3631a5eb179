//! `call`: arguments by the tool's schema, one request, and Ctrl-C that reaches the server.

use std::time::Duration;

use api::wire::CallRequest;
use serde_json::Value;
use serde_json::value::RawValue;

use super::discover::{help_items, normal_ref};
use super::running::Running;
use super::{Desk, text};
use crate::arguments::{self, Typed};
use crate::ask::Ask;
use crate::bridge::Bridge;
use crate::failure::Failure;
use crate::options::Call;
use crate::schemas::{Known, Schemas};
use crate::stdin::{self, Input};

/// Without `--timeout` the bridge's own deadline ends the call; this only ends a bridge that forgot it.
const PATIENCE: Duration = Duration::from_hours(1);

/// What the bridge may take beyond a call's own deadline to tell how it ended.
const MARGIN: Duration = Duration::from_secs(15);

/// Where the arguments come from.
#[derive(Debug)]
enum Given {
    Typed(Vec<Typed>),
    Whole(Box<RawValue>),
}

/// Calls a tool and shows what it answers.
///
/// # Errors
/// Every code a call can end with; `tool_error` when the tool said it failed.
pub(crate) async fn call(desk: &Desk, call: &Call) -> Result<(), Failure> {
    let (reference, rest) = target(call);
    let mut idle = false;
    let given = given(desk, rest, &mut idle)?;
    let schemas = Schemas::new(&desk.places, desk.bridge.settings());
    let known = match &given {
        // The bridge shows one definition for a ref; the agent asked for may have another.
        Given::Typed(typed) if call.agent.is_none() && arguments::need_schema(typed) => {
            Some(schema_of(&desk.bridge, &schemas, &reference).await?)
        }
        _ => None,
    };
    let first = attempt(desk, call, &reference, (&given, known.as_ref())).await;
    match (first, &known) {
        // The kept schema was old: the bridge refused before anything ran, so asking again is safe.
        (Err(failure), Some(_))
            if failure.code == "schema_changed" && call.schema_hash.is_none() =>
        {
            schemas.forget(&reference);
            let fresh = schema_of(&desk.bridge, &schemas, &reference).await?;
            attempt(desk, call, &reference, (&given, Some(&fresh))).await
        }
        (Err(failure), _) if failure.code == "invalid_arguments" && idle => {
            let hint = failure.hint.clone().unwrap_or_default();
            Err(failure.hint(format!(
                "{hint} (standard input was open but empty and was not read; `-` waits for it)"
            )))
        }
        (outcome, _) => outcome,
    }
}

/// `server.tool`, `server/tool` or `server tool`, and the arguments that are left.
fn target(call: &Call) -> (String, &[String]) {
    let bare = !call.reference.contains(['.', '/']);
    match call.arguments.split_first() {
        Some((tool, rest)) if bare && !tool.contains(['=', '{']) && tool != "-" => {
            (format!("{}.{tool}", call.reference), rest)
        }
        _ => (normal_ref(&call.reference), &call.arguments),
    }
}

fn given(desk: &Desk, rest: &[String], idle: &mut bool) -> Result<Given, Failure> {
    match rest {
        [dash] if dash == "-" => {
            let bytes = stdin::all()?;
            arguments::whole_object(&bytes, "standard input").map(Given::Whole)
        }
        [one] if one.trim_start().starts_with('{') => {
            arguments::whole_object(one.as_bytes(), "the argument").map(Given::Whole)
        }
        [] if !desk.no_input => match stdin::if_any()? {
            Input::Bytes(bytes) if !bytes.trim_ascii().is_empty() => {
                arguments::whole_object(&bytes, "standard input").map(Given::Whole)
            }
            Input::Bytes(_) | Input::Nothing => Ok(Given::Typed(Vec::new())),
            Input::Idle => {
                *idle = true;
                Ok(Given::Typed(Vec::new()))
            }
        },
        typed => arguments::parse(typed).map(Given::Typed),
    }
}

async fn schema_of(bridge: &Bridge, schemas: &Schemas, reference: &str) -> Result<Known, Failure> {
    if let Some(known) = schemas.recall(reference) {
        return Ok(known);
    }
    let ask = Ask::get("/v1/tools/help").query("ref", Some(reference));
    let body = bridge.ask(ask).await?.value()?;
    let item = help_items(&body).into_iter().next().unwrap_or(&Value::Null);
    let schema = item.get("input_schema").cloned().unwrap_or_default();
    Ok(schemas.keep(reference, text(item, "hash"), schema))
}

async fn attempt(
    desk: &Desk,
    call: &Call,
    reference: &str,
    (given, known): (&Given, Option<&Known>),
) -> Result<(), Failure> {
    let arguments = match given {
        Given::Whole(whole) => whole.clone(),
        Given::Typed(typed) => arguments::object(typed, known.map(|known| &known.input_schema))?,
    };
    let pinned = known
        .map(|known| known.hash.clone())
        .filter(|hash| !hash.is_empty());
    let body = CallRequest {
        reference: reference.to_owned(),
        arguments: Some(arguments),
        lane: call.lane.clone(),
        timeout_ms: call
            .timeout
            .map(|timeout| u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX)),
        schema_hash: call.schema_hash.clone().or(pinned),
        confirm_token: call.confirm.clone(),
        dry_run: call.dry_run,
        agent_id: call.agent.clone(),
    };
    let body = serde_json::to_vec(&body).map_err(|error| Failure::usage(error.to_string()))?;
    let ask = Ask::post("/v1/calls", body)
        .header("idempotency-key", call.idempotency_key.clone())
        .header("prefer", call.asynchronous.then_some("respond-async"))
        .header(
            "accept",
            call.stream.then_some("text/event-stream, application/json"),
        )
        .wait(call.timeout.map_or(PATIENCE, |timeout| timeout + MARGIN));
    let running = Running::new(desk, reference, call.idempotency_key.as_deref());
    if call.stream {
        running.unless_interrupted(running.streamed(ask)).await
    } else {
        running.unless_interrupted(running.plain(ask)).await
    }
}
