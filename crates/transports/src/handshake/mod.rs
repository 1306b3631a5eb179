//! Finds out which era a server speaks and does that era's handshake. Works over any carrier.

mod discover;
mod initialize;

use std::time::Duration;

use serde_json::value::RawValue;

use crate::carrier::{Carrier, Kind};
use crate::connection::PeerInfo;
use crate::error::{ConnectError, RequestError};
use crate::spec::{Endpoint, Era, EraChoice, ServerSpec};
use crate::wire::{EraMeta, LogLevel, Params, Request};
use discover::{Probe, discover};
use initialize::initialize;

/// The modern revision we speak.
const MODERN_VERSION: &str = "2026-07-28";
/// The newest revision with `initialize`; what we ask a legacy server for.
const LEGACY_VERSION: &str = "2025-11-25";
/// Every legacy revision we can go on with.
const LEGACY_VERSIONS: [&str; 4] = ["2024-11-05", "2025-03-26", "2025-06-18", LEGACY_VERSION];

/// Who we say we are, for a constant.
macro_rules! client_info {
    () => {
        concat!(
            "{\"name\":\"paperbot-mcp-bridge\",\"version\":\"",
            env!("CARGO_PKG_VERSION"),
            "\"}"
        )
    };
}

/// Who we say we are.
const CLIENT_INFO: &str = client_info!();

/// The `_meta` members that are the same in every modern request.
const MODERN_MEMBERS: &str = concat!(
    "\"io.modelcontextprotocol/protocolVersion\":\"2026-07-28\",\"io.modelcontextprotocol/clientInfo\":",
    client_info!()
);

/// What is put into `_meta` on a connection of this era.
#[must_use]
pub(crate) fn meta_of(era: Era, log_level: Option<LogLevel>) -> EraMeta<'static> {
    match era {
        Era::Modern => EraMeta::Modern {
            members: MODERN_MEMBERS,
            log_level,
        },
        Era::Legacy => EraMeta::Legacy,
    }
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
    if let Kind::Tunnel(tunnel) = &carrier.kind {
        // The agent has greeted the server, and told what it said.
        return Ok(tunnel.peer());
    }
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
        params,
        repeatable: true,
        ..Request::new(method, timeout)
    }
}

fn raw(text: &str) -> Box<RawValue> {
    RawValue::from_string(text.to_owned()).unwrap_or_else(|_| RawValue::NULL.to_owned())
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
        RequestError::Exited { detail, stderr, .. } => ConnectError::Spawn { detail, stderr },
        RequestError::Unreachable { detail } => ConnectError::Unreachable { detail },
        RequestError::NeedsAuth { challenge } => ConnectError::NeedsAuth { challenge },
        RequestError::AgentOffline { agent } => ConnectError::AgentOffline { agent },
        RequestError::Overloaded { .. }
        | RequestError::Closed { .. }
        | RequestError::Disconnected { .. } => ConnectError::Unreachable {
            detail: format!("the connection was closed during {step}"),
        },
    }
}
