//! Both machines, a line between them, a ledger, a spool and the tools; all played in one thread.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use serde_json::value::RawValue;
use transports::tunnel::agent::machine::{
    AgentMachine, Input, Output as Asks, Settings, SpoolState, Spooled,
};
use transports::tunnel::bridge::machine::{
    Ask, Ending, Fate, Heard, LinkMachine, Next, Now, Opening, Output, Told, Waiter,
};
use transports::tunnel::frame::{
    AgentMeta, CallResult, Channel, FailureCode, Invoke, InvokeMethod, ResumeAnswer, Stream,
};
use transports::tunnel::{AgentId, Frame, Payload, ReqId};

use crate::Op;

/// Frames on their way in one direction; what waits for them is the sender's.
const ON_THE_WAY: usize = 6;
/// Little, so that it fills.
const CHUNK_BUFFER_BYTES: usize = 1_500;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    ToBridge,
    ToAgent,
}

type Check = Result<(), String>;
type Kept = (Arc<str>, Duration);

macro_rules! must {
    ($holds:expr, $($words:tt)*) => {
        if !$holds {
            return Err(format!($($words)*));
        }
    };
}

/// What a caller saw of one call.
#[derive(Debug, Default)]
struct Seen {
    last_line: Option<usize>,
    bytes: u64,
    dropped: u64,
    disorder: bool,
}

/// Waits for a call in one process of the bridge.
#[derive(Debug)]
struct Mouth {
    req_id: ReqId,
    seen: Rc<RefCell<Seen>>,
    ends: Rc<RefCell<VecDeque<(ReqId, Ending)>>>,
}

impl Waiter for Mouth {
    fn told(&self, told: Told) {
        let Told::Chunk(chunk) = told else { return };
        let mut seen = self.seen.borrow_mut();
        seen.dropped += chunk.dropped_bytes;
        seen.bytes += chunk.data.len() as u64;
        for line in chunk.data.lines() {
            let number = line.parse().ok();
            seen.disorder |= number.is_none() || number <= seen.last_line;
            seen.last_line = number;
        }
    }

    fn ended(self, ending: Ending) {
        self.ends.borrow_mut().push_back((self.req_id, ending));
    }
}

/// A call as the ledger has it.
#[derive(Debug)]
struct Row {
    deadline: Duration,
    ended: Option<&'static str>,
    seen: Rc<RefCell<Seen>>,
    /// Ends told by the present process of the bridge.
    ends_told: usize,
    /// No line broke, and nothing else interfered, since it was made.
    undisturbed: bool,
    /// Its caller is gone.
    given_up: bool,
}

/// A call as the tools see it.
#[expect(
    clippy::struct_excessive_bools,
    reason = "independent facts, each read by one check"
)]
#[derive(Debug, Default)]
struct Run {
    starts: usize,
    /// In the present process of the agent.
    live: bool,
    /// The agent was killed before its end was on disk.
    lost: bool,
    /// It was acknowledged to an earlier process of the agent.
    forgotten: bool,
    cancelled: bool,
    lines: usize,
    bytes: u64,
    result: Option<String>,
}

#[derive(Debug, Default)]
struct Wire {
    epoch: Option<u64>,
    to_bridge: VecDeque<String>,
    to_agent: VecDeque<String>,
    greeting: Vec<Frame>,
    /// The last `seq` the agent heard.
    heard: u64,
}

#[derive(Debug)]
pub(crate) struct World {
    now: Duration,
    bridge: LinkMachine<Mouth>,
    agent: AgentMachine,
    ledger: BTreeMap<ReqId, Row>,
    ends: Rc<RefCell<VecDeque<(ReqId, Ending)>>>,
    /// What is on disk: a mark of a start, or a RESULT and since when.
    spool: Vec<(ReqId, Option<Kept>)>,
    runs: HashMap<ReqId, Run>,
    wire: Option<Wire>,
    dial_at: Option<Duration>,
    epochs: u64,
    /// What older connections said and was not heard.
    late: Vec<(u64, String)>,
    cuts: usize,
    results: usize,
    violation: Check,
}

fn agent_id() -> AgentId {
    AgentId::new("laptop").unwrap()
}

