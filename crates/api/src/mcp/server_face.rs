//! `/mcp/{server}`: one server passed through, in either era.

use broker::operations::calls::CallTool;
use broker::operations::relay::Relay;
use catalog::Kind;
use http::HeaderMap;
use transports::{LogLevel, Params, ServerName};

use super::call::{self, Asked};
use super::capabilities::Offered;
use super::ending::{Failures, Shape};
use super::envelope::{Call, Id};
use super::listen::Listen;
use super::lists::Words;
use super::problem::RpcFault;
use super::reply::Outcome;
use super::tasks::Whose;
use super::visit::{Client, Visit};
use super::{initialize, legacy, tasks, wishes};

/// What of a served request is decided.
type Served = Result<Outcome, RpcFault>;

/// Serves one request.
pub(super) async fn serve(
    visit: Visit,
    server: &ServerName,
    (id, call): (Id, Call),
    head: &HeaderMap,
) -> Served {
    if call.method == "tools/call" {
        return tool(visit, server, (id, call), head).await;
    }
    // Boxed: calls are what is asked all the time, and need not hold the room of everything else.
    Box::pin(rare(visit, server, (id, call))).await
}

/// Everything but `tools/call`.
async fn rare(visit: Visit, server: &ServerName, (id, call): (Id, Call)) -> Served {
    let modern = visit.client.revision().is_modern();
    match (&*call.method, modern) {
        ("tools/list", _) => list(&visit, server, (Kind::Tool, &call)).await,
        ("resources/list", _) => list(&visit, server, (Kind::Resource, &call)).await,
        ("resources/templates/list", _) => list(&visit, server, (Kind::Template, &call)).await,
        ("prompts/list", _) => list(&visit, server, (Kind::Prompt, &call)).await,
        ("resources/read" | "prompts/get" | "completion/complete", _) => {
            relay(visit, server, (id, call)).await
        }
        (method, _) if tasks::is_method(&visit.client, method) => {
            match tasks::whose(&visit).await? {
                Whose::Server => relay(visit, server, (id, call)).await,
                Whose::Bridge | Whose::Nobody => tasks::serve(visit, (id, call)).await,
            }
        }
        ("server/discover", true) => initialize::discovery(&visit).await.map(Outcome::Result),
        ("subscriptions/listen", true) => Listen::subscribe(visit, (id, call)).await,
        ("ping", false) => Ok(Outcome::Result(b"{}".to_vec())),
        ("logging/setLevel", false) => set_level(&visit, server, &call).await,
        ("resources/subscribe", false) => subscribe(&visit, server, &call).await,
        ("resources/unsubscribe", false) => unsubscribe(&visit, &call).await,
        _ => Err(RpcFault::method_not_found(&call.method)),
    }
}

async fn list(visit: &Visit, server: &ServerName, (kind, call): (Kind, &Call)) -> Served {
    let broker = &visit.app.broker;
    let list = broker.raw_list(&visit.asker, server.as_str(), kind).await;
    let list = list.map_err(|fault| visit.fault(&fault))?;
    // An empty list may mean that the server does not know the method.
    if list.items.is_empty()
        && let Ok(peer) = initialize::peer(visit).await
        && !offers(&Offered::read(&peer.capabilities), kind)
    {
        return Err(RpcFault::method_not_found(&call.method));
    }
    let how = (call.params.get("cursor"), words(visit, kind).await);
    let of = format!("{} {server}", visit.asker.principal.workspace);
    let lists = &visit.mcp().lists;
    lists.result((&of, kind), &list, how).map(Outcome::Result)
}

/// In which words a list is told. Whom the bridge gives its tasks is told so with each tool.
async fn words(visit: &Visit, kind: Kind) -> Words {
    let revision = visit.client.revision();
    if revision.is_modern() {
        return Words::Modern;
    }
    let may_be_task = kind == Kind::Tool && revision.has_core_tasks();
    if may_be_task && matches!(tasks::whose(visit).await, Ok(Whose::Bridge)) {
        Words::Tasks
    } else {
        Words::Legacy
    }
}

