//! Calls as tasks, of either kind: who has no tasks of its client's kind gets the bridge's. A call has what a task
//! needs, its id, its state, its open questions, its end. Nothing is kept here but under which names sessions want
//! progress; whose a task is, the broker knows.

mod legacy;
mod modern;
mod related;
mod tokens;

use std::time::Duration;

use broker::operations::calls::CallView;
use broker::operations::passing::ServerPeer;
use broker::operations::relay::ClientSide;
use broker::{ErrorCode, InputAnswer, InputRequest};
use serde_json::json;
use serde_json::value::RawValue;
use transports::{Era, Params, ServerName, wire};

pub(super) use self::legacy::{accompany, begin, check_wish};
pub(super) use self::modern::begun;
pub(super) use self::related::related;
pub(super) use self::tokens::Tokens;
use super::abilities::TASKS_EXTENSION_NAME;
use super::capabilities::{has_tasks, with, with_extension};
use super::ending::{Failures, Shape};
use super::envelope::{Call, Id};
use super::problem::RpcFault;
use super::reply::Outcome;
use super::running::{CANNOT, refused};
use super::visit::{Client, Visit};
use super::{Face, initialize};

/// An answer that is not there by now becomes a task, for a client that knows tasks.
pub(super) const TASK_AFTER: Duration = Duration::from_millis(500);
/// For how long a task can surely be asked after. Its call is kept for days (`audit.retention_days`).
const TTL_MS: u64 = 3_600_000;
/// How often a client should ask.
const POLL_INTERVAL_MS: u64 = 500;

/// Who has the tasks of a client's calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Whose {
    /// Its server: they are passed through.
    Server,
    /// The bridge.
    Bridge,
    /// Nobody: the client's revision knows none.
    Nobody,
}

impl Whose {
    /// Towards one server.
    pub(super) fn towards(peer: &ServerPeer, client: &Client) -> Self {
        let revision = client.revision();
        if has_tasks(peer, revision) {
            Self::Server
        } else {
            Self::beside(client)
        }
    }

    /// Where no server has any.
    fn beside(client: &Client) -> Self {
        let revision = client.revision();
        if revision.is_modern() || revision.has_core_tasks() {
            Self::Bridge
        } else {
            Self::Nobody
        }
    }
}

/// Who has the tasks at this endpoint. A session keeps to what it was told first.
///
/// # Errors
/// Why the server cannot be reached.
pub(super) async fn whose(visit: &Visit) -> Result<Whose, RpcFault> {
    if visit.face == Face::Deferred {
        return Ok(Whose::beside(&visit.client));
    }
    let Client::Legacy(session) = &visit.client else {
        let peer = Box::pin(initialize::peer(visit)).await?;
        return Ok(Whose::towards(&peer, &visit.client));
    };
    if let Some(whose) = session.tasks.get() {
        return Ok(*whose);
    }
    let peer = Box::pin(initialize::peer(visit)).await?;
    let whose = Whose::towards(&peer, &visit.client);
    Ok(*session.tasks.get_or_init(|| whose))
}