fn raw(text: &str) -> Box<RawValue> {
    RawValue::from_string(text.to_owned()).unwrap()
}

fn new_agent() -> AgentMachine {
    let meta = AgentMeta {
        spool_id: Some("spool".to_owned()),
        ..AgentMeta::default()
    };
    AgentMachine::new(Settings {
        chunk_buffer_bytes: CHUNK_BUFFER_BYTES,
        ..Settings::new(agent_id(), meta)
    })
}

impl World {
    pub(crate) fn new() -> Self {
        let mut world = Self {
            now: Duration::from_secs(1),
            bridge: LinkMachine::new(agent_id()),
            agent: new_agent(),
            ledger: BTreeMap::new(),
            ends: Rc::default(),
            spool: Vec::new(),
            runs: HashMap::new(),
            wire: None,
            dial_at: None,
            epochs: 0,
            late: Vec::new(),
            cuts: 0,
            results: 0,
            violation: Ok(()),
        };
        world.tell_agent(Input::Start(Vec::new()));
        world.flow();
        world
    }

    fn now(&self) -> Now {
        Now {
            at: self.now,
            unix_s: self.now.as_secs(),
        }
    }

    pub(crate) fn apply(&mut self, op: &Op) -> Check {
        match *op {
            Op::Invoke { timeout_ms } => self.invoke(Duration::from_millis(timeout_ms)),
            Op::Move { way, frames } => (0..frames).for_each(|_| self.carry(way)),
            Op::Flow => self.flow(),
            Op::Lose(way) => {
                self.disturb();
                self.lane(way).map(VecDeque::pop_front);
            }
            Op::Repeat(way) => {
                self.disturb();
                if let Some(lane) = self.lane(way)
                    && let Some(front) = lane.front().cloned()
                {
                    lane.push_front(front);
                }
            }
            Op::Swap(way) => {
                self.disturb();
                if let Some(lane) = self.lane(way).filter(|lane| lane.len() > 1) {
                    lane.swap(0, 1);
                }
            }
            Op::Garble(way) => {
                self.disturb();
                if let Some(front) = self.lane(way).and_then(VecDeque::front_mut) {
                    front.truncate(front.len() / 2);
                }
            }
            Op::Cut => self.cut(None),
            Op::LateFrame(pick) => self.late_frame(pick),
            Op::Replay(pick) => self.replay(pick),
            Op::InvokeAgain(pick) => self.invoke_again(pick),
            Op::RestartAgent => self.restart_agent(),
            Op::RestartBridge => self.restart_bridge(),
            Op::Say { pick, lines } => self.say(pick, lines),
            Op::Finish { pick, bytes } => self.finish(pick, bytes),
            Op::Commit(pick) => self.commit(pick),
            Op::GiveUp(pick) => self.give_up(pick),
            Op::Cancel(pick) => {
                if let Some(req_id) = self.pick_open(pick) {
                    self.bridge.cancel(&req_id, "asked");
                }
            }
            Op::Wait { ms } => self.wait(Duration::from_millis(ms)),
        }
        self.pull();
        self.check()
    }

    fn check(&mut self) -> Check {
        std::mem::replace(&mut self.violation, Ok(()))?;
        for (req_id, run) in &self.runs {
            must!(run.starts <= 1, "{req_id} ran {} times", run.starts);
        }
        for (req_id, row) in &self.ledger {
            must!(row.ends_told <= 1, "{req_id} ended {} times", row.ends_told);
            must!(!row.seen.borrow().disorder, "{req_id}: chunks out of order");
        }
        if self.wire.is_none() {
            for (req_id, _) in self.spool.iter().filter(|(_, kept)| kept.is_none()) {
                let safe = self
                    .runs
                    .get(req_id)
                    .is_some_and(|run| run.live || run.lost);
                must!(
                    safe,
                    "{req_id} finished and is not on disk while the line is away"
                );
            }
        }
        let counts = self.agent.counts();
        let words = 300 * (counts.results + counts.running);
        must!(
            counts.chunk_bytes <= CHUNK_BUFFER_BYTES + words,
            "{} chunk bytes wait",
            counts.chunk_bytes
        );
        Ok(())
    }

