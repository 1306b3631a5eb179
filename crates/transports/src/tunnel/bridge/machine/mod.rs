//! The bridge's half of the protocol for one agent, over all its connections. Pure: it is told the time,
//! reads no socket and asks no ledger; what it cannot do itself it gives back as [`Output`].

mod call;
mod line;
mod receive;
mod resume;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::value::RawValue;

use call::{Call, Phase, Recent};
pub use call::{Ending, Told, Waiter};
pub use line::Opening;
use line::{Item, Line};
pub use receive::Heard;

use super::super::frame::{
    Cancel, Configure, Draft, Goodbye, Invoke, InvokeMethod, Payload, Stream, Tools,
};
use super::super::id::{AgentId, ReqId};
use super::super::limits::{IN_FLIGHT, PING_EVERY, close};

/// Calls remembered per agent: those in flight, and those whose end is not settled yet. Ends are settled by the ledger,
/// a transaction at a time: at ten thousand calls a second a tenth of a second is a thousand of them, each some hundred
/// bytes. The ledger holds new calls up by itself before so many rows wait.
const CALLS: usize = 64 * IN_FLIGHT;
/// Frames that wait to be sent, above which nothing is read: an agent that does not read is not answered.
const QUEUE: usize = 4 * IN_FLIGHT;
/// Why an older connection ends.
const NEWER: &str = "a newer connection of this agent";
/// How long after its deadline a call nobody waits for is still expected to end by the agent's own doing.
const FORGOTTEN_AFTER: Duration = Duration::from_mins(2);

/// What time it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Now {
    /// Since any fixed moment; never goes back. For an agent that moment must lie [`super::super::limits::SPOOL_AGE`] before its
    /// start, or the age of what it finds in its spool is not seen.
    pub at: Duration,
    /// Unix seconds, for the envelopes.
    pub unix_s: u64,
}

/// What the machine wants done.
#[derive(Debug)]
pub enum Output {
    /// The agent offers this from now on.
    Tools(Tools),
    /// What does the ledger say of this call? Answer with [`LinkMachine::fate`].
    AskFate(ReqId),
    /// Close this connection; nothing more is sent or heard on it.
    Close {
        /// The close code.
        code: u16,
        /// Why, in words.
        reason: &'static str,
    },
}

/// What the ledger says of a call that nobody in this process waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It has ended: the RESULT is acknowledged and changes nothing.
    Settled,
    /// It is this agent's and has not ended, but nobody waits for it yet: the RESULT is not acknowledged.
    Awaited,
    /// There is no such call of this agent: a protocol error.
    Unknown,
}

/// Why a call was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotTaken {
    /// No connection, or one that takes nothing new.
    Offline,
    /// [`IN_FLIGHT`] calls are in flight, or too many ends are not settled.
    Full {
        /// The bound that was reached.
        limit: usize,
    },
    /// A call of this id is here already.
    Known,
}

/// A call to be sent.
#[derive(Debug)]
pub struct Ask {
    /// The call's id.
    pub req_id: ReqId,
    /// The server, as the agent names it.
    pub server: String,
    /// What is asked of it.
    pub method: InvokeMethod,
    /// Raw `params`, an object.
    pub params: Box<RawValue>,
    /// How long it may take.
    pub timeout: Duration,
    /// Calls of different keys share no connection to the server.
    pub isolation_key: String,
    /// Whether CHUNKs are wanted.
    pub stream: bool,
    /// The RESULT is acknowledged at once, not when [`LinkMachine::settled`] says so.
    pub acknowledge: bool,
}

/// What can be counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Frames refused, over all connections.
    pub bad_frames: u64,
    /// Bytes of CHUNKs the agent dropped.
    pub dropped_bytes: u64,
    /// Calls that have not ended.
    pub in_flight: usize,
}

/// One agent. `W` waits for a call's end.
#[derive(Debug)]
pub struct LinkMachine<W> {
    agent_id: AgentId,
    calls: HashMap<ReqId, Call<W>>,
    /// Calls that have not ended.
    in_flight: usize,
    /// Calls that ended a while ago.
    recent: Recent,
    line: Option<Box<Line>>,
    spool_id: Option<String>,
    configure: Option<Configure>,
    bad_frames: u64,
    dropped_bytes: u64,
    out: Vec<Output>,
}

