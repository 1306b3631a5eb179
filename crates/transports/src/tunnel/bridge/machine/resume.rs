//! A connection comes and goes; the calls stay. What each side still has is compared in HELLO and HELLO_ACK.

use std::collections::HashSet;
use std::sync::Arc;

use super::call::Phase;
use super::line::{Item, Line, Opening};
use super::{Ending, LinkMachine, Now, Waiter};
use crate::tunnel::frame::{HelloAck, Payload, ResumeAnswer, ResumeOffer};
use crate::tunnel::id::ReqId;
use crate::tunnel::limits::Limits;

impl<W: Waiter> LinkMachine<W> {
    /// A connection stands: the newest wins, and HELLO_ACK is put in line. False when a newer one stands already.
    pub fn connected(&mut self, now: Now, opening: &Opening<'_>) -> bool {
        if self.epoch().is_some_and(|epoch| epoch >= opening.epoch) {
            return false;
        }
        let mut line = Line::new(now.at, opening);
        let spool_id = opening.hello.agent_meta.spool_id.clone();
        // An agent of the same spool knows every call it ever got.
        let same_spool = spool_id.is_some() && spool_id == self.spool_id;
        self.spool_id = spool_id;
        let resume = self.answer(&opening.hello.resume, &opening.resume);
        let dismissed = resume.cancel.iter().chain(&resume.forget);
        line.dismissed = dismissed
            .filter(|id| !self.calls.contains_key(*id))
            .cloned()
            .collect();
        self.line = Some(Box::new(line));
        let ack = HelloAck {
            conn_session_id: Arc::clone(&opening.conn_session_id),
            epoch: opening.epoch,
            limits: Limits::default(),
            resume,
        };
        self.send(None, &Payload::HelloAck(Box::new(ack)));
        if opening.local
            && let Some(configure) = self.configure.clone()
        {
            self.send(None, &Payload::Configure(configure));
        }
        self.repeat(same_spool);
        true
    }

    /// The connection of that epoch is gone. False when it was not the present one.
    pub fn disconnected(&mut self, epoch: u64) -> bool {
        let present = self.epoch() == Some(epoch);
        if present {
            self.line = None;
        }
        present
    }

    /// What becomes of the calls offered: first what is known here, then what the ledger said.
    fn answer(&mut self, offer: &ResumeOffer, ledger: &ResumeAnswer) -> ResumeAnswer {
        let forget: HashSet<&ReqId> = ledger.forget.iter().collect();
        let cancel: HashSet<&ReqId> = ledger.cancel.iter().collect();
        let mut answer = ResumeAnswer::default();
        let running = offer.running.iter().map(|req_id| (req_id, true));
        let finished = offer.results.iter().map(|req_id| (req_id, false));
        for (req_id, runs) in running.chain(finished) {
            let (settled, unwanted) = match self.calls.get(req_id) {
                Some(call) => (false, call.is_open() && call.cancelled.is_some()),
                None if self.recent.contains(req_id) => (true, true),
                None => (
                    forget.contains(req_id),
                    cancel.contains(req_id) || forget.contains(req_id),
                ),
            };
            // What still runs is stopped first; its RESULT is acknowledged when it comes.
            let list = match (runs, settled, unwanted) {
                (true, _, true) => &mut answer.cancel,
                (false, true, _) => &mut answer.forget,
                _ => &mut answer.deliver,
            };
            list.push(req_id.clone());
        }
        answer
    }

    /// Sends again what the agent cannot have got, and ends what it lost.
    fn repeat(&mut self, same_spool: bool) {
        let Some(line) = &mut self.line else { return };
        let mut lost = Vec::new();
        let mut not_sent = Vec::new();
        for (req_id, call) in &mut self.calls {
            if !call.is_open() {
                continue;
            }
            if line.offered.names(req_id) {
                call.acked();
                continue;
            }
            let unknown = line.offered.lacks(req_id);
            match call.phase {
                Phase::Waiting => line.queue.push_back(Item::Invoke(req_id.clone())),
                Phase::Written if same_spool && unknown && call.cancelled.is_some() => {
                    not_sent.push(req_id.clone());
                }
                Phase::Written if same_spool && unknown => {
                    line.queue.push_back(Item::Invoke(req_id.clone()));
                }
                Phase::Written | Phase::Acked if unknown => lost.push(req_id.clone()),
                // It may be one of those that did not fit the list.
                Phase::Written | Phase::Acked | Phase::Over => {}
            }
        }
        for req_id in not_sent {
            self.end(&req_id, Some(Ending::NotSent));
        }
        for req_id in lost {
            self.lose(&req_id, "the agent no longer knows the call");
        }
    }
}
