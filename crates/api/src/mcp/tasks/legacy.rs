//! Calls as tasks of 2025-11-25: begun because the client says so, asked after by `tasks/get`, and told whole by
//! `tasks/result`, whose stream is where the task asks and tells.

use std::sync::Arc;

use broker::operations::calls::CallView;
use broker::operations::page::PageRequest;
use broker::{CallRun, CallState, Happening};
use serde::Deserialize;
use serde_json::value::RawValue;
use transports::wire;

use super::related::related;
use super::{POLL_INTERVAL_MS, TTL_MS, find, open, seen_here, shape};
use crate::mcp::call::{Terms, ended};
use crate::mcp::envelope::{Call, Id};
use crate::mcp::exchange::Exchange;
use crate::mcp::legacy;
use crate::mcp::notice;
use crate::mcp::problem::RpcFault;
use crate::mcp::reply::Outcome;
use crate::mcp::visit::{Client, Visit};

/// Tasks of one page of `tasks/list`: their results are looked through for how they ended.
const PAGE: usize = 20;

/// Checks what a client says of the task it wants. How long a task is kept, the bridge says.
///
/// # Errors
/// `-32602`.
pub(in crate::mcp) fn check_wish(task: &RawValue) -> Result<(), RpcFault> {
    #[derive(Deserialize)]
    struct Wish {
        #[serde(default)]
        ttl: f64,
    }
    // serde reads a struct from a list, too.
    let wish = Some(task.get()).filter(|text| text.starts_with('{'));
    let wish = wish.and_then(|text| serde_json::from_str::<Wish>(text).ok());
    match wish {
        Some(wish) if wish.ttl >= 0.0 => Ok(()),
        Some(_) => Err(RpcFault::invalid_params("task.ttl must not be negative")),
        None => {
            let detail = "task must be an object, and its ttl a number of milliseconds";
            Err(RpcFault::invalid_params(detail))
        }
    }
}

