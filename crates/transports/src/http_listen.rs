//! Listens for what an HTTP server says by itself: the GET stream on legacy, `subscriptions/listen` on modern.
//!
//! One task for each connection, stopped with it. Reconnects with a bounded backoff for as long as the
//! server offers a stream at all.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use http::Method;
use serde::Deserialize;
use tokio::time::Instant;

use crate::connection::PeerInfo;
use crate::handshake;
use crate::http_headers;
use crate::http_stream::{self, Opened, Place, Reader, is_message};
use crate::spec::Era;
use crate::streamable_http::{Core, Speech};
use crate::wire;

/// First pause before a lost stream is opened again, and the longest.
const BACKOFF: (Duration, Duration) = (Duration::from_secs(1), Duration::from_mins(1));
/// A stream that lived so long worked; the next loss starts the backoff anew.
const STEADY: Duration = Duration::from_secs(10);

/// How to listen.
#[derive(Debug)]
pub(crate) enum Plan {
    /// GET.
    Stream,
    /// POST of this `subscriptions/listen`.
    Subscribe(Bytes),
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Capabilities {
    tools: Option<Offers>,
    prompts: Option<Offers>,
    resources: Option<Offers>,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct Offers {
    list_changed: bool,
}

impl Plan {
    /// How to listen to this server; `None` when it says nothing by itself.
    pub(crate) fn of(info: &PeerInfo) -> Option<Self> {
        if info.era == Era::Legacy {
            return Some(Self::Stream);
        }
        let offered: Capabilities =
            serde_json::from_str(info.capabilities.get()).unwrap_or_default();
        let kinds = [
            ("toolsListChanged", offered.tools),
            ("promptsListChanged", offered.prompts),
            ("resourcesListChanged", offered.resources),
        ];
        let wanted: Vec<String> = kinds
            .into_iter()
            .filter(|(_, offers)| offers.as_ref().is_some_and(|offers| offers.list_changed))
            .map(|(name, _)| format!("\"{name}\":true"))
            .collect();
        if wanted.is_empty() {
            return None;
        }
        // A text id: the numbers belong to calls.
        let line = format!(
            "{{\"jsonrpc\":\"2.0\",\"id\":\"listen\",\"method\":\"subscriptions/listen\",\
             \"params\":{{\"notifications\":{{{}}},\"_meta\":{{{}}}}}}}",
            wanted.join(","),
            handshake::modern_meta()
        );
        Some(Self::Subscribe(Bytes::from(line)))
    }
}

/// Listens until the carrier stops.
pub(crate) async fn listen(core: &Arc<Core>, plan: Plan) {
    let mut changes = core.speeches();
    let mut place = Place::new();
    let mut pause = BACKOFF.0;
    let mut missed = false;
    loop {
        let speech = Arc::clone(&changes.borrow_and_update());
        match open(core, &plan, &speech, &place).await {
            Opened::Stream(reader) => {
                if std::mem::take(&mut missed) && place.last_id.is_none() {
                    core.announce_possible_change();
                }
                let since = Instant::now();
                tokio::select! {
                    () = hear(core, reader, &mut place) => {}
                    // A new session: the old one's stream says nothing any more.
                    _ = changes.changed() => {
                        place = Place::new();
                        continue;
                    }
                }
                if since.elapsed() >= STEADY {
                    pause = BACKOFF.0;
                    missed = true;
                }
            }
            Opened::Refused => {
                // None is offered; another session may be another server.
                if changes.changed().await.is_err() {
                    return;
                }
                continue;
            }
            Opened::Failed => missed = true,
        }
        tokio::time::sleep(place.retry.unwrap_or(Duration::ZERO).max(jittered(pause))).await;
        pause = (pause * 2).min(BACKOFF.1);
    }
}

/// Between half and the whole, so that the sessions of a restarted server do not come all at once.
fn jittered(pause: Duration) -> Duration {
    pause.mul_f64(rand::random_range(0.5..=1.0))
}

async fn open(core: &Arc<Core>, plan: &Plan, speech: &Speech, place: &Place) -> Opened {
    match plan {
        Plan::Stream => http_stream::open(core, speech, place.last_id.as_deref()).await,
        Plan::Subscribe(line) => {
            let mut headers = speech.headers.clone();
            http_headers::add_method(&mut headers, "subscriptions/listen");
            match core.send(Method::POST, headers, line.clone()).await {
                Err(_) => Opened::Failed,
                Ok(response) => http_stream::opened(response, core.frame_bytes).await,
            }
        }
    }
}

/// Hands on what comes until the stream ends.
async fn hear(core: &Arc<Core>, mut reader: Reader, place: &mut Place) {
    // An event over the bound ends the stream like a break: what follows it cannot be read.
    while let Ok(Some(mut event)) = reader.next().await {
        place.note(&mut event);
        if !is_message(&event) {
            continue;
        }
        match wire::parse(&event.data) {
            Ok(wire::Incoming::Notification(heard))
                if heard.method == "notifications/subscriptions/acknowledged" => {}
            Ok(message) => core.deliver(message).await,
            Err(_) => {
                core.garbage.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::value::RawValue;

    fn info(era: Era, capabilities: &str) -> PeerInfo {
        PeerInfo {
            era,
            protocol_version: String::new(),
            server_info: None,
            capabilities: Arc::from(RawValue::from_string(capabilities.to_owned()).unwrap()),
            instructions: None,
            mcp_session_id: None,
            transport: "streamable_http",
        }
    }

    #[test]
    fn a_modern_server_is_subscribed_to_exactly_what_it_offers() {
        let offered =
            r#"{"tools":{"listChanged":true},"prompts":{},"resources":{"listChanged":true}}"#;
        let Some(Plan::Subscribe(line)) = Plan::of(&info(Era::Modern, offered)) else {
            panic!("subscribes")
        };
        let sent: serde_json::Value = serde_json::from_slice(&line).unwrap();
        let wanted = serde_json::json!({"toolsListChanged": true, "resourcesListChanged": true});
        assert_eq!(sent["params"]["notifications"], wanted);
        assert!(sent["params"]["_meta"]["io.modelcontextprotocol/protocolVersion"].is_string());
        assert!(Plan::of(&info(Era::Modern, r#"{"tools":{}}"#)).is_none());
        assert!(matches!(
            Plan::of(&info(Era::Legacy, "{}")),
            Some(Plan::Stream)
        ));
    }
}
