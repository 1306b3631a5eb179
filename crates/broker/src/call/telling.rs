//! Tells the life of a call as events: `tool_status`, `tool_log`, `tool_result`.

use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};
use transports::Notification;

use super::live::Live;
use super::outcome::Ended;
use crate::call_state::CallState;
use crate::error::ErrorCode;
use crate::events::{EventKind, NewEvent};
use crate::operations::Inner;
use crate::registry::Server;

/// Longest log told in one event, in bytes.
const MAX_LOG_BYTES: usize = 64 * 1024;
/// Results up to this stand in the event itself; larger ones are read from the call.
pub(crate) const MAX_RESULT_IN_EVENT: usize = 256 * 1024;

#[derive(Serialize)]
struct Status<'a> {
    req_id: &'a str,
    state: &'static str,
}

#[derive(Serialize)]
struct Log<'a> {
    req_id: &'a str,
    channel: &'static str,
    data: &'a str,
    dropped_bytes: usize,
    dropped_lines: u64,
}

#[derive(Serialize)]
struct Outcome<'a> {
    req_id: &'a str,
    ok: bool,
    exit_code: u8,
    result_json: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    omitted_bytes: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<Problem<'a>>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    canceled: bool,
}

#[derive(Serialize)]
struct Problem<'a> {
    code: &'static str,
    detail: &'a str,
    executed: crate::error::ExecutedWire,
}

impl Inner {
    pub(super) fn tell_sent(&self, live: &Live) {
        self.tell_status(live, "sent");
    }

    /// Progress goes to `stdout`, logging to `stderr`, in the server's own JSON.
    pub(super) fn tell_progress(&self, live: &Live, server: &Server, notification: &Notification) {
        if live.state() == CallState::Dispatched {
            live.advance(CallState::Running);
            self.tell_status(live, "running");
        }
        let channel = match notification.method.as_str() {
            "notifications/progress" => "stdout",
            _ => "stderr",
        };
        let text = notification.params.as_deref().map_or("", RawValue::get);
        let clean = server.redactions().clean(text);
        let mut end = clean.len().min(MAX_LOG_BYTES);
        while !clean.is_char_boundary(end) {
            end -= 1;
        }
        let log = Log {
            req_id: &live.name,
            channel,
            data: &clean[..end],
            dropped_bytes: clean.len() - end,
            dropped_lines: 0,
        };
        self.tell(EventKind::ToolLog, live, to_raw_value(&log));
    }

    pub(super) fn tell_ended(&self, live: &Live, ended: &Ended) {
        let state = match (&ended.outcome, ended.state) {
            (Ok(_), _) => "done",
            (Err(_), CallState::Cancelled) => "canceled",
            (Err(_), _) => "error",
        };
        self.tell_status(live, state);
        let mut outcome = Outcome {
            req_id: &live.name,
            ok: false,
            exit_code: 0,
            result_json: None,
            omitted_bytes: None,
            error: None,
            canceled: ended.state == CallState::Cancelled,
        };
        match &ended.outcome {
            Ok(result) => {
                let size = result.raw().get().len();
                outcome.ok = !result.is_error();
                outcome.exit_code = if result.is_error() { 5 } else { 0 };
                outcome.result_json = (size <= MAX_RESULT_IN_EVENT).then(|| result.raw());
                outcome.omitted_bytes = (size > MAX_RESULT_IN_EVENT).then_some(size);
            }
            Err(fault) => {
                outcome.exit_code = fault.code.row().1;
                outcome.error = Some(Problem {
                    code: ErrorCode::as_str(fault.code),
                    detail: &fault.detail,
                    executed: fault.executed,
                });
            }
        }
        self.tell(EventKind::ToolResult, live, to_raw_value(&outcome));
    }

    fn tell_status(&self, live: &Live, state: &'static str) {
        let status = Status {
            req_id: &live.name,
            state,
        };
        self.tell(EventKind::ToolStatus, live, to_raw_value(&status));
    }

    fn tell(&self, kind: EventKind, live: &Live, data: serde_json::Result<Box<RawValue>>) {
        let Ok(data) = data else { return };
        let event = NewEvent {
            kind,
            workspace: live.intent.workspace.clone(),
            user: Some(live.intent.user.clone()),
            trace_id: Some(live.intent.trace_id.clone()),
            session_id: live.session().map(|id| id.to_string()),
            call_id: Some(live.name.clone()),
            data,
        };
        // What tells of a call that changed nothing need not all go to disk when there is very much of it.
        self.events.publish_as(event, !live.intent.is_durable());
    }
}
