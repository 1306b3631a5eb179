//! The probe of the modern era: `server/discover`.

use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::{LEGACY_VERSIONS, MODERN_VERSION, connect_error, meta_of, raw, request};
use crate::carrier::Carrier;
use crate::connection::PeerInfo;
use crate::error::{ConnectError, RequestError};
use crate::spec::Era;
use crate::wire::Params;

/// Modern errors that only a modern server sends (2026-07-28 § Errors): never fall back on them.
const MODERN_ERRORS: std::ops::RangeInclusive<i64> = -32099..=-32020;

/// "I do not speak that revision"; its data lists the ones it speaks.
const UNSUPPORTED_VERSION: i64 = -32022;

/// The revisions an unsupported-version error names.
fn supported(data: Option<&RawValue>) -> Vec<String> {
    #[derive(Deserialize)]
    struct Supported {
        supported: Vec<String>,
    }
    let read = data.and_then(|data| serde_json::from_str::<Supported>(data.get()).ok());
    read.map_or_else(Vec::new, |read| read.supported)
}

/// How the probe went.
pub(super) enum Probe {
    Modern(PeerInfo),
    NotModern,
    Silent,
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

/// Asks a server whether it is modern.
pub(super) async fn discover(carrier: &Carrier, timeout: Duration) -> Result<Probe, ConnectError> {
    carrier.speak(Era::Modern, MODERN_VERSION);
    let probe = request("server/discover", Params::default(), timeout);
    let probing = || carrier.exchange(&probe, meta_of(Era::Modern, None));
    let mut answer = probing().await;
    if let Err(RequestError::Rpc {
        code: UNSUPPORTED_VERSION,
        data,
        ..
    }) = &answer
        && supported(data.as_deref())
            .iter()
            .any(|version| version == MODERN_VERSION)
    {
        // It refuses the very revision it names (a node of it may be behind): asked once more.
        answer = probing().await;
    }
    match answer {
        Ok(result) => Ok(read_discovered(carrier, &result)),
        Err(RequestError::Rpc {
            code: UNSUPPORTED_VERSION,
            data,
            ..
        }) if supported(data.as_deref())
            .iter()
            .any(|version| LEGACY_VERSIONS.contains(&version.as_str())) =>
        {
            Ok(Probe::NotModern)
        }
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
