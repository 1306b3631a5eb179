//! One open connection to a server and the calls that are on it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::Deserialize;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::connection::{Connection, Inbound};
use crate::tunnel::frame::Channel;
use crate::tunnel::id::ReqId;
use crate::tunnel::limits::CHUNK_FRAME_BYTES;
use crate::wire::Notification;

/// Notifications of one connection waiting to be passed on; what finds it full is counted by the connection.
pub(super) const INBOUND_QUEUE: usize = 256;

/// A connection and its calls.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) connection: Arc<Connection>,
    /// Nothing is to come onto it any more, and it is to be closed.
    pub(super) closing: CancellationToken,
    calls: Mutex<Calls>,
}

#[derive(Debug)]
struct Calls {
    /// Those that want to hear what the server logs.
    on: Vec<(ReqId, bool)>,
    idle_since: Instant,
}

impl Line {
    pub(super) fn new(connection: Arc<Connection>) -> Arc<Self> {
        let calls = Calls {
            on: Vec::new(),
            idle_since: Instant::now(),
        };
        Arc::new(Self {
            connection,
            closing: CancellationToken::new(),
            calls: Mutex::new(calls),
        })
    }

    /// Counts a call in until the guard goes.
    pub(super) fn enter(self: &Arc<Self>, req_id: &ReqId, streams: bool) -> OnLine {
        self.calls().on.push((req_id.clone(), streams));
        OnLine {
            line: Arc::clone(self),
            req_id: req_id.clone(),
        }
    }

    /// Since when nothing is on it; `None` while something is.
    pub(super) fn idle_since(&self) -> Option<Instant> {
        let calls = self.calls();
        calls.on.is_empty().then_some(calls.idle_since)
    }

    /// The calls that hear what belongs to no single one.
    pub(super) fn listeners(&self) -> Vec<ReqId> {
        let calls = self.calls();
        let listening = calls.on.iter().filter(|(_, streams)| *streams);
        listening.map(|(req_id, _)| req_id.clone()).collect()
    }

    fn calls(&self) -> MutexGuard<'_, Calls> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A call that is on a line.
#[derive(Debug)]
pub(super) struct OnLine {
    pub(super) line: Arc<Line>,
    req_id: ReqId,
}

impl Drop for OnLine {
    fn drop(&mut self) {
        let mut calls = self.line.calls();
        if let Some(at) = calls.on.iter().position(|(on, _)| *on == self.req_id) {
            calls.on.swap_remove(at);
        }
        calls.idle_since = Instant::now();
    }
}

/// What a server says on its own, sorted.
#[derive(Debug)]
pub(super) enum Heard {
    /// One of its lists changed.
    ListChanged,
    /// It tells something, to be passed on.
    Said(Channel, String),
    /// It asks something; an agent has nobody to ask, so all but a ping is declined.
    Asked(crate::wire::ServerRequest),
    /// Nothing that concerns us.
    Nothing,
}

/// Sorts it.
pub(super) fn heard(inbound: Inbound) -> Heard {
    match inbound {
        Inbound::Request(request) => Heard::Asked(request),
        Inbound::Notification(notification) => match notification.method.as_str() {
            "notifications/tools/list_changed"
            | "notifications/resources/list_changed"
            | "notifications/prompts/list_changed" => Heard::ListChanged,
            _ => said(&notification)
                .map_or(Heard::Nothing, |(channel, data)| Heard::Said(channel, data)),
        },
    }
}

/// A progress or log notification as it crosses the tunnel: raw where it fits one frame, else its words.
pub(super) fn said(notification: &Notification) -> Option<(Channel, String)> {
    #[derive(Deserialize)]
    struct Words {
        #[serde(default)]
        message: Option<String>,
        #[serde(default)]
        data: Option<serde_json::Value>,
    }
    let (raw, words) = match notification.method.as_str() {
        "notifications/progress" => (Channel::Progress, Channel::Stdout),
        "notifications/message" => (Channel::Stderr, Channel::Stderr),
        _ => return None,
    };
    let params = notification.params.as_ref()?.get();
    if params.len() <= CHUNK_FRAME_BYTES {
        return Some((raw, params.to_owned()));
    }
    let told: Words = serde_json::from_str(params).ok()?;
    let text = match (told.message, told.data) {
        (Some(text), _) | (None, Some(serde_json::Value::String(text))) => text,
        (None, Some(data)) => data.to_string(),
        (None, None) => return None,
    };
    Some((words, text))
}
