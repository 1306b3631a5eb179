//! Agents: their tokens, pairing, what they offer, and which one a lane means.

use std::time::Duration;

use axum::extract::{RawQuery, Request, State};
use broker::operations::agents::{AgentOffer, AgentTokenWish, AgentView, PairingStanding};
use http::header::HOST;
use http::{HeaderMap, StatusCode};
use secrecy::ExposeSecret as _;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;
use transports::Era;
use transports::tunnel::frame::ServerTools;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::calls::lane;
use super::views;
use crate::answer::{self, Answer};
use crate::app::{App, Asked, Named, Shared};
use crate::front::body::{self, Json, JsonOrDefault};
use crate::front::query::Query;
use crate::problem::Refused;
use crate::wire;

/// Longest body of whoever shows no credential.
const PAIR_BODY_BYTES: usize = 4 * 1024;

pub(super) fn routes() -> OpenApiRouter<Shared> {
    OpenApiRouter::new()
        .routes(routes!(list_agents))
        .routes(routes!(get_agent, delete_agent))
        .routes(routes!(list_agent_tools))
        .routes(routes!(issue_agent_token))
        .routes(routes!(begin_pairing))
        .routes(routes!(confirm_pairing))
        .routes(routes!(poll_pairing))
        .routes(routes!(set_default_agent, clear_default_agent))
}

/// The caller's agents; for an admin those of `user`.
#[utoipa::path(
    get, path = "/v1/agents", operation_id = "list_agents", tag = "agents",
    params(("user" = Option<String>, Query), ("limit" = Option<u64>, Query), ("cursor" = Option<String>, Query)),
    responses((status = 200, body = wire::Page<wire::Agent>))
)]
async fn list_agents(
    State(app): State<Shared>,
    Asked(asker): Asked,
    RawQuery(raw): RawQuery,
) -> Answer {
    let mut query = Query::parse(raw.as_deref(), &["user", "limit", "cursor"], &[])?;
    let (user, page) = (query.text("user"), super::page(&mut query)?);
    let page = app
        .broker
        .list_agents(&asker, user.as_deref(), page)
        .await?;
    answer::json(&views::page(page, agent))
}

fn agent(view: AgentView) -> wire::Agent {
    let status = if view.online { "online" } else { "offline" };
    wire::Agent {
        agent_id: view.agent_id,
        user: view.user,
        workspace: view.workspace,
        label: view.label,
        status: status.to_owned(),
        since: view.since,
        last_seen_at: view.last_seen_at,
        created_at: view.created_at,
        token_version: view.token_version,
        token_expires_at: view.token_expires_at,
        epoch: view.epoch,
        in_flight: view.in_flight,
        dropped_bytes: view.dropped_bytes,
        bad_frames: view.bad_frames,
        meta: view.meta.and_then(|meta| RawValue::from_string(meta).ok()),
        servers: view.servers,
        default_lanes: view.default_lanes,
    }
}

/// `user`, the only parameter of routes about one agent.
fn whose(raw: Option<&str>) -> Result<Option<String>, Refused> {
    Ok(Query::parse(raw, &["user"], &[])?.text("user"))
}

/// One agent.
#[utoipa::path(
    get, path = "/v1/agents/{agent_id}", operation_id = "get_agent", tag = "agents",
    params(("agent_id" = String, Path), ("user" = Option<String>, Query)),
    responses((status = 200, body = wire::Agent))
)]
async fn get_agent(State(app): State<Shared>, named: Named, RawQuery(raw): RawQuery) -> Answer {
    let user = whose(raw.as_deref())?;
    let Named { asker, name } = named;
    let view = app.broker.get_agent(&asker, &name, user.as_deref()).await?;
    answer::json(&agent(view))
}

/// Deletes an agent: its token is not good any more, its connection is closed, its servers are gone.
#[utoipa::path(
    delete, path = "/v1/agents/{agent_id}", operation_id = "delete_agent", tag = "agents",
    params(("agent_id" = String, Path), ("user" = Option<String>, Query)),
    responses((status = 204, description = "Deleted"))
)]
async fn delete_agent(State(app): State<Shared>, named: Named, RawQuery(raw): RawQuery) -> Answer {
    let user = whose(raw.as_deref())?;
    let Named { asker, name } = named;
    app.broker
        .delete_agent(&asker, &name, user.as_deref())
        .await?;
    Ok(answer::empty(StatusCode::NO_CONTENT))
}

