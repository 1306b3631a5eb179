//! Finds out which era a server speaks and does that era's handshake. Works over any carrier.

use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::connection::{Carrier, PeerInfo};
use crate::error::{ConnectError, RequestError};
use crate::spec::{Endpoint, Era, EraChoice, ServerSpec};
use crate::wire::{self, Params, Request};

/// The modern revision we speak.
pub(crate) const MODERN_VERSION: &str = "2026-07-28";
/// The newest revision with `initialize`; what we ask a legacy server for.
pub(crate) const LEGACY_VERSION: &str = "2025-11-25";
/// Every legacy revision we can go on with.
pub(crate) const LEGACY_VERSIONS: [&str; 4] =
    ["2024-11-05", "2025-03-26", "2025-06-18", LEGACY_VERSION];

/// Who we say we are.
const CLIENT_INFO: &str = concat!(
    "{\"name\":\"paperbot-mcp-bridge\",\"version\":\"",
    env!("CARGO_PKG_VERSION"),
    "\"}"
);

/// Modern errors that only a modern server sends (2026-07-28 § Errors): never fall back on them.
const MODERN_ERRORS: std::ops::RangeInclusive<i64> = -32099..=-32020;

/// "I do not speak that revision"; its data lists the ones it speaks.
const UNSUPPORTED_VERSION: i64 = -32022;

/// Whether an unsupported-version error names a revision that `initialize` can agree on.
fn offers_legacy(data: Option<&RawValue>) -> bool {
    #[derive(Deserialize)]
    struct Supported {
        supported: Vec<String>,
    }
    let read = data.and_then(|data| serde_json::from_str::<Supported>(data.get()).ok());
    read.is_some_and(|read| {
        read.supported
            .iter()
            .any(|version| LEGACY_VERSIONS.contains(&version.as_str()))
    })
}

/// The `_meta` members every modern request carries.
#[must_use]
pub(crate) fn modern_meta() -> String {
    format!(
        "\"io.modelcontextprotocol/protocolVersion\":\"{MODERN_VERSION}\",\
         \"io.modelcontextprotocol/clientInfo\":{CLIENT_INFO},\"io.modelcontextprotocol/clientCapabilities\":{{}}"
    )
}

/// What is put into `_meta` on a connection of this era.
#[must_use]
pub(crate) fn meta_of(era: Era) -> String {
    match era {
        Era::Modern => modern_meta(),
        Era::Legacy => String::new(),
    }
}

/// How the probe went.
enum Probe {
    Modern(PeerInfo),
    NotModern,
    Silent,
}

/// Probes and greets. On return the connection is ready for requests.
///
/// # Errors
/// [`ConnectError`], each step under its own deadline.
pub(crate) async fn greet(
    carrier: &Carrier,
    spec: &ServerSpec,
    known: Option<Era>,
) -> Result<PeerInfo, ConnectError> {
    // HTTP+SSE belongs to the first revision; such a server may meet the probe with silence.
    let oldest = matches!(spec.endpoint, Endpoint::LegacySse(_));
    match (spec.era, known) {
        _ if oldest => initialize(carrier, spec.timeouts.initialize).await,
        (EraChoice::Legacy, _) => initialize(carrier, spec.timeouts.initialize).await,
        (EraChoice::Modern, _) => match discover(carrier, spec.timeouts.probe).await? {
            Probe::Modern(info) => Ok(info),
            Probe::NotModern | Probe::Silent => Err(ConnectError::Protocol {
                detail: "the server does not speak the modern era".to_owned(),
            }),
        },
        (EraChoice::Auto, Some(Era::Legacy)) => {
            match initialize(carrier, spec.timeouts.initialize).await {
                // It may have been replaced by a modern server since.
                Err(ConnectError::Protocol { .. }) => {
                    match discover(carrier, spec.timeouts.probe).await? {
                        Probe::Modern(info) => Ok(info),
                        Probe::NotModern | Probe::Silent => Err(ConnectError::Protocol {
                            detail: "the server answers neither handshake".to_owned(),
                        }),
                    }
                }
                other => other,
            }
        }
        (EraChoice::Auto, _) => match discover(carrier, spec.timeouts.probe).await? {
            Probe::Modern(info) => Ok(info),
            Probe::NotModern => initialize(carrier, spec.timeouts.initialize).await,
            // Either an old server that ignores what it does not know, or a new one still starting.
            Probe::Silent => match initialize(carrier, spec.timeouts.initialize).await {
                Err(error @ ConnectError::Protocol { .. }) => {
                    match discover(carrier, spec.timeouts.probe).await? {
                        Probe::Modern(info) => Ok(info),
                        Probe::NotModern | Probe::Silent => Err(error),
                    }
                }
                other => other,
            },
        },
    }
}

