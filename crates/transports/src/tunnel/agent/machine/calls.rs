//! Calls that run: once, until they end, are cancelled or are overdue.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use super::{AgentMachine, Now, Output};
use crate::tunnel::frame::{
    CallResult, Cancel, CancelAck, Channel, Chunk, FailureCode, Invoke, InvokeAck, KnownState,
    Payload,
};
use crate::tunnel::id::ReqId;

/// How long a call that was told to stop may take, before it counts as stopped.
const STOP_GRACE: Duration = Duration::from_secs(5);
/// Acknowledged calls remembered, so that not even a repeated INVOKE runs one again.
const ACKNOWLEDGED: usize = 4096;

/// Why a running call was told to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stopped {
    Cancelled,
    Overdue,
}

/// A call that is known.
#[derive(Debug)]
pub(super) enum Call {
    Running(Running),
    Finished(Finished),
}

#[derive(Debug)]
pub(super) struct Running {
    /// When it is to be stopped, or given up on; as in the order of deadlines.
    pub(super) deadline: Duration,
    stream: bool,
    pub(super) stopped: Option<Stopped>,
    /// Where the last loss was.
    channel: Channel,
    dropped_bytes: u64,
    dropped_lines: u64,
}

/// A call whose RESULT is not acknowledged.
#[derive(Debug)]
pub(super) struct Finished {
    /// Its place in the order of ends.
    pub(super) place: u64,
    /// The RESULT's payload; on disk only when `None`.
    pub(super) payload: Option<Arc<str>>,
    pub(super) bytes: usize,
    pub(super) spooled: bool,
    /// When it was last sent on the present line.
    pub(super) sent_at: Option<Duration>,
}

impl Call {
    pub(super) fn is_running(&self) -> bool {
        matches!(self, Self::Running(_))
    }
}

/// The newest acknowledged calls.
#[derive(Debug, Default)]
pub(super) struct Acknowledged {
    known: HashSet<ReqId>,
    order: VecDeque<ReqId>,
}

impl Acknowledged {
    pub(super) fn insert(&mut self, req_id: ReqId) {
        if self.known.insert(req_id.clone()) {
            self.order.push_back(req_id);
        }
        if self.order.len() > ACKNOWLEDGED
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
    }
}

impl AgentMachine {
    /// INVOKE: a call is run once, whatever comes how often.
    pub(super) fn invoked(&mut self, now: Now, (req_id, invoke): (ReqId, Box<Invoke>)) {
        let known = match self.calls.get(&req_id) {
            Some(Call::Running(_)) => Some(KnownState::Running),
            Some(Call::Finished(_)) => Some(KnownState::Finished),
            None => None,
        };
        if let Some(state) = known {
            self.acknowledge(&req_id, Some(state), None);
            if state == KnownState::Finished {
                self.outbox.forget(&HashSet::from([&req_id]));
                self.outbox.result(&req_id);
            }
            return;
        }
        if self.acknowledged.known.contains(&req_id) {
            self.acknowledge(&req_id, Some(KnownState::Finished), None);
            let gone = "its result was acknowledged and is no longer kept";
            let gone = CallResult::failed(FailureCode::Disconnected, gone);
            return self.finish(now, &req_id, gone);
        }
        let refusal = if self.stopping {
            Some("the agent stops")
        } else if self.running >= self.limits.in_flight {
            Some("too many calls are in flight")
        } else {
            None
        };
        if let Some(reason) = refusal {
            self.acknowledge(&req_id, None, Some(reason));
            let refused = CallResult::failed(FailureCode::Rejected, reason);
            return self.finish(now, &req_id, refused);
        }
        let deadline = now
            .at
            .saturating_add(Duration::from_millis(invoke.timeout_ms));
        let running = Running {
            deadline,
            stream: invoke.stream.enabled,
            stopped: None,
            channel: Channel::Stdout,
            dropped_bytes: 0,
            dropped_lines: 0,
        };
        self.calls.insert(req_id.clone(), Call::Running(running));
        self.deadlines.insert((deadline, req_id.clone()));
        self.running += 1;
        // From here on a CANCEL finds it.
        self.acknowledge(&req_id, None, None);
        self.out.push(Output::SpoolStarted(req_id.clone()));
        self.out.push(Output::StartCall { req_id, invoke });
    }

    fn acknowledge(&mut self, req_id: &ReqId, known: Option<KnownState>, refusal: Option<&str>) {
        let ack = InvokeAck {
            accepted: refusal.is_none(),
            duplicate: known.is_some(),
            state: known,
            reason: refusal.map(str::to_owned),
        };
        self.outbox.say(Some(req_id), &Payload::InvokeAck(ack));
    }

