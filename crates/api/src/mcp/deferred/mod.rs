//! `/mcp`: all servers of the workspace behind a handful of tools, whatever their number.
//!
//! The tools are ours, so every failure of them is a result that says how to repair the call.

pub(super) mod changes;
mod find;
mod list;
mod offers;
mod tools;

use std::sync::Arc;

use broker::operations::calls::{CallTool, ToolResult};
use broker::{BrokerError, ErrorCode, Fault};
use catalog::Ref;
use http::HeaderMap;
use serde::de::DeserializeOwned;
use serde_json::json;
use serde_json::value::RawValue;
use transports::{Params, wire};

use super::call::{self, Asked};
use super::capabilities::{core_tasks, object, with_extension};
use super::ending::{Failures, Shape, failure};
use super::envelope::{Call, Id, Meta};
use super::initialize::{self, Identity};
use super::listen::Listen;
use super::problem::RpcFault;
use super::reply::Outcome;
use super::tasks;
use super::visit::Visit;

/// All failures are results: whoever called one of our tools is a model.
const OURS: Shape = Shape {
    cacheable: false,
    failures: Failures::Results,
    rewrite: None,
};

/// Who `/mcp` is.
///
/// # Errors
/// `internal`.
pub(super) async fn identity(visit: &Visit) -> Result<Identity, RpcFault> {
    let fault = |fault: BrokerError| visit.fault(&fault);
    let deferred = list::is_deferred(visit).await.map_err(fault)?;
    let servers = find::servers(visit).await.map_err(fault)?;
    Ok(Identity {
        server_info: Arc::from(initialize::raw(&json!({
            "name": "paperbot-mcp-bridge",
            "title": "PaperBot MCP Bridge",
            "version": env!("CARGO_PKG_VERSION"),
        }))),
        capabilities: capabilities(visit),
        instructions: deferred.then(|| tools::instructions(&servers)),
    })
}

/// Of tools and tasks; of tasks only the kind the client knows.
fn capabilities(visit: &Visit) -> Box<RawValue> {
    let tools = (
        "tools".into(),
        initialize::raw(&json!({"listChanged": true})),
    );
    let revision = visit.client.revision();
    if revision.is_modern() {
        return with_extension(vec![tools]);
    }
    let tasks = core_tasks().filter(|_| revision.has_core_tasks());
    object([tools].into_iter().chain(tasks))
}

/// Serves one request.
pub(super) async fn serve(
    visit: Visit,
    (id, call): (Id, Call),
    head: &HeaderMap,
) -> Result<Outcome, RpcFault> {
    let modern = visit.client.revision().is_modern();
    match (&*call.method, modern) {
        ("tools/call", _) => tool(visit, (id, call), head).await,
        ("tools/list", _) => listed(&visit, &call).await,
        ("ping", false) => Ok(Outcome::Result(b"{}".to_vec())),
        ("server/discover", true) => initialize::discovery(&visit).await.map(Outcome::Result),
        ("subscriptions/listen", true) => Listen::subscribe(visit, (id, call)).await,
        (method, _) if tasks::is_method(&visit.client, method) => {
            Box::pin(tasks::serve(visit, (id, call))).await
        }
        _ => Err(RpcFault::method_not_found(&call.method)),
    }
}

