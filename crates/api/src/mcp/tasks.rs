//! Calls of older servers as tasks of 2026-07-28 (extension `io.modelcontextprotocol/tasks`): a call has what a task
//! needs, its id, its state, its open questions, its end. Nothing is kept here; whose a task is, the broker knows.

use std::borrow::Cow;
use std::time::Duration;

use broker::operations::calls::CallView;
use broker::{CallRun, CallState, ErrorCode, Fault, InputAnswer};
use serde_json::json;
use serde_json::value::RawValue;
use transports::{Era, Params, ResultHead, ServerName, wire};

use super::abilities::TASKS_EXTENSION_NAME;
use super::capabilities::{object, without};
use super::ending::{Failures, failure};
use super::envelope::Call;
use super::problem::RpcFault;
use super::reply::{self, Outcome};
use super::running::{CANNOT, refused};
use super::visit::Visit;
use super::{held, initialize, legacy};

/// An answer that is not there by now becomes a task, for a client that knows tasks.
pub(super) const TASK_AFTER: Duration = Duration::from_millis(500);
/// For how long a task can surely be asked after. Its call is kept for days (`audit.retention_days`).
const TTL_MS: u64 = 3_600_000;
/// How often a client should ask.
const POLL_INTERVAL_MS: u64 = 500;
/// Where a result of 2025-11-25 names its task.
const RELATED_TASK: &str = "io.modelcontextprotocol/related-task";
/// The acknowledgement of `tasks/update` and `tasks/cancel`.
const ACKNOWLEDGED: &[u8] = br#"{"resultType":"complete"}"#;

