//! A request that runs as a call: begun, or taken up again by a client that brings the answers it was asked for.

use std::sync::Arc;
use std::time::Duration;

use broker::operations::calls::{Admitted, CallTool, CallView};
use broker::operations::relay::Relay;
use broker::{ErrorCode, Fault};
use catalog::Kind;
use http::HeaderMap;
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;
use tokio::time::Instant;
use transports::{Mirror, Params, ServerName};

use super::brought::{Becomes, Brought, brought};
use super::ending::{Shape, failure, kept};
use super::envelope::Id;
use super::exchange::Exchange;
use super::problem::RpcFault;
use super::reply::{self, Outcome};
use super::tasks::{self, TASK_AFTER};
use super::visit::Visit;
use super::{headers, held};

/// What is asked, beyond what the broker is told.
#[derive(Debug)]
pub(super) struct Asked<'a> {
    /// The request.
    pub(super) id: Id,
    /// Under which name the client wants progress.
    pub(super) token: Option<Box<RawValue>>,
    /// What is asked, for the state of a call that waits.
    pub(super) place: String,
    /// Which server.
    pub(super) server: &'a ServerName,
    /// How the end looks.
    pub(super) shape: Shape,
    /// The client can ask after it later, so that it may become a task.
    pub(super) may_be_task: bool,
}

/// What a running call is served with.
#[derive(Debug)]
pub(super) struct Terms {
    /// The request.
    pub(super) id: Id,
    /// Under which name the client wants progress.
    pub(super) token: Option<Box<RawValue>>,
    /// How the end looks.
    pub(super) shape: Shape,
    /// What is asked, for the state of a call that waits.
    pub(super) place: String,
    /// Answers the client brought along for a call that waited.
    pub(super) answers: Vec<(String, Box<RawValue>)>,
    /// What is not answered soon becomes a task.
    pub(super) may_become_task: bool,
    /// The result of a task of 2025-11-25 is waited for.
    pub(super) of_task: bool,
}

impl Terms {
    /// For whoever waits for the result of a task of 2025-11-25.
    pub(super) fn of_task((id, token): (Id, Option<Box<RawValue>>), shape: Shape) -> Self {
        Self {
            id,
            token,
            shape,
            place: String::new(),
            answers: Vec::new(),
            may_become_task: false,
            of_task: true,
        }
    }

    /// When the call becomes a task, counted from now.
    pub(super) fn task_at(&self) -> Option<Instant> {
        self.may_become_task.then(|| Instant::now() + TASK_AFTER)
    }
}

impl Asked<'_> {
    fn terms(self, brought: Brought) -> Terms {
        Terms {
            id: self.id,
            token: self.token,
            shape: self.shape,
            place: self.place,
            answers: brought.answers,
            may_become_task: brought.becomes == Becomes::Soon,
            of_task: false,
        }
    }
}

/// Calls a tool; `meta` and `extra` are members of the message the broker does not know.
pub(super) async fn tool(
    visit: Visit,
    asked: Asked<'_>,
    (mut request, mut meta, mut extra): (CallTool, Params, Params),
) -> Result<Outcome, RpcFault> {
    request.agent_id = agent_of(&mut meta)?;
    if let Some(token) = confirmation_of(&mut meta)? {
        request.confirm_token = Some(token);
    }
    let brought = brought(&visit, &asked, &mut extra).await?;
    if brought.state.is_some() {
        return resume(visit, asked, brought).await;
    }
    let mut side = visit.side(meta, extra);
    if brought.becomes != Becomes::Nothing {
        tasks::prepare(&mut side);
    }
    request.client = Some(Box::new(side));
    match visit.app.broker.admit_call(&visit.asker, request).await {
        Ok(Admitted::Pending(pending)) if brought.becomes == Becomes::AtOnce => {
            let task = tasks::begin(visit, pending.follow(), asked.token);
            Ok(Outcome::Result(task))
        }
        Ok(Admitted::Pending(pending)) => {
            let terms = asked.terms(brought);
            let exchange = Exchange::new(Arc::new(visit), terms, pending.follow());
            Ok(Outcome::Run(Box::new(exchange)))
        }
        // Neither keys nor dry runs nor `respond-async` exist here.
        Ok(Admitted::Answer(_)) => {
            Err(visit.fault(&Fault::new(ErrorCode::Internal, "no call was begun")))
        }
        // Where a task was to be begun, a result that is none would not be understood.
        Err(fault) if brought.becomes == Becomes::AtOnce => Err(visit.fault(&fault)),
        Err(fault) => told(&visit, &fault, asked.shape),
    }
}

/// Passes a request through.
pub(super) async fn relay(
    visit: Visit,
    asked: Asked<'_>,
    mut relay: Relay,
) -> Result<Outcome, RpcFault> {
    relay.agent_id = agent_of(&mut relay.client.meta)?;
    let brought = brought(&visit, &asked, &mut relay.params).await?;
    if brought.state.is_some() {
        return resume(visit, asked, brought).await;
    }
    match visit.app.broker.relay(&visit.asker, relay).await {
        Ok(pending) => {
            let terms = asked.terms(brought);
            let exchange = Exchange::new(Arc::new(visit), terms, pending.follow());
            Ok(Outcome::Run(Box::new(exchange)))
        }
        Err(fault) => told(&visit, &fault, asked.shape),
    }
}