/// Lets a call go on as a task: the result that says so. Its progress is told on the session's GET stream until
/// `tasks/result` takes it over.
pub(in crate::mcp) fn begin(visit: Visit, call: CallRun, token: Option<Box<RawValue>>) -> Vec<u8> {
    let created = call.created_at().unwrap_or_default();
    let id = call.call_id().to_owned();
    let task = members((&id, "working", None), (&created, &created));
    call.detach();
    if let (Some(token), Client::Legacy(session)) = (token, &visit.client) {
        visit.mcp().tokens.keep(&id, session, token);
    }
    match visit.app.broker.follow_call(&visit.asker, &id) {
        Ok(call) => accompany(Arc::new(visit), call),
        // It has ended already.
        Err(_) => visit.mcp().tokens.forget(&id),
    }
    format!(r#"{{"task":{{{task}}}}}"#).into_bytes()
}

/// Tells on the session's GET stream what a task tells while nobody waits for its result. Its questions wait for
/// `tasks/result`.
pub(in crate::mcp) fn accompany(visit: Arc<Visit>, mut call: CallRun) {
    // Without a runtime nothing is told any more.
    if tokio::runtime::Handle::try_current().is_err() {
        return;
    }
    let tasks = visit.mcp().tasks.clone();
    tasks.spawn(async move {
        let Client::Legacy(session) = &visit.client else {
            return;
        };
        let id = call.call_id().to_owned();
        let tokens = &visit.mcp().tokens;
        let token = tokens.get(&id, session);
        loop {
            match call.next().await {
                Happening::Notice(told) => {
                    let wanted = (token.as_deref(), Some(&*id));
                    if let Some(json) = notice::told(&visit.client, wanted, &told) {
                        session.listener.say(json);
                    }
                }
                Happening::Ended(_) => break,
                Happening::Input(_) | Happening::Withdrawn(_) | Happening::Beyond(_) => {}
            }
        }
        tokens.forget(&id);
    });
}

/// Serves `tasks/get`, `tasks/result`, `tasks/list` and `tasks/cancel`.
///
/// # Errors
/// `-32602` for a task that is not there, and for cancelling one that has ended.
pub(super) async fn serve(visit: Visit, (id, call): (Id, Call)) -> Result<Outcome, RpcFault> {
    if call.method == "tasks/list" {
        return list(&visit, &call).await.map(Outcome::Result);
    }
    let view = find(&visit, &legacy::text(&call, "taskId")?).await?;
    match &*call.method {
        "tasks/get" => Ok(Outcome::Result(object(&visit, &view))),
        "tasks/result" => result(visit, id, view).await,
        _ => cancel(&visit, &view).await.map(Outcome::Result),
    }
}

async fn list(visit: &Visit, call: &Call) -> Result<Vec<u8>, RpcFault> {
    let cursor = match call.params.get("cursor") {
        Some(_) => Some(legacy::text(call, "cursor")?),
        None => None,
    };
    let page = PageRequest {
        limit: Some(PAGE),
        cursor,
    };
    let broker = &visit.app.broker;
    let page = broker.list_tasks(&visit.asker, seen_here(visit), page);
    let page = page.await.map_err(|fault| visit.fault(&fault))?;
    let tasks: Vec<String> = (page.items.iter())
        .map(|view| format!("{{{}}}", task(visit, view)))
        .collect();
    let next = page.next_cursor.map_or_else(String::new, |cursor| {
        format!(r#","nextCursor":{}"#, wire::raw_text(&cursor))
    });
    Ok(format!(r#"{{"tasks":[{}]{next}}}"#, tasks.join(",")).into_bytes())
}

/// Waits for the end, and is asked and told meanwhile what the task asks and tells.
async fn result(visit: Visit, id: Id, view: CallView) -> Result<Outcome, RpcFault> {
    let task = view.call_id.clone();
    let shape = shape(&visit);
    let broker = &visit.app.broker;
    if !view.state.is_terminal()
        && let Ok(call) = broker.follow_call(&visit.asker, &task)
    {
        let token = match &visit.client {
            Client::Legacy(session) => visit.mcp().tokens.get(&task, session),
            Client::Modern(_) => None,
        };
        let terms = Terms::of_task((id, token), shape);
        let exchange = Exchange::new(Arc::new(visit), terms, call);
        return Ok(Outcome::Run(Box::new(exchange)));
    }
    let view = if view.state.is_terminal() {
        view
    } else {
        // It ended while it was looked for.
        find(&visit, &task).await?
    };
    let result = ended(&visit, &view, shape)?;
    let result = String::from_utf8_lossy(&result).into_owned();
    let raw = RawValue::from_string(result).ok();
    let marked = related(raw.as_deref(), &task);
    Ok(Outcome::Result(marked.get().as_bytes().to_vec()))
}

async fn cancel(visit: &Visit, view: &CallView) -> Result<Vec<u8>, RpcFault> {
    let over = |view: &CallView| {
        let status = status(visit, view).0;
        RpcFault::invalid_params(format!("the task is {status} and cannot be cancelled"))
    };
    if view.state.is_terminal() {
        return Err(over(view));
    }
    let broker = &visit.app.broker;
    let view = broker.cancel_call(&visit.asker, &view.call_id).await;
    let view = view.map_err(|fault| visit.fault(&fault))?;
    if view.state.is_terminal() && view.state != CallState::Cancelled {
        return Err(over(&view));
    }
    Ok(object(visit, &view))
}

fn object(visit: &Visit, view: &CallView) -> Vec<u8> {
    format!("{{{}}}", task(visit, view)).into_bytes()
}

/// A task as `tasks/get` and `tasks/list` tell it.
fn task(visit: &Visit, view: &CallView) -> String {
    let (status, message) = status(visit, view);
    let updated = view.ended_at.as_ref().unwrap_or(&view.created_at);
    members(
        (&view.call_id, status, message),
        (&view.created_at, updated),
    )
}

/// Where it stands, in the words of the protocol and in ours.
fn status<'a>(visit: &Visit, view: &'a CallView) -> (&'static str, Option<&'a str>) {
    let fault = view.fault.as_deref().map(|fault| &*fault.detail);
    match view.state {
        CallState::AwaitingApproval => ("working", Some("waits to be approved")),
        CallState::InputRequired if !open(visit, view).is_empty() => ("input_required", None),
        CallState::Accepted
        | CallState::Dispatched
        | CallState::Running
        | CallState::InputRequired => ("working", None),
        // A tool that says it failed has failed, other than in 2026-07-28.
        CallState::Succeeded if view.result.as_ref().is_some_and(|told| told.is_error()) => {
            ("failed", None)
        }
        CallState::Succeeded => ("completed", None),
        CallState::Cancelled => ("cancelled", fault),
        CallState::Failed | CallState::TimedOut | CallState::OutcomeUnknown => ("failed", fault),
    }
}

/// The members every form of a task has.
fn members((id, status, message): (&str, &str, Option<&str>), times: (&str, &str)) -> String {
    let task = super::members(id, status, times);
    let message = message.map_or_else(String::new, |message| {
        format!(r#","statusMessage":{}"#, wire::raw_text(message))
    });
    format!(r#"{task}{message},"ttl":{TTL_MS},"pollInterval":{POLL_INTERVAL_MS}"#)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wish_for_a_task_is_an_object_with_a_lifetime_that_is_a_number() {
        let check = |text: &str| {
            let raw = RawValue::from_string(text.to_owned()).unwrap();
            check_wish(&raw).map_err(|fault| fault.code)
        };
        for fine in [
            "{}",
            r#"{"ttl":0}"#,
            r#"{"ttl":60000}"#,
            r#"{"ttl":1.5}"#,
            r#"{"ttl":99999999999999999999999}"#,
            r#"{"x":1}"#,
        ] {
            assert_eq!(check(fine), Ok(()), "{fine}");
        }
        for wrong in [
            "null",
            "[]",
            "7",
            "true",
            r#"{"ttl":-1}"#,
            r#"{"ttl":"60"}"#,
            r#"{"ttl":null}"#,
            r#"{"ttl":[1]}"#,
            r#"{"ttl":1e999}"#,
        ] {
            assert_eq!(check(wrong), Err(-32602), "{wrong}");
        }
    }
}