fn request(method: &'static str, params: Params, timeout: Duration) -> Request {
    Request {
        method: method.into(),
        params,
        meta: Params::default(),
        timeout,
        progress: None,
        repeatable: true,
    }
}

fn raw(text: &str) -> Box<RawValue> {
    RawValue::from_string(text.to_owned()).unwrap_or_else(|_| RawValue::NULL.to_owned())
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Discovered {
    supported_versions: Vec<String>,
    #[serde(default)]
    capabilities: Option<Arc<RawValue>>,
    #[serde(default)]
    instructions: Option<String>,
    #[serde(default, rename = "_meta")]
    meta: Option<DiscoveredMeta>,
    #[serde(default)]
    server_info: Option<Arc<RawValue>>,
}

#[derive(Deserialize)]
struct DiscoveredMeta {
    #[serde(default, rename = "io.modelcontextprotocol/serverInfo")]
    server_info: Option<Arc<RawValue>>,
}

async fn discover(carrier: &Carrier, timeout: Duration) -> Result<Probe, ConnectError> {
    carrier.speak(Era::Modern, MODERN_VERSION);
    let answer = carrier
        .exchange(
            &request("server/discover", Params::default(), timeout),
            &modern_meta(),
        )
        .await;
    match answer {
        Ok(result) => Ok(read_discovered(carrier, &result)),
        Err(RequestError::Rpc {
            code: UNSUPPORTED_VERSION,
            data,
            ..
        }) if offers_legacy(data.as_deref()) => Ok(Probe::NotModern),
        Err(RequestError::Rpc { code, message, .. }) if MODERN_ERRORS.contains(&code) => {
            Err(ConnectError::Protocol {
                detail: format!("the modern server refused us with {code}: {message}"),
            })
        }
        // Any other answer, garbage and silence alike: a server of the era before `server/discover`.
        Err(
            RequestError::Rpc { .. }
            | RequestError::Protocol { .. }
            | RequestError::TooLarge { .. },
        ) => Ok(Probe::NotModern),
        Err(RequestError::Timeout { .. }) => Ok(Probe::Silent),
        Err(error) => Err(connect_error(error, "server/discover", timeout)),
    }
}

fn read_discovered(carrier: &Carrier, result: &RawValue) -> Probe {
    let Ok(found) = serde_json::from_str::<Discovered>(result.get()) else {
        return Probe::NotModern;
    };
    if !found
        .supported_versions
        .iter()
        .any(|version| version == MODERN_VERSION)
    {
        return Probe::NotModern;
    }
    Probe::Modern(PeerInfo {
        era: Era::Modern,
        protocol_version: MODERN_VERSION.to_owned(),
        server_info: found
            .server_info
            .or_else(|| found.meta.and_then(|meta| meta.server_info)),
        capabilities: found.capabilities.unwrap_or_else(|| Arc::from(raw("{}"))),
        instructions: found.instructions,
        mcp_session_id: None,
        transport: carrier.transport(),
    })
}

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

/// The members of `initialize`'s `params`.
#[must_use]
pub(crate) fn initialize_params() -> Params {
    Params::default()
        .with_text("protocolVersion", LEGACY_VERSION)
        .with("capabilities", raw("{}"))
        .with("clientInfo", raw(CLIENT_INFO))
}

/// The legacy handshake. HTTP carriers repeat it when their session was lost.
///
/// # Errors
/// [`ConnectError`].
pub(crate) async fn initialize(
    carrier: &Carrier,
    timeout: Duration,
) -> Result<PeerInfo, ConnectError> {
    carrier.speak(Era::Legacy, LEGACY_VERSION);
    let result = carrier
        .exchange(&request("initialize", initialize_params(), timeout), "")
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

/// A failed handshake request as a failed connection.
fn connect_error(error: RequestError, step: &'static str, after: Duration) -> ConnectError {
    match error {
        RequestError::Rpc { code, message, .. } => ConnectError::Protocol {
            detail: format!("the server refused {step} with {code}: {message}"),
        },
        RequestError::Timeout { .. } => ConnectError::Timeout { step, after },
        RequestError::Protocol { detail } => ConnectError::Protocol { detail },
        RequestError::TooLarge { limit_bytes } => ConnectError::Protocol {
            detail: format!("the answer to {step} is larger than {limit_bytes} bytes"),
        },
        RequestError::Exited { detail, stderr } => ConnectError::Spawn { detail, stderr },
        RequestError::Unreachable { detail } => ConnectError::Unreachable { detail },
        RequestError::NeedsAuth { challenge } => ConnectError::NeedsAuth { challenge },
        RequestError::Overloaded { .. } | RequestError::Closed { .. } => {
            ConnectError::Unreachable {
                detail: format!("the connection was closed during {step}"),
            }
        }
    }
}