    fn lane(&mut self, way: Way) -> Option<&mut VecDeque<String>> {
        let wire = self.wire.as_mut()?;
        Some(match way {
            Way::ToBridge => &mut wire.to_bridge,
            Way::ToAgent => &mut wire.to_agent,
        })
    }

    fn disturb(&mut self) {
        for row in self.ledger.values_mut() {
            row.undisturbed = false;
        }
    }

    fn mouth(&self, req_id: &ReqId) -> Mouth {
        Mouth {
            req_id: req_id.clone(),
            seen: Rc::clone(&self.ledger[req_id].seen),
            ends: Rc::clone(&self.ends),
        }
    }

    fn invoke(&mut self, timeout: Duration) {
        if !self.bridge.takes_calls() {
            return;
        }
        let req_id = ReqId::new(format!("call_{:04}", self.ledger.len())).unwrap();
        let row = Row {
            deadline: self.now + timeout,
            ended: None,
            seen: Rc::default(),
            ends_told: 0,
            undisturbed: true,
            given_up: false,
        };
        self.ledger.insert(req_id.clone(), row);
        let ask = Ask {
            req_id: req_id.clone(),
            server: "files".to_owned(),
            method: InvokeMethod::ToolsCall,
            params: raw("{}"),
            timeout,
            isolation_key: String::new(),
            stream: true,
            acknowledge: false,
        };
        let mouth = self.mouth(&req_id);
        if self.bridge.invoke(self.now(), ask, mouth).is_err() {
            self.ledger.remove(&req_id);
        }
    }

    /// Fills the line with what both sides have to say.
    fn pull(&mut self) {
        let now = self.now();
        let Some(wire) = &mut self.wire else { return };
        while wire.to_bridge.len() < ON_THE_WAY
            && let Some(text) = self.agent.next_frame(now)
        {
            wire.to_bridge.push_back(text);
        }
        let mut close = false;
        while let Some(epoch) = wire.epoch
            && wire.to_agent.len() < ON_THE_WAY
            && !close
        {
            match self.bridge.next_frame(now, epoch) {
                Next::Frame(text) => wire.to_agent.push_back(text),
                Next::Close(..) => close = true,
                Next::Nothing => break,
            }
        }
        let asks = self.agent.take_outputs();
        self.act(asks);
        if close {
            self.cut(None);
        }
    }

    /// Everything there is to say is said and heard.
    fn flow(&mut self) {
        for _ in 0..10_000 {
            if self.wire.is_none() && self.dial_at.is_some_and(|at| at <= self.now) {
                self.connect();
            }
            self.pull();
            let Some(wire) = &self.wire else { return };
            if wire.to_bridge.is_empty() && wire.to_agent.is_empty() {
                return;
            }
            self.carry(Way::ToBridge);
            self.carry(Way::ToAgent);
        }
        self.violation = Err("the two sides never fall silent".to_owned());
    }

    /// One frame arrives.
    fn carry(&mut self, way: Way) {
        self.pull();
        let Some(text) = self.lane(way).and_then(VecDeque::pop_front) else {
            return;
        };
        match way {
            Way::ToAgent => {
                let frame = Frame::decode(&text).ok().map(Box::new);
                if let (Some(wire), Some(frame)) = (&mut self.wire, &frame) {
                    wire.heard = wire.heard.max(frame.seq);
                }
                self.tell_agent(Input::Received(frame));
            }
            Way::ToBridge => match self.wire.as_ref().and_then(|wire| wire.epoch) {
                Some(epoch) => self.bridge_hears(epoch, &text),
                None => self.greet(&text),
            },
        }
    }

    fn bridge_hears(&mut self, epoch: u64, text: &str) {
        let heard = Frame::decode(text).map_or(Heard::Bad, Heard::Frame);
        self.bridge.received(self.now(), epoch, heard);
        self.bridge_acts(epoch);
    }