/// What an agent offers, in its servers' own words; the last it told, while it is away.
#[utoipa::path(
    get, path = "/v1/agents/{agent_id}/tools", operation_id = "list_agent_tools", tag = "agents",
    params(("agent_id" = String, Path), ("user" = Option<String>, Query)),
    responses((status = 200, body = wire::AgentTools))
)]
async fn list_agent_tools(
    State(app): State<Shared>,
    named: Named,
    RawQuery(raw): RawQuery,
) -> Answer {
    let user = whose(raw.as_deref())?;
    let Named { asker, name } = named;
    let offer = app
        .broker
        .agent_tools(&asker, &name, user.as_deref())
        .await?;
    answer::json(&tools(&offer))
}

fn tools(offer: &AgentOffer) -> wire::AgentTools {
    let servers = offer.catalogue.servers.iter();
    wire::AgentTools {
        agent_id: offer.agent_id.clone(),
        stale: offer.stale,
        generation: offer.catalogue.generation,
        servers: servers.map(|one| server(offer, &one.told)).collect(),
    }
}

fn server(offer: &AgentOffer, told: &ServerTools) -> wire::AgentServer {
    let name = offer
        .names
        .iter()
        .find(|(server, _)| *server == told.server);
    let era = match told.era {
        Era::Modern => "modern",
        Era::Legacy => "legacy",
    };
    wire::AgentServer {
        server: told.server.clone(),
        name: name.map(|(_, name)| name.clone()),
        era: era.to_owned(),
        problem: told.problem.clone(),
        tools: told.tools.clone(),
        resources: told.resources.clone(),
        templates: told.templates.clone(),
        prompts: told.prompts.clone(),
    }
}

/// The token of one of the caller's agents; the one there is, while it is good, unless it is to be reset.
#[utoipa::path(
    post, path = "/v1/agents/tokens", operation_id = "issue_agent_token", tag = "agents",
    request_body = Option<wire::AgentTokenRequest>,
    responses((status = 201, body = wire::AgentToken))
)]
async fn issue_agent_token(
    State(app): State<Shared>,
    Asked(asker): Asked,
    JsonOrDefault(body): JsonOrDefault<wire::AgentTokenRequest>,
) -> Answer {
    let wish = AgentTokenWish {
        agent_id: body.agent_id,
        label: body.label,
        reset: body.reset,
        expires_in: body.expires_in_s.map(Duration::from_secs),
    };
    let token = app.broker.issue_agent_token(&asker, wish).await?;
    let shown = answer::json(&wire::AgentToken {
        agent_id: token.agent_id,
        token: token.token.expose_secret().to_owned(),
        version: token.version,
        expires_at: token.expires_at,
        reset: token.reset,
    })?;
    Ok(answer::with_status(shown, StatusCode::CREATED))
}

/// A body of somebody without a credential.
async fn small<T: DeserializeOwned>(request: Request) -> Result<T, Refused> {
    let (head, body) = request.into_parts();
    let bytes = body::read(body, &head.headers, PAIR_BODY_BYTES).await?;
    let text = if bytes.trim_ascii().is_empty() {
        &b"{}"[..]
    } else {
        &bytes
    };
    body::parse(text)
}

/// Begins a pairing: an agent without a token gets a code for a person to confirm. Needs no credential.
#[utoipa::path(
    post, path = "/v1/agents/pair", operation_id = "begin_pairing", tag = "agents",
    request_body = Option<wire::PairRequest>,
    responses((status = 201, body = wire::Pairing))
)]
async fn begin_pairing(State(app): State<Shared>, request: Request) -> Answer {
    let body: wire::PairRequest = small(request).await?;
    let begun = app
        .broker
        .begin_pairing(body.agent_id.as_deref(), body.label.as_deref())?;
    let shown = answer::json(&wire::Pairing {
        code: begun.code,
        poll_token: begun.poll_token.expose_secret().to_owned(),
        expires_at: views::moment(begun.expires_at),
    })?;
    Ok(answer::with_status(shown, StatusCode::CREATED))
}

