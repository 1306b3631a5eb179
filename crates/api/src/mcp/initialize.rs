//! How a client begins: `initialize` opens a legacy session, `server/discover` tells a modern client the same.

use std::borrow::Cow;
use std::sync::Arc;

use axum::response::Response;
use broker::operations::passing::ServerPeer;
use http::StatusCode;
use serde::Deserialize;
use serde_json::json;
use serde_json::value::{RawValue, to_raw_value};
use transports::wire;

use super::envelope::{Call, Refusal, Request};
use super::era::Revision;
use super::http::Door;
use super::problem::RpcFault;
use super::visit::Visit;
use super::{Face, capabilities, deferred, legacy, reply};

/// Where a modern result names its server.
const SERVER_INFO: &str = "io.modelcontextprotocol/serverInfo";
/// How long a modern client may believe what `server/discover` said: as long as a catalogue goes unconfirmed.
const DISCOVER_TTL_MS: u64 = 60_000;

#[derive(Deserialize)]
struct Version<'a> {
    #[serde(borrow)]
    name: Cow<'a, str>,
}

/// What stands behind an endpoint.
pub(super) struct Identity {
    /// Raw `serverInfo`.
    pub(super) server_info: Arc<RawValue>,
    /// Raw `capabilities`, in the words of the client's era.
    pub(super) capabilities: Box<RawValue>,
    /// What a model is told.
    pub(super) instructions: Option<String>,
}

/// Opens a session: agrees on a revision and says who is here.
pub(super) async fn session(door: Door, request: Request) -> Response {
    let Request { id, call } = request;
    let refuse = |fault| {
        let id = Some(id.clone());
        reply::refused(&Refusal { id, fault }, StatusCode::BAD_REQUEST)
    };
    let (revision, declared) = match introduction(&call) {
        Ok(told) => told,
        Err(fault) => return refuse(fault),
    };
    let (app, asker) = (door.app.clone(), door.asker.clone());
    let face = door.endpoint.face.clone();
    let session = app.mcp.registry.open(&asker, &face, (revision, declared));
    let (visit, ..) = door.visit(super::visit::Client::Legacy(Arc::clone(&session)));
    match greeting(&visit, revision).await {
        Ok(result) => {
            let response = reply::json(StatusCode::OK, reply::result(&id, &result));
            reply::with_session(response, &session.facts.id)
        }
        Err(fault) => {
            app.mcp.registry.end(&session);
            reply::json(StatusCode::OK, reply::fault(Some(&id), &fault))
        }
    }
}

/// What a client says of itself.
///
/// # Errors
/// `-32602`.
pub(super) fn introduction(call: &Call) -> Result<(Revision, Option<Box<RawValue>>), RpcFault> {
    let asked = legacy::text(call, "protocolVersion")?;
    let declared = call.params.get("capabilities").map(ToOwned::to_owned);
    if declared
        .as_deref()
        .is_some_and(|raw: &RawValue| !raw.get().starts_with('{'))
    {
        return Err(RpcFault::invalid_params(
            "params.capabilities must be an object",
        ));
    }
    Ok((Revision::negotiate(&asked), declared))
}

/// The result of `initialize`.
///
/// # Errors
/// Why the server cannot be reached.
pub(super) async fn greeting(visit: &Visit, revision: Revision) -> Result<Vec<u8>, RpcFault> {
    let identity = identity(visit).await?;
    let mut members = vec![
        ("protocolVersion".into(), wire::raw_text(revision.name())),
        ("capabilities".into(), identity.capabilities),
        (
            "serverInfo".into(),
            identity.server_info.as_ref().to_owned(),
        ),
    ];
    push_instructions(&mut members, identity.instructions.as_deref());
    Ok(bytes(members))
}

/// The result of `server/discover`.
///
/// # Errors
/// Why the server cannot be reached.
pub(super) async fn discovery(visit: &Visit) -> Result<Vec<u8>, RpcFault> {
    let identity = identity(visit).await?;
    let meta = [(SERVER_INFO.into(), identity.server_info.as_ref().to_owned())];
    let mut members = vec![
        ("resultType".into(), wire::raw_text("complete")),
        ("supportedVersions".into(), raw(&json!(Revision::SUPPORTED))),
        ("capabilities".into(), identity.capabilities),
        ("ttlMs".into(), raw(&json!(DISCOVER_TTL_MS))),
        ("cacheScope".into(), wire::raw_text("private")),
        ("_meta".into(), capabilities::object(meta.into_iter())),
    ];
    push_instructions(&mut members, identity.instructions.as_deref());
    Ok(bytes(members))
}

type Member = (Cow<'static, str>, Box<RawValue>);

fn push_instructions(members: &mut Vec<Member>, instructions: Option<&str>) {
    if let Some(instructions) = instructions {
        members.push(("instructions".into(), wire::raw_text(instructions)));
    }
}

fn bytes(members: Vec<Member>) -> Vec<u8> {
    capabilities::object(members.into_iter())
        .get()
        .as_bytes()
        .to_vec()
}

async fn identity(visit: &Visit) -> Result<Identity, RpcFault> {
    let name = match &visit.face {
        Face::Deferred => return deferred::identity(visit).await,
        Face::Server(name) => name,
    };
    let peer = peer(visit).await?;
    let capabilities = capabilities::told(&peer, visit.client.revision());
    let server_info = match peer.server_info {
        // What names nothing would be refused by clients that read it strictly.
        Some(told)
            if serde_json::from_str::<Version<'_>>(told.get())
                .is_ok_and(|v| !v.name.is_empty()) =>
        {
            told
        }
        _ => Arc::from(raw(&json!({"name": name.as_str(), "version": "0"}))),
    };
    Ok(Identity {
        server_info,
        capabilities,
        instructions: peer.instructions,
    })
}

/// The handshake facts of the server behind this endpoint.
///
/// # Errors
/// Why it cannot be reached.
pub(super) async fn peer(visit: &Visit) -> Result<ServerPeer, RpcFault> {
    let Face::Server(name) = &visit.face else {
        return Err(RpcFault::invalid_request("there is no one server here"));
    };
    let broker = &visit.app.broker;
    let peer = broker
        .server_peer(&visit.asker, name.as_str(), &visit.lane())
        .await;
    peer.map_err(|fault| RpcFault::of(&fault, visit.client.revision(), &visit.asker.trace.id()))
}

/// A value as raw JSON.
pub(super) fn raw(value: &serde_json::Value) -> Box<RawValue> {
    to_raw_value(value).unwrap_or_else(|_| RawValue::NULL.to_owned())
}