async fn listed(visit: &Visit, call: &Call) -> Result<Outcome, RpcFault> {
    if call.params.get("cursor").is_some() {
        return Err(RpcFault::invalid_params("the list has one page"));
    }
    let tools = list::tools(visit)
        .await
        .map_err(|fault| visit.fault(&fault))?;
    let head = if visit.client.revision().is_modern() {
        r#""resultType":"complete","ttlMs":0,"cacheScope":"private","#
    } else {
        ""
    };
    Ok(Outcome::Result(
        format!(r#"{{{head}"tools":{tools}}}"#).into_bytes(),
    ))
}

/// A call of a tool of ours, or of one that is listed directly.
async fn tool(visit: Visit, (id, call): (Id, Call), head: &HeaderMap) -> Result<Outcome, RpcFault> {
    let Call {
        mut params, meta, ..
    } = call;
    let name = call::take_text(&mut params, "name")?;
    let arguments = call::take(&mut params, "arguments");
    check_task(&visit, &name, &mut params)?;
    if tools::signature(&name).is_none() {
        return direct(visit, (id, name), (arguments, meta, params), head).await;
    }
    let given = Given {
        id,
        arguments,
        meta,
        extra: params,
    };
    let ours = match &*name {
        "find_tools" => find::find_tools(&visit, parsed(&name, &given)).await,
        "get_tool_help" => find::get_tool_help(&visit, parsed(&name, &given)).await,
        "list_resources" => find::list_resources(&visit, parsed(&name, &given)).await,
        "list_prompts" => find::list_prompts(&visit, parsed(&name, &given)).await,
        "call_tool" => return call_any(visit, given).await,
        "read_resource" => return offers::read_any(visit, given).await,
        _ => return offers::get_any_prompt(visit, given).await,
    };
    Ok(match ours {
        Ok(text) => Outcome::Result(text_result(&visit, &text)),
        Err(fault) => results(&visit, &fault)?,
    })
}

/// Refuses a task of a tool of ours that is answered at once. Revisions without tasks mean nothing by it.
fn check_task(visit: &Visit, name: &str, params: &mut Params) -> Result<(), RpcFault> {
    if params.get("task").is_none() || !tools::runs_at_once(name) {
        return Ok(());
    }
    drop(call::take(params, "task"));
    if visit.client.revision().has_core_tasks() {
        let method = format!("tools/call of {name} as a task");
        return Err(RpcFault::method_not_found(&method));
    }
    Ok(())
}

/// What a call of ours was given.
struct Given {
    id: Id,
    arguments: Option<Box<RawValue>>,
    meta: Meta,
    extra: Params,
}

/// Reads the arguments of a tool of ours.
fn parsed<T: DeserializeOwned>(tool: &str, given: &Given) -> Result<T, BrokerError> {
    let text = given.arguments.as_deref().map_or("{}", RawValue::get);
    serde_json::from_str(text).map_err(|error| {
        let words = error.to_string();
        let words = words
            .split(" at line ")
            .next()
            .unwrap_or_default()
            .to_owned();
        let mut fault = Fault::new(ErrorCode::InvalidArguments, words);
        fault.hint = tools::signature(tool).map(str::to_owned);
        fault
    })
}

fn results(visit: &Visit, fault: &Fault) -> Result<Outcome, RpcFault> {
    failure(visit, fault, Failures::Results).map(Outcome::Result)
}

/// A failure before a tool was called. Where a task was to be begun, a result that is none would not be understood.
fn refused(visit: &Visit, given: &Given, fault: &Fault) -> Result<Outcome, RpcFault> {
    let begins_task = given.extra.get("task").is_some();
    if begins_task && visit.client.revision().has_core_tasks() {
        return Err(visit.fault(fault));
    }
    results(visit, fault)
}

fn text_result(visit: &Visit, text: &str) -> Vec<u8> {
    let kind = if visit.client.revision().is_modern() {
        r#""resultType":"complete","#
    } else {
        ""
    };
    let text = wire::raw_text(text);
    format!(r#"{{{kind}"content":[{{"type":"text","text":{text}}}]}}"#).into_bytes()
}

async fn call_any(visit: Visit, given: Given) -> Result<Outcome, RpcFault> {
    let wanted: tools::CallAny = match parsed("call_tool", &given) {
        Ok(wanted) => wanted,
        Err(fault) => return refused(&visit, &given, &fault),
    };
    let request = CallTool {
        reference: wanted.reference,
        arguments: wanted.arguments,
        schema_hash: wanted.schema_hash,
        confirm_token: wanted.confirm_token,
        ..CallTool::default()
    };
    run(visit, given, request).await
}

async fn run(visit: Visit, given: Given, mut request: CallTool) -> Result<Outcome, RpcFault> {
    request.lane = visit.lane();
    request.timeout = visit.wish.timeout;
    let Some(reference) = Ref::parse(&request.reference) else {
        let mut fault = Fault::new(ErrorCode::ToolNotFound, "there is no such tool");
        fault.hint = Some("a ref is server.tool; find_tools finds them".to_owned());
        return refused(&visit, &given, &fault);
    };
    let asked = Asked {
        id: given.id,
        token: given.meta.progress_token,
        place: format!("\ntools/call\n{reference}"),
        server: &reference.server,
        shape: OURS,
        may_be_task: true,
    };
    call::tool(visit, asked, (request, given.meta.rest, given.extra)).await
}

/// A tool that is listed under its own name.
async fn direct(
    visit: Visit,
    (id, name): (Id, String),
    (arguments, meta, extra): (Option<Box<RawValue>>, Meta, Params),
    head: &HeaderMap,
) -> Result<Outcome, RpcFault> {
    let Some(reference) = list::meant(&visit, &name).await else {
        let mut fault = Fault::new(ErrorCode::ToolNotFound, "there is no such tool");
        fault.hint = Some("tools/list tells which there are".to_owned());
        return Err(visit.fault(&fault));
    };
    let mirrored = (head, arguments.as_deref());
    call::check_mirrors(&visit, (&reference.server, &reference.name), mirrored).await?;
    let request = CallTool {
        reference: reference.to_string(),
        arguments,
        ..CallTool::default()
    };
    let given = Given {
        id,
        arguments: None,
        meta,
        extra,
    };
    run(visit, given, request).await
}

/// The parts of a result this face looks at.
fn part(result: &ToolResult, name: &str) -> Option<Box<RawValue>> {
    let members = Params::from_raw(result.raw());
    members.get(name).map(ToOwned::to_owned)
}