    fn bridge_acts(&mut self, epoch: u64) {
        for output in self.bridge.take_outputs() {
            match output {
                Output::Tools(_) => {}
                Output::AskFate(req_id) => {
                    let fate = match self.ledger.get(&req_id) {
                        None => Fate::Unknown,
                        Some(row) if row.ended.is_some() => Fate::Settled,
                        Some(_) => Fate::Awaited,
                    };
                    self.bridge.fate(epoch, &req_id, fate);
                    self.bridge_acts(epoch);
                }
                Output::Close { .. } => {
                    let present = self.wire.as_ref().and_then(|wire| wire.epoch);
                    if present == Some(epoch) {
                        self.cut(Some(4400));
                    }
                }
            }
        }
        self.note_ends();
    }

    /// The door: HELLO and AUTH, in this order, or the line is closed.
    fn greet(&mut self, text: &str) {
        let Some(wire) = &mut self.wire else { return };
        let turn = wire.greeting.len() as u64 + 1;
        match Frame::decode(text) {
            Ok(frame) if frame.seq == turn => wire.greeting.push(frame),
            _ => return self.cut(Some(1008)),
        }
        let [hello, auth] = &wire.greeting[..] else {
            return;
        };
        let (Payload::Hello(hello), Payload::Auth(_)) = (&hello.payload, &auth.payload) else {
            return self.cut(Some(1008));
        };
        let hello = hello.clone();
        self.epochs += 1;
        wire.epoch = Some(self.epochs);
        let mut resume = ResumeAnswer::default();
        for req_id in hello.resume.running.iter().chain(&hello.resume.results) {
            match self.ledger.get(req_id) {
                Some(row) if row.ended.is_none() => resume.deliver.push(req_id.clone()),
                _ => resume.forget.push(req_id.clone()),
            }
        }
        let opening = Opening {
            epoch: self.epochs,
            conn_session_id: format!("ws_{}", self.epochs).into(),
            hello: &hello,
            resume,
            local: false,
            seq_in: 2,
        };
        self.bridge.connected(self.now(), &opening);
        self.note_ends();
    }

    fn connect(&mut self) {
        self.dial_at = None;
        self.wire = Some(Wire::default());
        self.tell_agent(Input::Connected {
            token: "t".to_owned().into(),
            local: false,
        });
    }

    /// The line breaks; what was on its way to the bridge may be heard late, on a connection that is gone.
    fn cut(&mut self, code: Option<u16>) {
        let Some(wire) = self.wire.take() else { return };
        self.cuts += 1;
        self.disturb();
        if let Some(epoch) = wire.epoch {
            let lost = wire.to_bridge.into_iter().map(|text| (epoch, text));
            self.late.extend(lost);
            self.bridge.disconnected(epoch);
        }
        self.tell_agent(Input::Disconnected { code, draw: 0.5 });
    }

    fn late_frame(&mut self, pick: usize) {
        if self.late.is_empty() {
            return;
        }
        let (epoch, text) = self.late.swap_remove(pick % self.late.len());
        let before = (self.bridge.counts(), self.ends.borrow().len());
        self.bridge_hears(epoch, &text);
        let after = (self.bridge.counts(), self.ends.borrow().len());
        if before != after {
            self.violation = Err(format!(
                "a frame of an older connection did something: {text}"
            ));
        }
    }

    /// An old frame on the present connection, as the agent never would.
    fn replay(&mut self, pick: usize) {
        if self.late.is_empty() {
            return;
        }
        self.disturb();
        let text = self.late[pick % self.late.len()].1.clone();
        if let Some(lane) = self.lane(Way::ToBridge) {
            lane.push_front(text);
        }
    }

    /// A bridge gone mad asks for a call again that was made before, whatever became of it.
    fn invoke_again(&mut self, pick: usize) {
        let known = self.runs.iter().filter(|(_, run)| !run.forgotten);
        let mut known: Vec<_> = known.map(|(req_id, _)| req_id).collect();
        known.sort_by_key(|req_id| req_id.as_str());
        let Some(req_id) = known.get(pick % known.len().max(1)) else {
            return;
        };
        let conn = self.agent.conn_session_id().cloned();
        let frame = Frame {
            agent_id: agent_id(),
            req_id: Some((*req_id).clone()),
            seq: self.wire.as_ref().map_or(0, |wire| wire.heard) + 1,
            ts: 1,
            payload: Payload::Invoke(Box::new(Invoke {
                server: "files".to_owned(),
                method: InvokeMethod::ToolsCall,
                params: raw("{}"),
                timeout_ms: 1_000,
                deadline_ts: 0,
                stream: Stream::default(),
                isolation_key: String::new(),
            })),
            conn_session_id: conn,
        };
        self.tell_agent(Input::Received(Some(Box::new(frame))));
        // Its own next frame would be out of turn.
        self.cut(None);
    }