/// Makes the agent that shows this code one of the caller's.
#[utoipa::path(
    post, path = "/v1/agents/pair/confirm", operation_id = "confirm_pairing", tag = "agents",
    request_body = wire::PairConfirm,
    responses((status = 200, body = wire::Paired))
)]
async fn confirm_pairing(
    State(app): State<Shared>,
    Asked(asker): Asked,
    Json(body): Json<wire::PairConfirm>,
) -> Answer {
    let paired = app.broker.confirm_pairing(&asker, &body.code).await?;
    answer::json(&wire::Paired {
        agent_id: paired.agent_id,
        label: paired.label,
    })
}

/// Where a pairing stands, asked by its agent. Needs no credential but the poll token.
#[utoipa::path(
    post, path = "/v1/agents/pair/poll", operation_id = "poll_pairing", tag = "agents",
    request_body = wire::PairPoll,
    responses((status = 200, body = wire::PairStanding))
)]
async fn poll_pairing(State(app): State<Shared>, request: Request) -> Answer {
    let url = tunnel_url(&app, request.headers());
    let body: wire::PairPoll = small(request).await?;
    let none = |status: &str| wire::PairStanding {
        status: status.to_owned(),
        agent_id: None,
        token: None,
        tunnel_url: None,
    };
    answer::json(&match app.broker.pairing_standing(&body.poll_token) {
        PairingStanding::Pending => none("pending"),
        PairingStanding::Expired => none("expired"),
        PairingStanding::Approved { agent_id, token } => wire::PairStanding {
            status: "approved".to_owned(),
            agent_id: Some(agent_id),
            token: Some(token.expose_secret().to_owned()),
            tunnel_url: Some(url),
        },
    })
}

/// Where agents dial: the public name where there is one, else the name this request came by, which was checked.
fn tunnel_url(app: &App, headers: &HeaderMap) -> String {
    let live = app.live.load();
    let base = live.public_url.as_ref().map(|url| {
        let scheme = if url.scheme() == "https" { "wss" } else { "ws" };
        let host = url.host_str().unwrap_or_default();
        let port = url
            .port()
            .map(|port| format!(":{port}"))
            .unwrap_or_default();
        format!("{scheme}://{host}{port}")
    });
    let base = base.unwrap_or_else(|| {
        let host = headers.get(HOST).and_then(|host| host.to_str().ok());
        format!("ws://{}", host.unwrap_or_default())
    });
    format!("{base}/v1/agents/tunnel")
}

/// Says which of the caller's agents a lane means where nobody names one; without `lane`, all others.
#[utoipa::path(
    put, path = "/v1/agents/default", operation_id = "set_default_agent", tag = "agents",
    params(("lane" = Option<String>, Query)),
    request_body = wire::DefaultAgent,
    responses((status = 204, description = "Set"))
)]
async fn set_default_agent(
    State(app): State<Shared>,
    Asked(asker): Asked,
    RawQuery(raw): RawQuery,
    Json(body): Json<wire::DefaultAgent>,
) -> Answer {
    let mut query = Query::parse(raw.as_deref(), &["lane"], &[])?;
    let lane = lane(query.text("lane"))?;
    app.broker
        .set_default_agent(&asker, &lane, Some(&body.agent_id))
        .await?;
    Ok(answer::empty(StatusCode::NO_CONTENT))
}

/// Takes back what a lane means.
#[utoipa::path(
    delete, path = "/v1/agents/default", operation_id = "clear_default_agent", tag = "agents",
    params(("lane" = Option<String>, Query)),
    responses((status = 204, description = "Taken back"))
)]
async fn clear_default_agent(
    State(app): State<Shared>,
    Asked(asker): Asked,
    RawQuery(raw): RawQuery,
) -> Answer {
    let mut query = Query::parse(raw.as_deref(), &["lane"], &[])?;
    let lane = lane(query.text("lane"))?;
    app.broker.set_default_agent(&asker, &lane, None).await?;
    Ok(answer::empty(StatusCode::NO_CONTENT))
}