impl<W: Waiter> LinkMachine<W> {
    /// An agent that has never been seen.
    #[must_use]
    pub fn new(agent_id: AgentId) -> Self {
        Self {
            agent_id,
            calls: HashMap::new(),
            in_flight: 0,
            recent: Recent::default(),
            line: None,
            spool_id: None,
            configure: None,
            bad_frames: 0,
            dropped_bytes: 0,
            out: Vec::new(),
        }
    }

    /// What is to be done since it was last asked.
    pub fn take_outputs(&mut self) -> Vec<Output> {
        std::mem::take(&mut self.out)
    }

    /// The present connection's epoch.
    #[must_use]
    pub fn epoch(&self) -> Option<u64> {
        self.line.as_ref().map(|line| line.epoch)
    }

    /// The name of the connection of that epoch, if it is the present one.
    #[must_use]
    pub fn conn_session_id(&self, epoch: u64) -> Option<Arc<str>> {
        let line = self.line.as_ref().filter(|line| line.epoch == epoch)?;
        Some(Arc::clone(&line.conn_session_id))
    }

    /// Whether calls are taken.
    #[must_use]
    pub fn takes_calls(&self) -> bool {
        self.line.as_ref().is_some_and(|line| !line.leaving)
    }

    /// What can be counted.
    #[must_use]
    pub fn counts(&self) -> Counts {
        Counts {
            bad_frames: self.bad_frames,
            dropped_bytes: self.dropped_bytes,
            in_flight: self.in_flight,
        }
    }

    /// When the agent was last heard, on the present connection.
    #[must_use]
    pub fn heard_at(&self) -> Option<Duration> {
        self.line.as_ref().map(|line| line.heard)
    }

    /// Takes a call and puts its INVOKE in line.
    ///
    /// # Errors
    /// [`NotTaken`]; nothing was sent, and the waiter is given back.
    pub fn invoke(&mut self, now: Now, ask: Ask, waiter: W) -> Result<(), (NotTaken, W)> {
        if !self.takes_calls() {
            return Err((NotTaken::Offline, waiter));
        }
        if let Err(refused) = self.has_room(now, &ask.req_id, IN_FLIGHT) {
            return Err((refused, waiter));
        }
        let req_id = ask.req_id.clone();
        let call = Call::asked(now, ask, waiter);
        self.calls.insert(req_id.clone(), call);
        self.in_flight += 1;
        if let Some(line) = &mut self.line {
            line.queue.push_back(Item::Invoke(req_id));
        }
        Ok(())
    }

    /// Waits for a call that an earlier process of the bridge invoked. Not bound by [`IN_FLIGHT`]: the agent has it
    /// already, and an earlier process may have had more under way than this one.
    ///
    /// # Errors
    /// [`NotTaken::Full`], [`NotTaken::Known`].
    pub fn attend(
        &mut self,
        now: Now,
        (req_id, timeout): (ReqId, Duration),
        waiter: W,
    ) -> Result<(), (NotTaken, W)> {
        if let Err(refused) = self.has_room(now, &req_id, CALLS) {
            return Err((refused, waiter));
        }
        let call = Call::attended(now, timeout, waiter);
        self.calls.insert(req_id.clone(), call);
        self.in_flight += 1;
        if self
            .line
            .as_ref()
            .is_some_and(|line| line.offered.lacks(&req_id))
        {
            self.lose(&req_id, "the agent does not know the call");
        }
        Ok(())
    }

    /// Whether one more may be in flight, of at most `in_flight`, and remembered.
    fn has_room(&mut self, now: Now, req_id: &ReqId, in_flight: usize) -> Result<(), NotTaken> {
        if self.calls.contains_key(req_id) || self.recent.contains(req_id) {
            return Err(NotTaken::Known);
        }
        if self.in_flight >= in_flight || self.calls.len() >= CALLS {
            self.prune(now);
        }
        let limit = if self.in_flight >= in_flight {
            in_flight
        } else if self.calls.len() >= CALLS {
            CALLS
        } else {
            return Ok(());
        };
        Err(NotTaken::Full { limit })
    }