    fn restart_agent(&mut self) {
        self.disturb();
        for (req_id, run) in &mut self.runs {
            run.live = false;
            // Acknowledged, so not even a mark of it is left.
            run.forgotten |= self.spool.iter().all(|(kept, _)| kept != req_id);
        }
        for (req_id, _) in self.spool.iter().filter(|(_, kept)| kept.is_none()) {
            self.runs.entry(req_id.clone()).or_default().lost = true;
        }
        if let Some(wire) = self.wire.take()
            && let Some(epoch) = wire.epoch
        {
            self.cuts += 1;
            self.bridge.disconnected(epoch);
        }
        self.dial_at = None;
        self.agent = new_agent();
        let spooled = self.spool.iter().map(|(req_id, kept)| Spooled {
            req_id: req_id.clone(),
            state: match kept {
                None => SpoolState::Started,
                Some((payload, since)) => SpoolState::Finished {
                    bytes: payload.len(),
                    age: self.now.saturating_sub(*since),
                },
            },
        });
        self.tell_agent(Input::Start(spooled.collect()));
    }

    /// The bridge is killed: what was not committed is gone, what is open is attended again.
    fn restart_bridge(&mut self) {
        self.cut(None);
        self.ends.borrow_mut().clear();
        self.bridge = LinkMachine::new(agent_id());
        let open: Vec<_> = self
            .ledger
            .iter_mut()
            .filter(|(_, row)| row.ended.is_none())
            .map(|(req_id, row)| {
                row.ends_told = 0;
                *row.seen.borrow_mut() = Seen::default();
                row.seen = Rc::default();
                (req_id.clone(), row.deadline.saturating_sub(self.now))
            })
            .collect();
        for (req_id, left) in open {
            let mouth = self.mouth(&req_id);
            let taken = self.bridge.attend(self.now(), (req_id, left), mouth);
            if taken.is_err() {
                self.violation = Err("an open call could not be attended".to_owned());
            }
        }
    }

    fn tell_agent(&mut self, input: Input) {
        let asks = self.agent.handle(self.now(), input);
        self.act(asks);
    }

    /// The agent's runtime.
    fn act(&mut self, asks: Vec<Asks>) {
        for ask in asks {
            match ask {
                Asks::Dial { after } => self.dial_at = Some(self.now + after),
                Asks::Close { code, .. } => self.cut(Some(code)),
                Asks::SpoolStarted(req_id) => self.spool.push((req_id, None)),
                Asks::StartCall { req_id, .. } => {
                    let marked = self.spool.iter().any(|(marked, _)| *marked == req_id);
                    if !marked {
                        self.violation = Err(format!("{req_id} started without a mark"));
                    }
                    let run = self.runs.entry(req_id).or_default();
                    run.starts += 1;
                    run.live = true;
                }
                Asks::CancelCall { req_id, .. } => {
                    self.runs.entry(req_id).or_default().cancelled = true;
                }
                Asks::SpoolPut { req_id, payload } => {
                    self.spool.retain(|(kept, _)| *kept != req_id);
                    self.spool.push((req_id, Some((payload, self.now))));
                }
                Asks::SpoolRead(req_id) => {
                    let kept = self.spool.iter().find(|(kept, _)| *kept == req_id);
                    let payload = kept.and_then(|(_, kept)| kept.as_ref());
                    let payload = payload.map(|(payload, _)| payload.to_string());
                    if payload.is_none() {
                        self.violation = Err(format!("{req_id} is not in the spool"));
                    }
                    self.tell_agent(Input::SpoolRead { req_id, payload });
                }
                Asks::SpoolDelete(req_id) => {
                    self.spool.retain(|(kept, _)| *kept != req_id);
                    let settled = self
                        .ledger
                        .get(&req_id)
                        .is_none_or(|row| row.ended.is_some());
                    if !settled {
                        self.violation = Err(format!("{req_id} was acknowledged and is not kept"));
                    }
                }
                Asks::Configure(_) | Asks::Note(_) | Asks::Done => {}
            }
        }
    }

