//! Calls as tasks of 2026-07-28 (extension `io.modelcontextprotocol/tasks`).

use broker::operations::calls::CallView;
use broker::{CallRun, CallState, ErrorCode, Fault, InputAnswer};
use serde_json::value::RawValue;
use transports::{ResultHead, wire};

use super::related::unrelated;
use super::{POLL_INTERVAL_MS, TTL_MS, answer, find, knows_no_tasks, open, shape};
use crate::mcp::ending::{failure, kept};
use crate::mcp::envelope::Call;
use crate::mcp::problem::RpcFault;
use crate::mcp::reply::{self, Outcome};
use crate::mcp::visit::Visit;
use crate::mcp::{held, legacy};

/// The acknowledgement of `tasks/update` and `tasks/cancel`.
const ACKNOWLEDGED: &[u8] = br#"{"resultType":"complete"}"#;

/// The result that begins a task.
pub(in crate::mcp) fn begun(call: &CallRun) -> Vec<u8> {
    let created = call.created_at().unwrap_or_default();
    let task = members(call.call_id(), "working", (&created, &created));
    format!(r#"{{"resultType":"task",{task}}}"#).into_bytes()
}

/// Serves `tasks/get`, `tasks/update` and `tasks/cancel`.
///
/// # Errors
/// `-32021` for a client that does not know tasks, `-32602` for a task that is not there.
pub(super) async fn serve(visit: &Visit, call: &Call) -> Result<Outcome, RpcFault> {
    if !visit.client.knows_tasks_extension() {
        return Err(knows_no_tasks());
    }
    let view = find(visit, &legacy::text(call, "taskId")?).await?;
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

/// The open questions.
fn asking(visit: &Visit, view: &CallView) -> (&'static str, String) {
    let open = open(visit, view);
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

/// What a model can repair is a result, as it would have been without a task.
fn failed(visit: &Visit, view: &CallView) -> (&'static str, String) {
    let unknown = || Fault::new(ErrorCode::OutcomeUnknown, "how it ended is not known");
    let fault = view.fault.as_deref().map_or_else(unknown, kept);
    match failure(visit, &fault, shape(visit).failures) {
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

/// The members every form of a task has.
fn members(id: &str, status: &str, times: (&str, &str)) -> String {
    let task = super::members(id, status, times);
    format!(r#"{task},"ttlMs":{TTL_MS},"pollIntervalMs":{POLL_INTERVAL_MS}"#)
}