fn offers(offered: &Offered, kind: Kind) -> bool {
    match kind {
        Kind::Tool => offered.tools.is_some(),
        Kind::Resource | Kind::Template => offered.resources.is_some(),
        Kind::Prompt => offered.prompts.is_some(),
    }
}

async fn tool(
    visit: Visit,
    server: &ServerName,
    (id, call): (Id, Call),
    head: &HeaderMap,
) -> Served {
    let Call {
        mut params, meta, ..
    } = call;
    let name = call::take_text(&mut params, "name")?;
    let arguments = call::take(&mut params, "arguments");
    let mirrored = (head, arguments.as_deref());
    call::check_mirrors(&visit, (server, &name), mirrored).await?;
    tasks::check(&visit, server, &name).await?;
    let asked = Asked {
        id,
        token: meta.progress_token,
        place: format!("{server}\ntools/call\n{name}"),
        server,
        shape: Shape {
            cacheable: false,
            failures: Failures::Repairable,
            rewrite: None,
        },
        may_be_task: true,
    };
    let request = CallTool {
        reference: format!("{server}.{name}"),
        arguments,
        lane: visit.lane(),
        timeout: visit.wish.timeout,
        ..CallTool::default()
    };
    call::tool(visit, asked, (request, meta.rest, params)).await
}

async fn relay(visit: Visit, server: &ServerName, (id, call): (Id, Call)) -> Served {
    let Call {
        method,
        params,
        meta,
    } = call;
    let named = ["name", "uri", "taskId"]
        .iter()
        .find_map(|name| params.get(name));
    let asked = Asked {
        id,
        token: meta.progress_token,
        place: format!("{server}\n{method}\n{}", named.map_or("", |raw| raw.get())),
        server,
        shape: Shape {
            cacheable: method == "resources/read",
            failures: if method.starts_with("tasks/") {
                Failures::OfTask
            } else {
                Failures::Errors
            },
            rewrite: None,
        },
        may_be_task: false,
    };
    let relay = Relay {
        server: server.to_string(),
        method: method.into_owned(),
        params,
        lane: visit.lane(),
        agent_id: None,
        timeout: visit.wish.timeout,
        client: visit.side(meta.rest, Params::default()),
    };
    call::relay(visit, asked, relay).await
}

async fn set_level(visit: &Visit, server: &ServerName, call: &Call) -> Served {
    let Client::Legacy(session) = &visit.client else {
        return Err(RpcFault::method_not_found(&call.method));
    };
    let level = legacy::text(call, "level")?.parse::<LogLevel>();
    let level = level.map_err(|unknown| RpcFault::invalid_params(unknown.to_string()))?;
    let peer = initialize::peer(visit).await?;
    if Offered::read(&peer.capabilities).logging.is_none() {
        return Err(RpcFault::method_not_found(&call.method));
    }
    let broker = &visit.app.broker;
    let lane = visit.lane();
    let told = broker.set_log_level(&visit.asker, (server.as_str(), &lane), level);
    told.await.map_err(|fault| visit.fault(&fault))?;
    session.set_level(level);
    wishes::keep(visit, session).await;
    Ok(Outcome::Result(b"{}".to_vec()))
}

async fn subscribe(visit: &Visit, server: &ServerName, call: &Call) -> Served {
    let Client::Legacy(session) = &visit.client else {
        return Err(RpcFault::method_not_found(&call.method));
    };
    let uri = legacy::text(call, "uri")?;
    let broker = &visit.app.broker;
    let lane = visit.lane();
    let held = broker.subscribe_resource(&visit.asker, (server.as_str(), &lane), &uri);
    let held = held.await.map_err(|fault| visit.fault(&fault))?;
    if !session.subscribe(uri, held) {
        return Err(RpcFault::invalid_request(
            "this session has too many subscriptions",
        ));
    }
    wishes::keep(visit, session).await;
    Ok(Outcome::Result(b"{}".to_vec()))
}

async fn unsubscribe(visit: &Visit, call: &Call) -> Served {
    let Client::Legacy(session) = &visit.client else {
        return Err(RpcFault::method_not_found(&call.method));
    };
    session.unsubscribe(&legacy::text(call, "uri")?);
    wishes::keep(visit, session).await;
    Ok(Outcome::Result(b"{}".to_vec()))
}
