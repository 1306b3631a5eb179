//! The handshake of the legacy era: `initialize`, `notifications/initialized`.

use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::time::Instant;

use super::{CLIENT_INFO, LEGACY_VERSION, LEGACY_VERSIONS, connect_error, raw, request};
use crate::carrier::Carrier;
use crate::connection::PeerInfo;
use crate::error::{ConnectError, RequestError};
use crate::spec::Era;
use crate::wire::{self, EraMeta, Params};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Initialized {
    protocol_version: String,
    #[serde(default)]
    capabilities: Option<Arc<RawValue>>,
    #[serde(default)]
    server_info: Option<Arc<RawValue>>,
    #[serde(default)]
    instructions: Option<String>,
}

/// What the bridge can relay to a legacy server's client: all there is to ask. The revision is not agreed
/// on yet, and members an older one does not know are to be ignored. Tasks are not offered: their ids
/// would have to outlive the client that answers.
const RELAYED: &str = "{\"elicitation\":{\"form\":{},\"url\":{}},\"sampling\":{\"tools\":{},\"context\":{}},\
                       \"roots\":{\"listChanged\":true}}";

/// What is declared in turn. Servers exist that refuse a member they do not know (the Java SDK before
/// 0.18 has none in `elicitation`, before 0.11 no `elicitation`): they are asked for less.
const DECLARED: [&str; 3] = [
    RELAYED,
    "{\"elicitation\":{},\"sampling\":{},\"roots\":{\"listChanged\":true}}",
    "{}",
];

/// Answers of a server that could not read the request, rather than one that will not greet.
const UNREADABLE: [i64; 4] = [-32700, -32600, -32602, -32603];

/// The members of `initialize`'s `params`.
#[must_use]
fn initialize_params(capabilities: &str) -> Params {
    Params::default()
        .with_text("protocolVersion", LEGACY_VERSION)
        .with("capabilities", raw(capabilities))
        .with("clientInfo", raw(CLIENT_INFO))
}

/// Says `initialize`, declaring less where the server stumbles over what is declared. The first refusal
/// is the one reported.
async fn introduce(carrier: &Carrier, timeout: Duration) -> Result<Box<RawValue>, RequestError> {
    let until = Instant::now() + timeout;
    let mut refusal = None;
    for capabilities in DECLARED {
        let left = until.saturating_duration_since(Instant::now());
        let asked = request("initialize", initialize_params(capabilities), left);
        match carrier.exchange(&asked, EraMeta::Legacy).await {
            Err(error @ RequestError::Rpc { code, .. }) if UNREADABLE.contains(&code) => {
                refusal.get_or_insert(error);
            }
            Err(error) => return Err(refusal.unwrap_or(error)),
            answered => return answered,
        }
    }
    Err(refusal.unwrap_or(RequestError::Timeout { after: timeout }))
}

/// The legacy handshake. HTTP carriers repeat it when their session was lost.
///
/// # Errors
/// [`ConnectError`].
pub(super) async fn initialize(
    carrier: &Carrier,
    timeout: Duration,
) -> Result<PeerInfo, ConnectError> {
    carrier.speak(Era::Legacy, LEGACY_VERSION);
    let result = introduce(carrier, timeout)
        .await
        .map_err(|error| connect_error(error, "initialize", timeout))?;
    let found: Initialized =
        serde_json::from_str(result.get()).map_err(|_| ConnectError::Protocol {
            detail: "the answer to initialize is no handshake".to_owned(),
        })?;
    if !LEGACY_VERSIONS.contains(&found.protocol_version.as_str()) {
        let detail = "the server wants a protocol revision this bridge does not know".to_owned();
        return Err(ConnectError::Protocol { detail });
    }
    carrier.speak(Era::Legacy, &found.protocol_version);
    let initialized = wire::encode_notification("notifications/initialized", &Params::default());
    carrier
        .notify(initialized, timeout)
        .await
        .map_err(|error| connect_error(error, "initialize", timeout))?;
    Ok(PeerInfo {
        era: Era::Legacy,
        protocol_version: found.protocol_version,
        server_info: found.server_info,
        capabilities: found.capabilities.unwrap_or_else(|| Arc::from(raw("{}"))),
        instructions: found.instructions,
        mcp_session_id: carrier.mcp_session_id(),
        transport: carrier.transport(),
    })
}