/// A failure before anything ran.
fn told(visit: &Visit, fault: &Fault, shape: Shape) -> Result<Outcome, RpcFault> {
    failure(visit, fault, shape.failures).map(Outcome::Result)
}

async fn resume(visit: Visit, asked: Asked<'_>, brought: Brought) -> Result<Outcome, RpcFault> {
    let Some(state) = &brought.state else {
        return Err(RpcFault::invalid_params("requestState is missing"));
    };
    let call_id = held::open(&visit, &asked.place, state)?;
    let broker = &visit.app.broker;
    if let Ok(run) = broker.follow_call(&visit.asker, &call_id) {
        let exchange = Exchange::new(Arc::new(visit), asked.terms(brought), run);
        return Ok(Outcome::Run(Box::new(exchange)));
    }
    // It ended meanwhile: declined by its deadline, or answered by a retry whose answer was lost.
    let view = broker
        .get_call(&visit.asker, &call_id, Duration::ZERO)
        .await;
    let view = view.map_err(|fault| visit.fault(&fault))?;
    ended(&visit, &view, asked.shape).map(Outcome::Result)
}

/// The result of a call that has ended.
///
/// # Errors
/// How it failed, where that is an error in this shape.
pub(super) fn ended(visit: &Visit, view: &CallView, shape: Shape) -> Result<Vec<u8>, RpcFault> {
    let fault = match (&view.result, &view.fault) {
        (Some(result), _) => {
            let modern = visit.client.revision().is_modern();
            return Ok(shape.result(result, modern, |raw, lacking| {
                let mut json = Vec::with_capacity(raw.len() + lacking.len() + 2);
                reply::push_with(&mut json, raw, lacking);
                json
            }));
        }
        (None, Some(fault)) => fault,
        (None, None) if view.state.is_terminal() => {
            // Results of calls that only read are not kept: nothing stands against reading again.
            let detail =
                "the call has ended and its result was not kept; call without requestState";
            return Err(RpcFault::invalid_params(detail));
        }
        (None, None) => {
            let fault = Fault::new(ErrorCode::Conflict, "the call runs elsewhere");
            return Err(visit.fault(&fault));
        }
    };
    failure(visit, &kept(fault), shape.failures)
}

/// The member of `_meta` that holds the token of an approval, on faces whose tools are the servers' own. It is the
/// bridge's: no server sees it.
const CONFIRM_TOKEN: &str = "io.paperbot/confirm_token";

fn confirmation_of(meta: &mut Params) -> Result<Option<String>, RpcFault> {
    if meta.get(CONFIRM_TOKEN).is_none() {
        return Ok(None);
    }
    let text = take_text(meta, CONFIRM_TOKEN);
    text.map(Some)
        .map_err(|_| RpcFault::invalid_params(format!("_meta {CONFIRM_TOKEN} must be a string")))
}

/// The member of `_meta` that names exactly one of the caller's agents. It is the bridge's: no server sees it.
const AGENT_ID: &str = "paperbot/agent_id";

fn agent_of(meta: &mut Params) -> Result<Option<String>, RpcFault> {
    if meta.get(AGENT_ID).is_none() {
        return Ok(None);
    }
    take_text(meta, AGENT_ID).map(Some)
}

/// Takes a member out of the parameters.
pub(super) fn take(params: &mut Params, name: &str) -> Option<Box<RawValue>> {
    let at = params.0.iter().position(|(key, _)| key == name)?;
    Some(params.0.remove(at).1)
}

/// Takes a member that holds text.
///
/// # Errors
/// `-32602`.
pub(super) fn take_text(params: &mut Params, name: &str) -> Result<String, RpcFault> {
    let raw = take(params, name);
    raw.and_then(|raw| serde_json::from_str(raw.get()).ok())
        .ok_or_else(|| RpcFault::invalid_params(format!("params.{name} must be a string")))
}

/// Holds what a modern client mirrored into headers against the arguments of a tool.
///
/// # Errors
/// `-32020`.
pub(super) async fn check_mirrors(
    visit: &Visit,
    (server, tool): (&ServerName, &str),
    (head, arguments): (&HeaderMap, Option<&RawValue>),
) -> Result<(), RpcFault> {
    if !visit.client.revision().is_modern() {
        return Ok(());
    }
    let broker = &visit.app.broker;
    let mut definition = broker.tool_definition(&visit.asker, server, tool);
    if definition.is_none() {
        // Perhaps nothing was listed yet; what is wrong with the server is told by the call.
        let list = broker.raw_list(&visit.asker, server.as_str(), Kind::Tool);
        let _ = Box::pin(list).await;
        definition = broker.tool_definition(&visit.asker, server, tool);
    }
    let mirrors = definition.map(|raw| mirrors_of(&raw)).unwrap_or_default();
    headers::check_arguments(head, arguments, &mirrors)
}

#[derive(Deserialize)]
struct Definition {
    #[serde(rename = "inputSchema")]
    input_schema: Value,
}

/// The arguments of a tool that a modern client mirrors into headers.
fn mirrors_of(definition: &RawValue) -> Vec<Mirror> {
    // Few tools mirror anything, and then nothing is parsed.
    if !definition.get().contains("x-mcp-header") {
        return Vec::new();
    }
    serde_json::from_str::<Definition>(definition.get())
        .map(|definition| transports::mirrors(&definition.input_schema))
        .unwrap_or_default()
}