    /// Asks the agent to stop a call. False when it is not in flight.
    pub fn cancel(&mut self, req_id: &str, reason: &str) -> bool {
        let Some(call) = self.calls.get_mut(req_id).filter(|call| call.is_open()) else {
            return false;
        };
        if call.phase == Phase::Waiting {
            self.end(req_id, Some(Ending::NotSent));
        } else if call.cancelled.is_none() {
            call.cancelled = Some(reason.into());
            let cancel = Cancel {
                reason: reason.to_owned(),
            };
            self.send(Some(req_id), &Payload::Cancel(cancel));
        }
        true
    }

    /// Nobody waits for this call any more: it is cancelled, or never sent. Whether it may have been sent.
    pub fn abandon(&mut self, req_id: &str, reason: &str) -> bool {
        let Some(call) = self.calls.get_mut(req_id).filter(|call| call.is_open()) else {
            return true;
        };
        call.waiter = None;
        if call.phase == Phase::Waiting {
            self.end(req_id, None);
            return false;
        }
        self.cancel(req_id, reason)
    }

    /// The ledger has committed this call's end: its RESULT is acknowledged, now or when it comes.
    pub fn settled(&mut self, req_id: &str) {
        let Some(call) = self.calls.get_mut(req_id) else {
            return;
        };
        if call.is_open() {
            call.acknowledge = true;
            return;
        }
        let told = call.has_result;
        self.forget(req_id);
        if told {
            self.send(Some(req_id), &Payload::ResultAck);
        }
    }

    /// What the ledger said to [`Output::AskFate`].
    pub fn fate(&mut self, epoch: u64, req_id: &ReqId, fate: Fate) {
        if self.epoch() != Some(epoch) {
            return;
        }
        match fate {
            Fate::Settled => {
                self.recent.insert(req_id.clone());
                self.send(Some(req_id), &Payload::ResultAck);
            }
            Fate::Awaited => {}
            Fate::Unknown => self.bad(),
        }
    }

    /// The servers a local agent is to run; sent now, and on each connection that says it is local.
    pub fn configure(&mut self, configure: Configure) {
        self.configure = Some(configure.clone());
        if self.line.as_ref().is_some_and(|line| line.local) {
            self.send(None, &Payload::Configure(configure));
        }
    }

    /// Ends the present connection once what waits is sent: GOODBYE, then the close.
    pub fn leave(&mut self, code: u16, reason: &str) {
        let goodbye = Payload::Goodbye(Goodbye {
            reason: reason.to_owned(),
        });
        self.send(None, &goodbye);
        if let Some(line) = &mut self.line {
            line.leaving = true;
            line.close_when_sent = Some((code, reason.into()));
        }
    }

    /// Why the connection of that epoch is to end, sent or not: a newer one stands, or one of the sides left.
    #[must_use]
    pub fn farewell(&self, epoch: u64) -> Option<(u16, Box<str>)> {
        match self.line.as_ref().filter(|line| line.epoch == epoch) {
            Some(line) => line.close_when_sent.clone(),
            None => Some((close::REPLACED, NEWER.into())),
        }
    }

    /// Puts a frame in line, if there is one.
    fn send(&mut self, req_id: Option<&str>, payload: &Payload) {
        // After the farewell nothing is said: what still holds is told to the next connection.
        let Some(line) = self
            .line
            .as_mut()
            .filter(|line| line.close_when_sent.is_none())
        else {
            return;
        };
        // An id that is here was checked when it came.
        let req_id = req_id.and_then(|id| ReqId::new(id).ok());
        Draft::write(&self.agent_id, req_id.as_ref(), payload, |draft| {
            line.queue.push_back(Item::Draft(draft));
        });
    }

