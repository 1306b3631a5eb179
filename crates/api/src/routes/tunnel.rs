//! Where agents dial in: a WebSocket, authenticated by its first frames (docs/tunnel.md).

use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::{State, WebSocketUpgrade};
use broker::ErrorCode;
use http::HeaderMap;
use http::header::ORIGIN;
use transports::tunnel::SUBPROTOCOL;
use transports::tunnel::limits::FRAME_BYTES;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::answer::Answer;
use crate::app::Shared;
use crate::problem::Refused;

/// Buffers of one connection: most frames are small, and thousands of connections are idle.
const BUFFER_BYTES: usize = 4 * 1024;
/// What may wait to be written beyond that: the largest frame twice.
const MAX_WAITING_BYTES: usize = 2 * FRAME_BYTES + BUFFER_BYTES;

pub(super) fn routes() -> OpenApiRouter<Shared> {
    OpenApiRouter::new().routes(routes!(agent_tunnel))
}

/// The WebSocket agents dial in to; its first frames authenticate.
#[utoipa::path(
    get, path = "/v1/agents/tunnel", operation_id = "agent_tunnel", tag = "agents",
    params(("Sec-WebSocket-Protocol" = String, Header, description = "paperbot.tunnel.v1")),
    responses((status = 101, description = "The frames of docs/tunnel.md from here on"))
)]
async fn agent_tunnel(
    State(app): State<Shared>,
    headers: HeaderMap,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Answer {
    // A page has nothing to do here, whoever's it is.
    if headers.contains_key(ORIGIN) {
        let detail = "agents send no Origin";
        return Err(Refused::new(ErrorCode::Forbidden, detail));
    }
    let upgrade = upgrade.map_err(|_| Refused::invalid("this path speaks WebSocket (RFC 6455)"))?;
    let upgrade = upgrade
        .protocols([SUBPROTOCOL])
        .max_message_size(FRAME_BYTES)
        .max_frame_size(FRAME_BYTES)
        .read_buffer_size(BUFFER_BYTES)
        .write_buffer_size(BUFFER_BYTES)
        .max_write_buffer_size(MAX_WAITING_BYTES);
    if upgrade.selected_protocol().is_none() {
        let detail = format!("the subprotocol {SUBPROTOCOL} is required");
        return Err(Refused::invalid(detail));
    }
    let Some(place) = app.tunnels.enter() else {
        let mut fault = broker::Fault::new(ErrorCode::Overloaded, "too many agents are connected");
        fault.retry_after = Some(std::time::Duration::from_secs(10));
        return Err(fault.into());
    };
    let door = app.broker.agent_door();
    Ok(upgrade.on_upgrade(move |socket| app.tunnels.carry(socket, (door, place))))
}