    fn pick_run(&self, pick: usize) -> Option<ReqId> {
        let mut live: Vec<_> = self.runs.iter().filter(|(_, run)| run.live).collect();
        live.sort_by_key(|(req_id, _)| req_id.as_str());
        let (req_id, _) = live.get(pick % live.len().max(1))?;
        Some((*req_id).clone())
    }

    fn pick_open(&self, pick: usize) -> Option<ReqId> {
        let open = self.ledger.iter().filter(|(_, row)| row.ended.is_none());
        let open: Vec<_> = open.map(|(req_id, _)| req_id).collect();
        open.get(pick % open.len().max(1))
            .map(|req_id| (*req_id).clone())
    }

    fn say(&mut self, pick: usize, lines: usize) {
        let Some(req_id) = self.pick_run(pick) else {
            return;
        };
        let run = self.runs.entry(req_id.clone()).or_default();
        for _ in 0..lines {
            run.lines += 1;
            let data = format!("{:05}\n", run.lines);
            run.bytes += data.len() as u64;
            let channel = Channel::Stdout;
            let req_id = req_id.clone();
            let asks = self.agent.handle(
                Now {
                    at: self.now,
                    unix_s: 0,
                },
                Input::Chunk {
                    req_id,
                    channel,
                    data,
                },
            );
            assert!(asks.is_empty());
        }
    }

    fn finish(&mut self, pick: usize, bytes: usize) {
        let Some(req_id) = self.pick_run(pick) else {
            return;
        };
        let run = self.runs.entry(req_id.clone()).or_default();
        run.live = false;
        let result = if run.cancelled {
            CallResult::failed(FailureCode::Canceled, "stopped")
        } else {
            // Now and then one that goes in parts.
            let bytes = if bytes > 2_990 { 1_200_000 } else { bytes };
            let text = format!("{{\"{req_id}\":\"{}\"}}", "x".repeat(bytes));
            run.result = Some(text.clone());
            CallResult::done(raw(&text))
        };
        self.tell_agent(Input::Ended { req_id, result });
    }

    /// Looks at what ended, before the ledger does.
    fn note_ends(&mut self) {
        let ends = Rc::clone(&self.ends);
        for (req_id, ending) in ends.borrow().iter() {
            if let Err(violation) = self.ended_well(req_id, ending) {
                self.violation = Err(violation);
            }
        }
    }

    fn ended_well(&self, req_id: &ReqId, ending: &Ending) -> Check {
        let run = self.runs.get(req_id);
        let starts = run.map_or(0, |run| run.starts);
        let row = &self.ledger[req_id];
        match ending {
            Ending::Result(CallResult {
                result_json: Some(json),
                ..
            }) => {
                let truth = run.and_then(|run| run.result.as_deref());
                must!(truth == Some(json.get()), "{req_id}: another result");
            }
            Ending::NotSent => must!(starts == 0, "{req_id} was sent after all"),
            Ending::Result(_) | Ending::Lost { .. } => {}
        }
        if row.undisturbed && matches!(ending, Ending::Result(_)) {
            let (seen, said) = (row.seen.borrow(), run.map_or(0, |run| run.bytes));
            // Until it was over or given up on, all that was said came or was told to be lost.
            let told = seen.bytes + seen.dropped;
            let whole = told == said || run.is_some_and(|run| run.cancelled || run.live);
            must!(whole, "{req_id}: {told} of {said} bytes were told");
        }
        Ok(())
    }

    /// The ledger commits one end.
    fn commit(&mut self, pick: usize) {
        let count = self.ends.borrow().len();
        let Some((req_id, ending)) = self.ends.borrow_mut().remove(pick % count.max(1)) else {
            return;
        };
        let Some(row) = self.ledger.get_mut(&req_id) else {
            self.violation = Err(format!("{req_id} ended and never was"));
            return;
        };
        row.ends_told += 1;
        if row.ended.is_none() {
            row.ended = Some(match ending {
                Ending::Result(CallResult { ok: true, .. }) => "result",
                Ending::Result(_) => "failed",
                Ending::Lost { .. } => "lost",
                Ending::NotSent => "not sent",
            });
            if row.ended == Some("result") {
                self.results += 1;
            }
        }
        self.bridge.settled(&req_id);
    }