    /// The next frame to be sent on the connection of that epoch, or why it is to be closed.
    pub fn next_frame(&mut self, now: Now, epoch: u64) -> Next {
        let Some(line) = self.line.as_mut().filter(|line| line.epoch == epoch) else {
            return Next::Close(close::REPLACED, NEWER.into());
        };
        while let Some(item) = line.queue.pop_front() {
            let draft = match item {
                Item::Draft(draft) => draft,
                Item::Invoke(req_id) => {
                    let Some(call) = self.calls.get_mut(&req_id) else {
                        continue;
                    };
                    let Some(payload) = call.written(now) else {
                        continue;
                    };
                    let at_front = &mut line.queue;
                    let mut index = 0;
                    Draft::write(&self.agent_id, Some(&req_id), &payload, |draft| {
                        at_front.insert(index, Item::Draft(draft));
                        index += 1;
                    });
                    call.take_back(payload);
                    continue;
                }
            };
            line.seq_out += 1;
            let conn = Some(&*line.conn_session_id);
            return Next::Frame(draft.seal(conn, line.seq_out, now.unix_s));
        }
        match line.close_when_sent.take() {
            Some((code, reason)) => Next::Close(code, reason),
            None => Next::Nothing,
        }
    }

    /// Whether so much waits to be sent that nothing more should be heard.
    #[must_use]
    pub fn is_congested(&self) -> bool {
        self.line
            .as_ref()
            .is_some_and(|line| line.queue.len() >= QUEUE)
    }

    /// When [`LinkMachine::tick`] has something to do on the present connection.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Duration> {
        let line = self.line.as_ref()?;
        Some(line.next_ping.min(line.silent_at()))
    }

    /// Time has passed: PING, and the end of a silent line.
    pub fn tick(&mut self, now: Now, epoch: u64) {
        let Some(line) = self.line.as_mut().filter(|line| line.epoch == epoch) else {
            return;
        };
        if now.at >= line.silent_at() {
            self.out.push(Output::Close {
                code: close::SILENT,
                reason: "nothing was heard for too long",
            });
            return;
        }
        if now.at >= line.next_ping {
            line.next_ping = now.at + PING_EVERY;
            self.send(None, &Payload::Ping);
            self.prune(now);
        }
    }

    /// Forgets calls that nobody waits for and nobody settled, long after their deadline. Should a RESULT
    /// still come, the ledger is asked.
    fn prune(&mut self, now: Now) {
        let calls = &mut self.calls;
        let in_flight = &mut self.in_flight;
        calls.retain(|_, call| {
            let keep =
                call.waiter.is_some() || now.at < call.deadline.saturating_add(FORGOTTEN_AFTER);
            if !keep && call.is_open() {
                *in_flight -= 1;
            }
            keep
        });
    }

    /// Ends a call. It stays known until its end is settled.
    fn end(&mut self, req_id: &str, ending: Option<Ending>) {
        let Some(call) = self.calls.get_mut(req_id).filter(|call| call.is_open()) else {
            return;
        };
        self.in_flight -= 1;
        call.phase = Phase::Over;
        call.invoke = None;
        call.has_result = matches!(ending, Some(Ending::Result(_)));
        let (forget, told) = (call.acknowledge || ending.is_none(), call.has_result);
        let waiter = call.waiter.take();
        if forget {
            self.forget(req_id);
            if told {
                self.send(Some(req_id), &Payload::ResultAck);
            }
        }
        if let (Some(waiter), Some(ending)) = (waiter, ending) {
            waiter.ended(ending);
        }
    }

    /// Ends a call that the agent lost.
    fn lose(&mut self, req_id: &str, detail: &'static str) {
        self.end(req_id, Some(Ending::Lost { detail }));
    }

    /// A settled call leaves the table, and is known for a while.
    fn forget(&mut self, req_id: &str) {
        if let Some((req_id, _)) = self.calls.remove_entry(req_id) {
            self.recent.insert(req_id);
        }
    }
}

/// What a connection is to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// Send this.
    Frame(String),
    /// Close, with this code and reason.
    Close(u16, Box<str>),
    /// Wait.
    Nothing,
}
