//! An admitted call made ready to be sent: its intent, its parameters, its promise. Checks nothing of who may.

use std::sync::Arc;

use catalog::Entry;
use chrono::{TimeDelta, Utc};
use transports::Params;

use super::admit::Due;
use super::find::Found;
use super::live::Live;
use super::repeat::request_digest;
use super::run::{Job, Unsettled};
use super::{CallId, core_tasks};
use crate::arguments::Arguments;
use crate::asker::Asker;
use crate::call_state::CallState;
use crate::error::{BrokerError, ErrorCode, Fault};
use crate::gate::Permit;
use crate::ledger::{CallKind, Intent};
use crate::operations::Inner;
use crate::operations::calls::{CallTool, PendingCall};
use crate::operations::relay::{ClientSide, ServerTasks};
use crate::upstream_fault::Exchange;

/// A wish that passed every check but the limits.
pub(super) struct Wish {
    pub(super) request: CallTool,
    pub(super) found: Found,
    pub(super) arguments: Arguments,
    pub(super) due: Due,
}

/// Everything that is sent, and the promise that it will be settled.
///
/// # Errors
/// `internal`.
pub(super) fn ready(
    asker: &Asker,
    (promise, live, permit): (Unsettled, Arc<Live>, Permit),
    wish: Wish,
) -> Result<PendingCall, BrokerError> {
    let Wish {
        mut request,
        found,
        arguments,
        due,
    } = wish;
    let job = Job {
        live,
        permit,
        caller: asker.caller(&request.lane),
        exchange: Exchange::Tool {
            read_only: found.hints.read_only,
        },
        repeatable: found.hints.read_only || found.hints.idempotent,
        method: "tools/call".into(),
        params: tool_params(&found.tool, arguments, request.client.as_deref_mut())?,
        trace: asker.trace.clone(),
        server: found.server,
        deadline: due.at,
        timeout: due.after,
        attended: request.followed || request.client.is_some() || live_on(&request),
        drives_task: core_tasks::is_demanded(&found.tool.raw)
            && request
                .client
                .as_ref()
                .is_none_or(|one| one.follows != Some(ServerTasks::Core)),
        client: request.client.take(),
    };
    Ok(PendingCall::new(promise, job))
}

/// Takes a place in flight for a wish.
pub(super) fn enter(inner: &Inner, asker: &Asker, wish: &Wish) -> Result<Permit, BrokerError> {
    let size_bytes = wish.arguments.raw.get().len();
    let server = &wish.found.server;
    inner.gate.enter(&asker.principal, server, size_bytes)
}

/// Sends a call that was held: limits, then the intent, as for every call.
pub(super) async fn dispatch(
    inner: &Inner,
    asker: &Asker,
    (promise, live): (Unsettled, Arc<Live>),
    wish: Wish,
) {
    let taken = async {
        wish.found.server.check_agent()?;
        let permit = enter(inner, asker, &wish)?;
        let deadline = Utc::now() + TimeDelta::from_std(wish.due.after).unwrap_or(TimeDelta::MAX);
        let deadline = live.intent.agent_id.is_some().then_some(deadline);
        inner.ledger.release(&live.intent, deadline).await?;
        Ok(permit)
    };
    match taken.await {
        Ok(permit) => {
            live.advance(CallState::Accepted);
            // What cannot be made ready is settled by the promise.
            if let Ok(pending) = ready(asker, (promise, live, permit), wish) {
                pending.start();
            }
        }
        Err(fault) => {
            promise.settle(Err(fault)).await;
        }
    }
}

/// What is written down before anything is sent.
pub(super) fn intent(
    asker: &Asker,
    request: &CallTool,
    found: &Found,
    arguments: &Arguments,
) -> Intent {
    Intent {
        id: CallId::mint(),
        workspace: asker.principal.workspace.clone(),
        user: asker.principal.user.clone(),
        key_id: asker.principal.key_id.clone(),
        kind: CallKind::Tool,
        reference: request.reference.clone(),
        lane: request.lane.clone(),
        trace_id: asker.trace.id(),
        arguments_digest: arguments.digest,
        preview: arguments.preview(),
        schema_hash: Some(found.tool.hash),
        idempotency_key: request.idempotency_key.clone(),
        request_digest: request_digest(request, arguments),
        read_only: found.hints.read_only,
        detached: request.respond_async
            || request.client.as_ref().is_some_and(|one| one.asks_later),
        created_at: Utc::now(),
        agent_id: None,
        deadline_at: None,
        approval_id: None,
    }
}

/// Whether the call lives on without its connection, so that its questions can be answered by its id.
fn live_on(request: &CallTool) -> bool {
    request.respond_async || request.idempotency_key.is_some()
}

/// Name and arguments, then whatever else the caller's client put into `params`.
fn tool_params(
    tool: &Entry,
    arguments: Arguments,
    client: Option<&mut ClientSide>,
) -> Result<Params, BrokerError> {
    let name = serde_json::value::to_raw_value(&*tool.reference.name)
        .map_err(|_| Fault::new(ErrorCode::Internal, "the tool's name cannot be written"))?;
    let mut members = vec![("name".into(), name), ("arguments".into(), arguments.raw)];
    if let Some(client) = client {
        members.append(&mut client.extra.0);
    }
    Ok(Params(members))
}