    /// A caller lets go: the ledger says so, and the call is settled.
    fn give_up(&mut self, pick: usize) {
        if let Some(req_id) = self.pick_open(pick) {
            self.let_go(&req_id);
        }
    }

    fn let_go(&mut self, req_id: &ReqId) {
        if self.ends.borrow().iter().any(|(ended, _)| ended == req_id) {
            return;
        }
        let may_have_run = self.bridge.abandon(req_id, "the caller gave up");
        let starts = self.runs.get(req_id).map_or(0, |run| run.starts);
        if !may_have_run && starts > 0 {
            self.violation = Err(format!("{req_id} ran and was said not to"));
        }
        if let Some(row) = self.ledger.get_mut(req_id) {
            row.ended = Some("given up");
            row.given_up = true;
        }
        self.bridge.settled(req_id);
    }

    /// Time passes, in steps at which somebody has something to do.
    fn wait(&mut self, time: Duration) {
        let until = self.now + time;
        for _ in 0..10_000 {
            let epoch = self.wire.as_ref().and_then(|wire| wire.epoch);
            let bridge = epoch.and_then(|_| self.bridge.next_deadline());
            let open = self.ledger.values().filter(|row| row.ended.is_none());
            let rows = open.map(|row| row.deadline).min();
            let next = [self.agent.next_deadline(), bridge, rows, self.dial_at];
            let next = next.into_iter().flatten().min().unwrap_or(until);
            self.now = self.now.max(next.min(until));
            let now = self.now();
            if self.agent.next_deadline().is_some_and(|at| at <= self.now) {
                self.tell_agent(Input::Tick);
            }
            if let Some(epoch) = epoch {
                self.bridge.tick(now, epoch);
                self.bridge_acts(epoch);
            }
            let overdue = self
                .ledger
                .iter()
                .filter(|(_, row)| row.ended.is_none() && row.deadline <= now.at);
            let overdue: Vec<_> = overdue.map(|(req_id, _)| req_id.clone()).collect();
            for req_id in overdue {
                let place = self.ends.borrow().iter().position(|(id, _)| *id == req_id);
                match place {
                    Some(place) => self.commit(place),
                    None => self.let_go(&req_id),
                }
            }
            if self.wire.is_none() && self.dial_at.is_some_and(|at| at <= self.now) {
                self.connect();
            }
            self.flow();
            if self.now >= until {
                return;
            }
        }
        self.violation = Err("time does not pass".to_owned());
    }

    /// The storm is over: lines hold, tools finish, the ledger commits. Whatever was, all ends.
    pub(crate) fn settle(mut self, gentle: bool) -> Result<[usize; 3], String> {
        for _ in 0..200 {
            self.wait(Duration::from_secs(61));
            while self.pick_run(0).is_some() {
                self.finish(0, 10);
            }
            self.flow();
            while !self.ends.borrow().is_empty() {
                self.commit(0);
            }
            self.flow();
            self.check()?;
            let counts = self.agent.counts();
            let open = self.ledger.values().any(|row| row.ended.is_none());
            if !open && counts.running + counts.results == 0 && self.bridge.counts().in_flight == 0
            {
                break;
            }
        }
        let counts = self.agent.counts();
        must!(
            counts.running + counts.results == 0,
            "the agent still has {counts:?}"
        );
        must!(
            self.bridge.counts().in_flight == 0,
            "calls in flight for ever"
        );
        must!(
            self.spool.is_empty(),
            "the spool still has {:?}",
            self.spool
        );
        for (req_id, row) in &self.ledger {
            must!(row.ended.is_some(), "{req_id} never ended");
            let whole = !gentle || row.ended == Some("result");
            must!(whole, "{req_id} ended as {:?}", row.ended);
        }
        Ok([self.ledger.len(), self.results, self.cuts])
    }
}