    /// CANCEL, answered.
    pub(super) fn cancel(&mut self, now: Now, (req_id, cancel): (&ReqId, Cancel)) {
        let reason = match self.calls.get(req_id) {
            Some(Call::Running(_)) => None,
            Some(Call::Finished(_)) => Some("already_finished".into()),
            None if self.acknowledged.known.contains(req_id) => Some("already_finished".into()),
            None => Some("unknown_req_id".into()),
        };
        let ack = CancelAck {
            will_cancel: reason.is_none(),
            reason,
        };
        self.outbox.say(Some(req_id), &Payload::CancelAck(ack));
        self.stop_call(now, (req_id, Stopped::Cancelled), cancel.reason);
    }

    /// Tells a running call to stop, once.
    pub(super) fn stop_call(&mut self, now: Now, (req_id, why): (&ReqId, Stopped), reason: String) {
        let Some(Call::Running(running)) = self.calls.get_mut(req_id) else {
            return;
        };
        if running.stopped.is_some() {
            return;
        }
        running.stopped = Some(why);
        let given_up = now.at + STOP_GRACE;
        self.deadlines.remove(&(running.deadline, req_id.clone()));
        self.deadlines.insert((given_up, req_id.clone()));
        running.deadline = given_up;
        self.out.push(Output::CancelCall {
            req_id: req_id.clone(),
            reason,
        });
    }

    /// Deadlines pass with or without a line.
    pub(super) fn stop_overdue(&mut self, now: Now) {
        while let Some((at, req_id)) = self.deadlines.first().cloned() {
            if at > now.at {
                return;
            }
            let stopped = match self.calls.get(&req_id) {
                Some(Call::Running(running)) => running.stopped,
                _ => None,
            };
            match stopped {
                None => {
                    let reason = "the deadline passed".to_owned();
                    self.stop_call(now, (&req_id, Stopped::Overdue), reason);
                }
                // Whatever it does now, nobody waits for it.
                Some(why) => self.finish(now, &req_id, why.result()),
            }
        }
    }

    /// A running call says something.
    pub(super) fn chunk(&mut self, req_id: &ReqId, channel: Channel, data: &str) {
        let Some(Call::Running(running)) = self.calls.get_mut(req_id) else {
            return;
        };
        if !running.stream {
            return;
        }
        let longest = self.settings.chunk_frame_bytes;
        let longest = longest.min(self.limits.chunk_frame_bytes);
        let limit = Some(self.settings.chunk_buffer_bytes);
        let mut rest = data;
        while !rest.is_empty() {
            let cut = rest.floor_char_boundary(longest.max(4));
            // A piece of a JSON text would be none.
            let whole = channel != Channel::Progress || cut == rest.len();
            let (piece, after) = if whole {
                rest.split_at(cut)
            } else {
                (rest, "")
            };
            rest = after;
            let chunk = Chunk {
                channel,
                data: piece.to_owned(),
                dropped_bytes: running.dropped_bytes,
                dropped_lines: running.dropped_lines,
            };
            let queued = whole && self.outbox.chunk(req_id, chunk, limit).is_ok();
            if queued {
                (running.dropped_bytes, running.dropped_lines) = (0, 0);
            } else {
                running.channel = channel;
                running.dropped_bytes += piece.len() as u64;
                running.dropped_lines += lines_of(piece);
            }
        }
    }

    /// A running call's words were lost before they came here: the next of them says so.
    pub(super) fn lost(&mut self, req_id: &ReqId, lines: u64) {
        if let Some(Call::Running(running)) = self.calls.get_mut(req_id)
            && running.stream
        {
            running.dropped_lines = running.dropped_lines.saturating_add(lines);
        }
    }

    /// The runtime says how a call ended. Only the first end of a running call counts.
    pub(super) fn ended(&mut self, now: Now, req_id: &ReqId, mut result: CallResult) {
        let Some(Call::Running(running)) = self.calls.get(req_id) else {
            return;
        };
        // What was stopped for its deadline was not cancelled by anybody.
        if running.stopped == Some(Stopped::Overdue) && result.canceled {
            result = Stopped::Overdue.result();
        }
        self.finish(now, req_id, result);
    }

    /// Takes a call off those that run; its trailing losses are told before its RESULT.
    pub(super) fn leave_running(&mut self, req_id: &ReqId) {
        let Some(Call::Running(running)) = self.calls.get(req_id) else {
            return;
        };
        self.running -= 1;
        self.deadlines.remove(&(running.deadline, req_id.clone()));
        if running.dropped_bytes > 0 || running.dropped_lines > 0 {
            let chunk = Chunk {
                channel: running.channel,
                data: String::new(),
                dropped_bytes: running.dropped_bytes,
                dropped_lines: running.dropped_lines,
            };
            // There is always room for this one: at most one for each call in flight.
            let _ = self.outbox.chunk(req_id, chunk, None);
        }
    }
}

impl Stopped {
    fn result(self) -> CallResult {
        match self {
            Self::Cancelled => CallResult::failed(FailureCode::Canceled, "the call was cancelled"),
            Self::Overdue => CallResult::failed(FailureCode::Timeout, "the deadline passed"),
        }
    }
}

fn lines_of(text: &str) -> u64 {
    text.lines().count() as u64
}
