//! What a request of either era brings for the bridge, among the members that are for its server.

use serde_json::value::RawValue;
use transports::{Era, Params};

use super::call::{Asked, take};
use super::capabilities::has_tasks;
use super::problem::RpcFault;
use super::session::Session;
use super::tasks::{self, Whose};
use super::visit::{Client, Visit};
use super::{Face, held, initialize};

/// What a modern request may bring for an older server, which would not understand it.
const MEMBERS: [&str; 3] = ["requestState", "inputResponses", "task"];

/// What a request brings.
#[derive(Debug, Default)]
pub(super) struct Brought {
    /// `requestState`: the request takes up a call that waits here.
    pub(super) state: Option<Box<RawValue>>,
    /// `inputResponses`.
    pub(super) answers: Vec<(String, Box<RawValue>)>,
    /// Whether the call becomes a task.
    pub(super) becomes: Becomes,
}

/// Whether and when a call becomes a task of the bridge.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Becomes {
    /// It does not.
    #[default]
    Nothing,
    /// When it is not answered soon (2026-07-28).
    Soon,
    /// At once, because the client says so (2025-11-25).
    AtOnce,
}

/// Takes out of the parameters what is for the bridge. What a server sees to itself is passed on unread.
///
/// # Errors
/// `-32602` for what cannot be read, and why the server cannot be reached.
pub(super) async fn brought(
    visit: &Visit,
    asked: &Asked<'_>,
    params: &mut Params,
) -> Result<Brought, RpcFault> {
    // Most requests bring nothing, and then nothing is looked up.
    let brings = |names: &[&str]| names.iter().any(|name| params.get(name).is_some());
    match &visit.client {
        Client::Legacy(session) if asked.may_be_task && brings(&["task"]) => {
            Box::pin(by_legacy(visit, session, params)).await
        }
        Client::Legacy(_) => Ok(Brought::default()),
        Client::Modern(_) => {
            let knows_tasks = asked.may_be_task && visit.client.knows_tasks_extension();
            if !knows_tasks && !brings(&MEMBERS) {
                return Ok(Brought::default());
            }
            Box::pin(by_modern(visit, asked, (params, knows_tasks))).await
        }
    }
}

async fn by_legacy(
    visit: &Visit,
    session: &Session,
    params: &mut Params,
) -> Result<Brought, RpcFault> {
    if !session.revision().has_core_tasks() {
        // To be ignored, as by everybody who knows no tasks: the server may well know some.
        drop(take(params, "task"));
        return Ok(Brought::default());
    }
    if tasks::whose(visit).await? == Whose::Server {
        return Ok(Brought::default());
    }
    if let Some(task) = take(params, "task") {
        tasks::check_wish(&task)?;
    }
    Ok(Brought {
        becomes: Becomes::AtOnce,
        ..Brought::default()
    })
}

async fn by_modern(
    visit: &Visit,
    asked: &Asked<'_>,
    (params, knows_tasks): (&mut Params, bool),
) -> Result<Brought, RpcFault> {
    let becomes_task = match &visit.face {
        Face::Deferred => knows_tasks,
        Face::Server(_) => {
            let peer = initialize::peer(visit).await?;
            let becomes_task = knows_tasks && !has_tasks(&peer, visit.client.revision());
            if peer.era == Era::Modern && !becomes_task {
                return Ok(Brought::default());
            }
            becomes_task
        }
    };
    if visit.face == Face::Deferred && !becomes_task && is_modern(visit, asked).await? {
        return Ok(Brought::default());
    }
    let [state, answers, task] = MEMBERS.map(|name| take(params, name));
    // A task of the core of 2025-11-25, which no client of this revision could follow.
    drop(task);
    Ok(Brought {
        state,
        answers: held::answers(answers.as_deref())?,
        becomes: if becomes_task {
            Becomes::Soon
        } else {
            Becomes::Nothing
        },
    })
}

async fn is_modern(visit: &Visit, asked: &Asked<'_>) -> Result<bool, RpcFault> {
    let (lane, server) = (visit.lane(), asked.server.as_str());
    let broker = &visit.app.broker;
    let peer = broker.server_peer(&visit.asker, server, &lane).await;
    let peer = peer.map_err(|fault| visit.fault(&fault))?;
    Ok(peer.era == Era::Modern)
}
