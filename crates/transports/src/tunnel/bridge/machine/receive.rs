//! What a frame of the agent does. Whatever does not fit the connection, the call or its turn is a bad frame.

use super::{Ending, LinkMachine, NEWER, Now, Output, Told, Waiter};
use crate::tunnel::frame::{CallResult, Chunk, Frame, Kind, Payload, Tools};
use crate::tunnel::id::ReqId;
use crate::tunnel::limits::{BAD_FRAMES, LIST_ENTRIES, SERVERS, close};

/// What was heard on a connection.
#[derive(Debug)]
pub enum Heard {
    /// A frame.
    Frame(Frame),
    /// Something that is none.
    Bad,
}

impl<W: Waiter> LinkMachine<W> {
    /// Takes what was heard on the connection of that epoch.
    pub fn received(&mut self, now: Now, epoch: u64, heard: Heard) {
        let Some(line) = self.line.as_mut().filter(|line| line.epoch == epoch) else {
            self.out.push(Output::Close {
                code: close::REPLACED,
                reason: NEWER,
            });
            return;
        };
        line.heard = now.at;
        let Heard::Frame(frame) = heard else {
            line.seq_unsure = true;
            return self.bad();
        };
        if frame.seq > line.seq_in.saturating_add(1) && !line.seq_unsure {
            // What they said is lost, and only a new connection finds out what it was.
            self.bad_frames += 1;
            return self.out.push(Output::Close {
                code: close::BAD_FRAMES,
                reason: "frames are missing",
            });
        }
        let in_turn = frame.seq > line.seq_in;
        line.seq_in = line.seq_in.max(frame.seq);
        line.seq_unsure = false;
        let is_its_own = frame.agent_id == self.agent_id
            && frame.conn_session_id.as_ref() == Some(&line.conn_session_id);
        if !in_turn || !is_its_own {
            return self.bad();
        }
        // Once the bridge has said goodbye, only what ends calls is of use; whose token is no good ends none either.
        match line.close_when_sent.as_ref().map(|(code, _)| *code) {
            Some(close::REVOKED) => return,
            Some(_) if frame.req_id.is_none() => return,
            _ => {}
        }
        self.take(frame.req_id, frame.payload);
    }

    fn take(&mut self, req_id: Option<ReqId>, payload: Payload) {
        match (payload, req_id) {
            (Payload::Ping, _) => self.send(None, &Payload::Pong),
            (Payload::Pong, _) => {}
            (Payload::Tools(tools), _) => match beyond(&tools) {
                None => self.out.push(Output::Tools(tools)),
                // Said in the close, so that its owner finds out why; the next try would be the same.
                Some(reason) => {
                    self.bad_frames += 1;
                    self.out.push(Output::Close {
                        code: close::BAD_FRAMES,
                        reason,
                    });
                }
            },
            (Payload::Goodbye(_), _) => {
                if let Some(line) = &mut self.line {
                    line.leaving = true;
                }
            }
            (Payload::InvokeAck(ack), Some(req_id)) => self.acked(&req_id, ack.accepted),
            (Payload::Chunk(chunk), Some(req_id)) => self.chunk(&req_id, chunk),
            (Payload::Result(result), Some(req_id)) => self.result(req_id, result),
            (Payload::CancelAck(_), Some(req_id)) => self.stray(&req_id),
            (Payload::Part(kind @ (Kind::Result | Kind::Tools), part), req_id) => {
                let Some(line) = &mut self.line else { return };
                match line.assembly.take(req_id.as_ref(), kind, &part) {
                    Ok(None) => {}
                    // The whole is no part any more, so this goes no deeper.
                    Ok(Some(Payload::Part(..))) | Err(_) => self.bad(),
                    Ok(Some(whole)) => self.take(req_id, whole),
                }
            }
            // HELLO and AUTH have been said, and the rest is the bridge's to say.
            _ => self.bad(),
        }
    }

    /// Whether the agent may speak of this call: it is in flight, ended a short while ago, or was offered.
    fn knows(&self, req_id: &str) -> bool {
        self.calls.contains_key(req_id)
            || self.recent.contains(req_id)
            || self
                .line
                .as_ref()
                .is_some_and(|line| line.offered.names(req_id))
    }

    /// Whether this connection's HELLO_ACK cancelled or forgot the call.
    fn was_dismissed(&self, req_id: &str) -> bool {
        let line = self.line.as_ref();
        line.is_some_and(|line| line.dismissed.contains(req_id))
    }

    /// A word about a call that is not waited for.
    fn stray(&mut self, req_id: &str) {
        if !self.knows(req_id) {
            self.bad();
        }
    }

    fn acked(&mut self, req_id: &ReqId, accepted: bool) {
        match self.calls.get_mut(req_id) {
            Some(call) => {
                // What is not accepted ends by the RESULT that follows.
                if call.acked()
                    && accepted
                    && let Some(waiter) = &call.waiter
                {
                    waiter.told(Told::Acked);
                }
            }
            None => self.stray(req_id),
        }
    }

    fn chunk(&mut self, req_id: &ReqId, chunk: Chunk) {
        self.dropped_bytes = self.dropped_bytes.saturating_add(chunk.dropped_bytes);
        match self.calls.get_mut(req_id) {
            Some(call) => {
                call.acked();
                if let Some(waiter) = &call.waiter {
                    waiter.told(Told::Chunk(chunk));
                }
            }
            None => self.stray(req_id),
        }
    }

    fn result(&mut self, req_id: ReqId, result: CallResult) {
        let dismissed = self.was_dismissed(&req_id);
        match self.calls.get_mut(&req_id) {
            Some(call) if call.is_open() => self.end(&req_id, Some(Ending::Result(result))),
            // The first one counts; it is acknowledged when it is settled.
            Some(call) => call.has_result = true,
            None if self.recent.contains(&req_id) || dismissed => {
                self.send(Some(&req_id), &Payload::ResultAck);
            }
            None => self.out.push(Output::AskFate(req_id)),
        }
    }

    /// Counts a bad frame; too many end the connection.
    pub(super) fn bad(&mut self) {
        self.bad_frames += 1;
        let Some(line) = &mut self.line else { return };
        line.bad += 1;
        if line.bad >= BAD_FRAMES {
            self.out.push(Output::Close {
                code: close::BAD_FRAMES,
                reason: "too many bad frames",
            });
        }
    }
}

/// Which bound an offer passes, in words.
fn beyond(tools: &Tools) -> Option<&'static str> {
    if tools.servers.len() > SERVERS {
        return Some("TOOLS of too many servers");
    }
    let long = tools.servers.iter().any(|one| {
        let lists = [&one.tools, &one.resources, &one.templates, &one.prompts];
        lists.iter().any(|list| list.len() > LIST_ENTRIES)
    });
    long.then_some("TOOLS with a list that is too long")
}