/// A definition that says its tool may be run as a task; everything else as the server wrote it.
pub(super) fn supported(definition: &RawValue) -> Box<RawValue> {
    let members = Params::from_raw(definition);
    let execution = members.get("execution").unwrap_or(RawValue::NULL);
    let execution = with(execution, "taskSupport", r#""optional""#);
    with(definition, "execution", execution.get())
}

/// Makes the call of a task: written down, its questions put by the bridge, and a task the server makes of it in turn
/// waited for here.
pub(super) fn prepare(side: &mut ClientSide) {
    side.asks_later = true;
    side.takes_input_required = false;
    side.follows = None;
    if let Some(capabilities) = &side.capabilities {
        let members = Params::from_raw(capabilities).0;
        side.capabilities = Some(with_extension(members).into());
    }
}

/// Refuses a tool whose older server wants it to be run as a task to a modern client that knows no tasks. Others are
/// served: what the server calls a task is awaited here.
///
/// # Errors
/// `-32021`, or why the server cannot be reached.
pub(super) async fn check(visit: &Visit, server: &ServerName, tool: &str) -> Result<(), RpcFault> {
    let client = &visit.client;
    if client.revision().is_modern()
        && !client.knows_tasks_extension()
        && visit.app.broker.demands_task(&visit.asker, server, tool)
        && Box::pin(initialize::peer(visit)).await?.era == Era::Legacy
    {
        return Err(knows_no_tasks());
    }
    Ok(())
}

fn knows_no_tasks() -> RpcFault {
    RpcFault::missing_capability(&json!({"extensions": {TASKS_EXTENSION_NAME: {}}}))
}

/// Whether a method is about tasks, in the words of this client.
pub(super) fn is_method(client: &Client, method: &str) -> bool {
    match method {
        "tasks/get" | "tasks/cancel" => true,
        "tasks/update" => client.revision().is_modern(),
        "tasks/list" | "tasks/result" => !client.revision().is_modern(),
        _ => false,
    }
}

/// Serves a request about tasks of the bridge.
///
/// # Errors
/// `-32602` for a task that is not there, `-32021` for a modern client that does not know tasks, `-32601` for one of
/// a revision without any.
pub(super) async fn serve(visit: Visit, (id, call): (Id, Call)) -> Result<Outcome, RpcFault> {
    match &visit.client {
        Client::Modern(_) => modern::serve(&visit, &call).await,
        Client::Legacy(session) if session.revision().has_core_tasks() => {
            legacy::serve(visit, (id, call)).await
        }
        Client::Legacy(_) => Err(RpcFault::method_not_found(&call.method)),
    }
}

/// The server whose tasks are seen at this endpoint; `None`: those of all.
fn seen_here(visit: &Visit) -> Option<&ServerName> {
    match &visit.face {
        Face::Deferred => None,
        Face::Server(name) => Some(name),
    }
}

/// The call of a task of this user.
async fn find(visit: &Visit, id: &str) -> Result<CallView, RpcFault> {
    let broker = &visit.app.broker;
    let task = broker.get_task(&visit.asker, seen_here(visit), id).await;
    task.map_err(|fault| match fault.code {
        ErrorCode::CallNotFound => RpcFault::invalid_params("there is no such task"),
        _ => visit.fault(&fault),
    })
}

/// How the end of a task's call looks: as without a task.
fn shape(visit: &Visit) -> Shape {
    Shape {
        cacheable: false,
        failures: match visit.face {
            Face::Deferred => Failures::Results,
            Face::Server(_) => Failures::Repairable,
        },
        rewrite: None,
    }
}

/// The open questions. What the client cannot answer is answered for it.
fn open<'a>(visit: &Visit, view: &'a CallView) -> Vec<&'a InputRequest> {
    let abilities = visit.client.abilities();
    let (open, beyond): (Vec<_>, Vec<_>) = view
        .input_requests
        .iter()
        .partition(|asked| abilities.can_answer(&asked.method, asked.params.as_deref()));
    for asked in beyond {
        answer(visit, view, (asked.key.clone(), refused(CANNOT)));
    }
    open
}

/// Each for itself: one that was answered or withdrawn meanwhile must not hold up the others.
fn answer(visit: &Visit, view: &CallView, answer: (String, InputAnswer)) {
    let broker = &visit.app.broker;
    if let Err(fault) = broker.answer_input(&visit.asker, &view.call_id, vec![answer]) {
        tracing::debug!(error = %fault, "a question of a task needed no answer any more");
    }
}

/// The members every form of a task has in both eras.
fn members(id: &str, status: &str, (created, updated): (&str, &str)) -> String {
    let [id, created, updated] = [id, created, updated].map(wire::raw_text);
    format!(r#""taskId":{id},"status":"{status}","createdAt":{created},"lastUpdatedAt":{updated}"#)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tool_supports_tasks_and_keeps_everything_else() {
        let shown = |text: &str| {
            let raw = RawValue::from_string(text.to_owned()).unwrap();
            supported(&raw).get().to_owned()
        };
        assert_eq!(
            shown(r#"{"name":"a","x":1.0}"#),
            r#"{"name":"a","x":1.0,"execution":{"taskSupport":"optional"}}"#
        );
        assert_eq!(
            shown(r#"{"execution":{"taskSupport":"forbidden","y":[1e2]},"name":"a"}"#),
            r#"{"name":"a","execution":{"y":[1e2],"taskSupport":"optional"}}"#
        );
    }
}
