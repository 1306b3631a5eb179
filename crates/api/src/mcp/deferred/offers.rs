//! `read_resource` and `get_prompt`: requests passed on to one server.

use broker::operations::relay::Relay;
use broker::{ErrorCode, Fault};
use catalog::Ref;
use transports::{Params, ServerName};

use super::{Given, OURS, find, parsed, results, tools};
use crate::mcp::call::{self, Asked};
use crate::mcp::ending::Shape;
use crate::mcp::problem::RpcFault;
use crate::mcp::reply::Outcome;
use crate::mcp::strict;
use crate::mcp::visit::Visit;

/// `read_resource`.
pub(super) async fn read_any(visit: Visit, given: Given) -> Result<Outcome, RpcFault> {
    let wanted: tools::ReadAny = match parsed("read_resource", &given) {
        Ok(wanted) => wanted,
        Err(fault) => return results(&visit, &fault),
    };
    let params = Params::default().with_text("uri", &wanted.uri);
    let shape = Shape {
        rewrite: Some(find::contents),
        ..OURS
    };
    let asks = ("resources/read", params, shape);
    relay(visit, given, (&wanted.server, asks)).await
}

/// `get_prompt`.
pub(super) async fn get_any_prompt(visit: Visit, given: Given) -> Result<Outcome, RpcFault> {
    let wanted: tools::GetAnyPrompt = match parsed("get_prompt", &given) {
        Ok(wanted) => wanted,
        Err(fault) => return results(&visit, &fault),
    };
    let Some(reference) = Ref::parse(&wanted.reference) else {
        let mut fault = Fault::new(ErrorCode::PromptNotFound, "there is no such prompt");
        fault.hint = Some("a ref is server.prompt; list_prompts tells them".to_owned());
        return results(&visit, &fault);
    };
    let mut params = Params::default().with_text("name", &reference.name);
    if let Some(arguments) = wanted.arguments {
        // Read by nobody between here and the server.
        if !strict::check(&arguments) {
            let fault = Fault::new(ErrorCode::InvalidArguments, strict::WHY);
            return results(&visit, &fault);
        }
        params = params.with("arguments", arguments);
    }
    let shape = Shape {
        rewrite: Some(find::messages),
        ..OURS
    };
    let asks = ("prompts/get", params, shape);
    relay(visit, given, (reference.server.as_str(), asks)).await
}

async fn relay(
    visit: Visit,
    given: Given,
    (server, (method, mut params, shape)): (&str, (&str, Params, Shape)),
) -> Result<Outcome, RpcFault> {
    let Ok(name) = ServerName::new(server) else {
        let fault = Fault::new(ErrorCode::ServerNotFound, "there is no such server");
        return results(&visit, &fault);
    };
    let asked = Asked {
        id: given.id,
        token: given.meta.progress_token,
        place: format!("\n{method}\n{name}"),
        server: &name,
        shape,
        may_be_task: false,
    };
    params.0.extend(given.extra.0);
    let relay = Relay {
        server: server.to_owned(),
        method: method.to_owned(),
        params,
        lane: visit.lane(),
        agent_id: None,
        timeout: visit.wish.timeout,
        client: visit.side(given.meta.rest, Params::default()),
    };
    call::relay(visit, asked, relay).await
}
