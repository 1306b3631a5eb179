//! What a frame of the bridge does.

use std::sync::Arc;

use super::calls::Stopped;
use super::{AgentMachine, Note, Now, Output};
use crate::tunnel::frame::{Frame, HelloAck, Kind, Payload};
use crate::tunnel::id::ReqId;
use crate::tunnel::limits::{BAD_FRAMES, Limits, close};

impl AgentMachine {
    pub(super) fn received(&mut self, now: Now, frame: Option<Frame>) {
        let Some(line) = self.line.as_mut().filter(|line| !line.closing) else {
            return;
        };
        line.heard = now.at;
        let Some(frame) = frame else {
            line.seq_unsure = true;
            return self.bad();
        };
        if frame.seq > line.seq_in.saturating_add(1) && !line.seq_unsure {
            return self.close(close::BAD_FRAMES, "frames are missing");
        }
        let in_turn = frame.seq > line.seq_in;
        line.seq_in = line.seq_in.max(frame.seq);
        line.seq_unsure = false;
        let is_own = frame.agent_id == self.settings.agent_id;
        let greets = match (&line.conn_session_id, &frame.payload) {
            (None, Payload::HelloAck(ack)) => {
                frame.conn_session_id == Some(Arc::clone(&ack.conn_session_id))
            }
            (None, _) => false,
            (Some(name), _) => frame.conn_session_id.as_ref() == Some(name),
        };
        if !in_turn || !is_own || !greets {
            return self.bad();
        }
        self.take(now, (frame.req_id, frame.payload));
    }

    fn take(&mut self, now: Now, (req_id, payload): (Option<ReqId>, Payload)) {
        match (payload, req_id) {
            (Payload::HelloAck(ack), _) if !self.is_online() => self.stands(now, *ack),
            (Payload::Invoke(invoke), Some(req_id)) => self.invoked(now, (req_id, invoke)),
            (Payload::ResultAck, Some(req_id)) => self.forget(&[req_id]),
            (Payload::Cancel(cancel), Some(req_id)) => self.cancel(now, (&req_id, cancel)),
            (Payload::Ping, _) => self.outbox.say(None, &Payload::Pong),
            (Payload::Pong, _) => {}
            (Payload::Goodbye(goodbye), _) => {
                self.out.push(Output::Note(Note::Goodbye(goodbye.reason)));
            }
            (Payload::Configure(configure), _) if self.line_is_local() => {
                self.out.push(Output::Configure(configure));
            }
            (Payload::Part(kind @ (Kind::Invoke | Kind::Configure), part), req_id) => {
                let Some(line) = &mut self.line else { return };
                match line.assembly.take(req_id.as_ref(), kind, &part) {
                    Ok(None) => {}
                    // The whole is no part any more, so this goes no deeper.
                    Ok(Some(Payload::Part(..))) | Err(_) => self.bad(),
                    Ok(Some(whole)) => self.take(now, (req_id, whole)),
                }
            }
            _ => self.bad(),
        }
    }

    fn line_is_local(&self) -> bool {
        self.line.as_ref().is_some_and(|line| line.local)
    }

    /// HELLO_ACK: the connection stands, and each side knows what the other has.
    fn stands(&mut self, now: Now, ack: HelloAck) {
        if let Some(line) = &mut self.line {
            line.conn_session_id = Some(ack.conn_session_id);
            line.stands_since = Some(now.at);
            line.ping_within(now.at, &ack.limits);
        }
        self.obey(&ack.limits);
        self.out
            .push(Output::Note(Note::Online { epoch: ack.epoch }));
        self.forget(&ack.resume.forget);
        for req_id in &ack.resume.cancel {
            let reason = "the bridge no longer wants it".to_owned();
            self.stop_call(now, (req_id, Stopped::Cancelled), reason);
        }
        self.outbox.tell_tools();
        self.deliver();
    }

    /// Of each bound the smaller counts; `frame_bytes` is the protocol's own, for parts are cut to it.
    fn obey(&mut self, told: &Limits) {
        let own = Limits::default();
        self.limits = Limits {
            result_bytes: own.result_bytes.min(told.result_bytes),
            in_flight: own.in_flight.min(told.in_flight),
            chunk_frame_bytes: own.chunk_frame_bytes.min(told.chunk_frame_bytes),
            ..own
        };
    }

    fn bad(&mut self) {
        self.out.push(Output::Note(Note::BadFrame));
        let Some(line) = &mut self.line else { return };
        line.bad += 1;
        // Before HELLO_ACK there is nothing to be patient for.
        if line.bad >= BAD_FRAMES || line.conn_session_id.is_none() {
            let code = if line.conn_session_id.is_none() {
                close::POLICY
            } else {
                close::BAD_FRAMES
            };
            self.close(code, "too many bad frames");
        }
    }
}
