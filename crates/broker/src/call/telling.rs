//! Tells the life of a call as events: `tool_status`, `tool_log`, `tool_result`; and what it did to its server's
//! circuit.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::value::{RawValue, to_raw_value};
use sessions::UserId;
use transports::Notification;
use transports::tunnel::bridge::{ACKED, DROPPED};

use super::dialogue::InputRequest;
use super::live::Live;
use super::outcome::Ended;
use crate::call_state::CallState;
use crate::definition::Redactions;
use crate::events::{EventKind, NewEvent, Told};
use crate::gate::CircuitView;
use crate::operations::Inner;
use crate::registry::Server;

/// Longest log told in one event, in bytes.
const MAX_LOG_BYTES: usize = 64 * 1024;

#[derive(Serialize)]
struct Asking<'a> {
    req_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    agent_id: Option<&'a str>,
    state: &'static str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    input_requests: Vec<Question<'a>>,
}

#[derive(Serialize)]
struct Question<'a> {
    key: &'a str,
    method: &'a str,
    params: Option<&'a RawValue>,
}

impl<'a> Question<'a> {
    fn of(request: &'a InputRequest) -> Self {
        Self {
            key: &request.key,
            method: &request.method,
            params: request.params.as_deref(),
        }
    }
}

#[derive(Serialize)]
struct Log<'a> {
    req_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    agent_id: Option<&'a str>,
    channel: &'static str,
    data: &'a str,
    dropped_bytes: u64,
    dropped_lines: u64,
}

/// What an agent says it lost of a call's words, until it is told with the next of them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Dropped {
    bytes: u64,
    lines: u64,
}

impl Dropped {
    /// Reads what was lost since the last word of a call.
    fn read(notification: &Notification) -> Option<Self> {
        #[derive(Deserialize)]
        struct Lost {
            #[serde(default)]
            bytes: u64,
            #[serde(default)]
            lines: u64,
        }
        let lost: Lost = serde_json::from_str(notification.params.as_deref()?.get()).ok()?;
        Some(Self {
            bytes: lost.bytes,
            lines: lost.lines,
        })
    }

    /// Adds another loss.
    pub(crate) fn add(&mut self, other: Self) {
        self.bytes = self.bytes.saturating_add(other.bytes);
        self.lines = self.lines.saturating_add(other.lines);
    }
}

#[derive(Serialize)]
struct Circuit<'a> {
    server: &'a str,
    state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_after_ms: Option<u64>,
}

impl Inner {
    /// A call opened or closed the circuit of its server.
    pub(super) fn tell_circuit(&self, (server, user): (&Server, &UserId), now: &CircuitView) {
        let (kind, wait) = match now.state {
            "open" => (EventKind::CircuitOpened, now.retry_after),
            "closed" => (EventKind::CircuitClosed, None),
            _ => return,
        };
        let data = to_raw_value(&Circuit {
            server: server.name.as_str(),
            state: now.state,
            retry_after_ms: wait.map(|wait| u64::try_from(wait.as_millis()).unwrap_or(u64::MAX)),
        });
        let Ok(data) = data else { return };
        self.events.publish(NewEvent {
            kind,
            workspace: server.workspace.clone(),
            // What an agent of a user's runs has a circuit of its own, and is nobody else's to know.
            user: server.via.as_ref().map(|_| user.clone()),
            trace_id: None,
            session_id: None,
            call_id: None,
            agent_id: server.agent_id(),
            data,
        });
    }

    pub(super) fn tell_sent(&self, live: &Live) {
        self.tell_status(live, "sent");
    }

    /// Progress goes to `stdout`, logging to `stderr`, in the server's own JSON.
    pub(super) fn tell_progress(
        &self,
        live: &Live,
        redactions: &Redactions,
        notification: Notification,
    ) {
        match notification.method.as_str() {
            ACKED => return self.tell_status(live, "acked"),
            DROPPED => {
                if let Some(lost) = Dropped::read(&notification) {
                    live.lost(lost);
                }
                return;
            }
            _ => {}
        }
        if live.state() == CallState::Dispatched {
            live.advance(CallState::Running);
            self.tell_status(live, "running");
        }
        let channel = match notification.method.as_str() {
            "notifications/progress" => "stdout",
            _ => "stderr",
        };
        let text = notification.params.as_deref().map_or("", RawValue::get);
        let clean = redactions.clean(text);
        let mut end = clean.len().min(MAX_LOG_BYTES);
        while !clean.is_char_boundary(end) {
            end -= 1;
        }
        let mut lost = live.take_lost();
        lost.add(Dropped {
            bytes: u64::try_from(clean.len() - end).unwrap_or(u64::MAX),
            lines: 0,
        });
        self.tell_log(live, (channel, &clean[..end]), lost);
        if !live.dialogue.notice(notification) {
            self.meters.notice_lost();
        }
    }

    fn tell_log(&self, live: &Live, (channel, data): (&'static str, &str), lost: Dropped) {
        let log = Log {
            req_id: &live.name,
            agent_id: live.intent.agent_id.as_deref(),
            channel,
            data,
            dropped_bytes: lost.bytes,
            dropped_lines: lost.lines,
        };
        if let Ok(log) = to_raw_value(&log) {
            self.tell(live, [(EventKind::ToolLog, Told::Json(log.into()))]);
        }
    }

    /// The open questions changed: the call waits for input, or goes on.
    pub(super) fn tell_dialogue(&self, live: &Live) {
        let open = live.dialogue.open();
        let state = if open.is_empty() {
            CallState::Running
        } else {
            CallState::InputRequired
        };
        if state == CallState::Running && live.state() == state {
            return;
        }
        live.advance(state);
        let asking = Asking {
            req_id: &live.name,
            agent_id: live.intent.agent_id.as_deref(),
            state: state.as_str(),
            input_requests: open.iter().map(Question::of).collect(),
        };
        if let Ok(asking) = to_raw_value(&asking) {
            self.tell(live, [(EventKind::ToolStatus, Told::Json(asking.into()))]);
        }
    }

    pub(super) fn tell_ended(&self, live: &Live, ended: &Arc<Ended>) {
        // What was lost after the last word is told before the end.
        let lost = live.take_lost();
        if lost != Dropped::default() {
            self.tell_log(live, ("stderr", ""), lost);
        }
        let of = (live.id, live.intent.agent_id.as_deref());
        let status = match (&ended.outcome, ended.state) {
            (Ok(_), _) => Told::Status("done"),
            (Err(_), CallState::Cancelled) => Told::Status("canceled"),
            (Err(fault), _) => Told::state_because(of, "error", &fault.detail),
        };
        self.tell(
            live,
            [
                (EventKind::ToolStatus, status),
                (EventKind::ToolResult, Told::end(of, ended)),
            ],
        );
    }

    fn tell_status(&self, live: &Live, state: &'static str) {
        self.tell(live, [(EventKind::ToolStatus, Told::Status(state))]);
    }

    fn tell(&self, live: &Live, told: impl IntoIterator<Item = (EventKind, Told)>) {
        // What tells of a call that changed nothing need not all go to disk when there is very much of it.
        self.events
            .tell(&live.voice, told, !live.intent.is_durable());
    }
}