/// The result that begins a task.
pub(super) fn begun(call: &CallRun) -> Vec<u8> {
    let created = call.created_at().unwrap_or_default();
    let task = members(call.call_id(), "working", (&created, &created));
    format!(r#"{{"resultType":"task",{task}}}"#).into_bytes()
}

fn knows_no_tasks() -> RpcFault {
    RpcFault::missing_capability(&json!({"extensions": {TASKS_EXTENSION_NAME: {}}}))
}

/// Refuses a tool whose older server wants it to be run as a task to a modern client that knows no tasks. Others are
/// served: what the server calls a task is awaited here.
///
/// # Errors
/// `-32021`, or why the server cannot be reached.
pub(super) async fn check(visit: &Visit, server: &ServerName, tool: &str) -> Result<(), RpcFault> {
    let client = &visit.client;
    if client.revision().is_modern()
        && !client.abilities().knows_tasks_extension()
        && visit.app.broker.demands_task(&visit.asker, server, tool)
        && Box::pin(initialize::peer(visit)).await?.era == Era::Legacy
    {
        return Err(knows_no_tasks());
    }
    Ok(())
}

/// Serves `tasks/get`, `tasks/update` and `tasks/cancel`.
///
/// # Errors
/// `-32021` for a client that does not know tasks, `-32602` for a task that is not there.
pub(super) async fn serve(
    visit: &Visit,
    server: &ServerName,
    call: &Call,
) -> Result<Outcome, RpcFault> {
    if !visit.client.abilities().knows_tasks_extension() {
        return Err(knows_no_tasks());
    }
    let view = find(visit, server, &legacy::text(call, "taskId")?).await?;
    let result = match &*call.method {
        "tasks/get" => detailed(visit, &view),
        "tasks/update" => update(visit, &view, call)?,
        _ => {
            // One that has ended stays as it is, and is acknowledged all the same.
            let broker = &visit.app.broker;
            let cancelled = broker.cancel_call(&visit.asker, &view.call_id).await;
            cancelled.map_err(|fault| visit.fault(&fault))?;
            ACKNOWLEDGED.to_vec()
        }
    };
    Ok(Outcome::Result(result))
}

/// The call of a task: of this user, and of a tool of this server.
async fn find(visit: &Visit, server: &ServerName, id: &str) -> Result<CallView, RpcFault> {
    let unknown = || RpcFault::invalid_params("there is no such task");
    let broker = &visit.app.broker;
    let view = broker.get_call(&visit.asker, id, Duration::ZERO).await;
    let view = match view {
        Err(fault) if fault.code == ErrorCode::CallNotFound => return Err(unknown()),
        view => view.map_err(|fault| visit.fault(&fault))?,
    };
    let of_server = view
        .reference
        .strip_prefix(server.as_str())
        .is_some_and(|rest| rest.starts_with('.'));
    let own = view.user == visit.asker.principal.user.as_str();
    if of_server && own && view.kind == "tool" {
        Ok(view)
    } else {
        Err(unknown())
    }
}

/// `DetailedTask`: what `tasks/get` answers.
fn detailed(visit: &Visit, view: &CallView) -> Vec<u8> {
    let (status, more) = match view.state {
        CallState::Accepted
        | CallState::AwaitingApproval
        | CallState::Dispatched
        | CallState::Running => ("working", String::new()),
        CallState::InputRequired => asking(visit, view),
        CallState::Succeeded => ("completed", completed(view)),
        CallState::Cancelled => ("cancelled", String::new()),
        CallState::Failed | CallState::TimedOut | CallState::OutcomeUnknown => failed(visit, view),
    };
    let updated = view.ended_at.as_ref().unwrap_or(&view.created_at);
    let task = members(&view.call_id, status, (&view.created_at, updated));
    format!(r#"{{"resultType":"complete",{task}{more}}}"#).into_bytes()
}

/// The open questions. What the client cannot answer is answered for it.
fn asking(visit: &Visit, view: &CallView) -> (&'static str, String) {
    let abilities = visit.client.abilities();
    let (open, beyond): (Vec<_>, Vec<_>) = view
        .input_requests
        .iter()
        .partition(|asked| abilities.can_answer(&asked.method, asked.params.as_deref()));
    for asked in beyond {
        answer(visit, view, (asked.key.clone(), refused(CANNOT)));
    }
    if open.is_empty() {
        return ("working", String::new());
    }
    let requests = held::requests(open);
    ("input_required", format!(r#","inputRequests":{requests}"#))
}

fn completed(view: &CallView) -> String {
    let mut json = br#","result":"#.to_vec();
    match &view.result {
        Some(result) => {
            let result = unrelated(result.raw());
            let head = ResultHead::of(&result);
            let lacking = reply::lacking(true, (Some(&head), false));
            reply::push_with(&mut json, result.get(), lacking);
        }
        None => json.extend_from_slice(br#"{"resultType":"complete","content":[]}"#),
    }
    String::from_utf8_lossy(&json).into_owned()
}

/// Without what 2025-11-25 says of the task a result belongs to: here the task says it.
fn unrelated(result: &RawValue) -> Cow<'_, RawValue> {
    if !result.get().contains(RELATED_TASK) {
        return Cow::Borrowed(result);
    }
    let members = Params::from_raw(result).0.into_iter();
    Cow::Owned(object(members.map(|(name, value)| {
        let value = if name == "_meta" {
            without(&value, RELATED_TASK)
        } else {
            value
        };
        (name, value)
    })))
}

/// What a model can repair is a result, as it would have been without a task.
fn failed(visit: &Visit, view: &CallView) -> (&'static str, String) {
    let unknown = || Fault::new(ErrorCode::OutcomeUnknown, "how it ended is not known");
    let fault = view.fault.as_deref().cloned();
    let fault = fault.map_or_else(unknown, Box::new);
    match failure(visit, &fault, Failures::Repairable) {
        Ok(result) => {
            let result = String::from_utf8_lossy(&result);
            ("completed", format!(r#","result":{result}"#))
        }
        Err(error) => {
            let message = wire::raw_text(&error.message);
            let data = error.data.as_deref().map(RawValue::get);
            let data = data.map_or_else(String::new, |data| format!(r#","data":{data}"#));
            let error = format!(r#"{{"code":{},"message":{message}{data}}}"#, error.code);
            ("failed", format!(r#","error":{error}"#))
        }
    }
}

/// Gives the answers to what is open; others are ignored, as the extension wants.
fn update(visit: &Visit, view: &CallView, call: &Call) -> Result<Vec<u8>, RpcFault> {
    let answers = held::answers(call.params.get("inputResponses"))?;
    for (key, result) in answers {
        if view.input_requests.iter().any(|asked| asked.key == key) {
            answer(visit, view, (key, InputAnswer::Result(result)));
        }
    }
    Ok(ACKNOWLEDGED.to_vec())
}

/// Each for itself: one that was answered or withdrawn meanwhile must not hold up the others.
fn answer(visit: &Visit, view: &CallView, answer: (String, InputAnswer)) {
    let broker = &visit.app.broker;
    if let Err(fault) = broker.answer_input(&visit.asker, &view.call_id, vec![answer]) {
        tracing::debug!(error = %fault, "a question of a task needed no answer any more");
    }
}

/// The members every form of a task has.
fn members(id: &str, status: &str, (created, updated): (&str, &str)) -> String {
    let [id, created, updated] = [id, created, updated].map(wire::raw_text);
    format!(
        r#""taskId":{id},"status":"{status}","createdAt":{created},"lastUpdatedAt":{updated},"ttlMs":{TTL_MS},"pollIntervalMs":{POLL_INTERVAL_MS}"#
    )
}
