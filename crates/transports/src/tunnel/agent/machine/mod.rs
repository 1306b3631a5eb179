//! The agent's half of the protocol, over all its connections. Pure: it is told the time and what happened,
//! and gives back what is to be done. Frames are taken with [`AgentMachine::next_frame`] whenever the line
//! can take one, so that what waits is counted here.

mod calls;
mod line;
mod outbox;
mod receive;
mod results;

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use secrecy::SecretString;

use super::super::bridge::machine::Now;
use super::super::frame::{
    AgentMeta, Auth, CallResult, Channel, Configure, Frame, Goodbye, Hello, Invoke, Payload,
    ProtocolRange, ResumeOffer, Tools,
};
use super::super::id::{AgentId, ReqId};
use super::super::limits::{
    CHUNK_BUFFER_BYTES, CHUNK_FRAME_BYTES, HEALTHY, HELLO_DEADLINE, Limits, RECONNECT_INITIAL,
    RECONNECT_MAX, SPOOL_AGE, SPOOL_BYTES, close,
};
use calls::{Acknowledged, Call};
use line::Line;
use outbox::Outbox;
use results::Results;

/// What an agent is and may use.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Its id.
    pub agent_id: AgentId,
    /// What it says of itself. `spool_id` must name the spool.
    pub meta: AgentMeta,
    /// CHUNK bytes that may wait.
    pub chunk_buffer_bytes: usize,
    /// Longest `data` of a CHUNK.
    pub chunk_frame_bytes: usize,
    /// The first wait before it dials again.
    pub reconnect_initial: Duration,
    /// The longest.
    pub reconnect_max: Duration,
    /// Results kept on disk, in bytes.
    pub spool_bytes: u64,
    /// How long they are kept.
    pub spool_age: Duration,
}

impl Settings {
    /// The protocol's own bounds.
    #[must_use]
    pub fn new(agent_id: AgentId, meta: AgentMeta) -> Self {
        Self {
            agent_id,
            meta,
            chunk_buffer_bytes: CHUNK_BUFFER_BYTES,
            chunk_frame_bytes: CHUNK_FRAME_BYTES,
            reconnect_initial: RECONNECT_INITIAL,
            reconnect_max: RECONNECT_MAX,
            spool_bytes: SPOOL_BYTES,
            spool_age: SPOOL_AGE,
        }
    }
}

/// What the spool of an earlier process held of one call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spooled {
    /// The call.
    pub req_id: ReqId,
    /// How far it came.
    pub state: SpoolState,
}

/// How far a call came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SpoolState {
    /// It was started; whether it ended is not known.
    Started,
    /// Its RESULT is on disk.
    Finished {
        /// The payload's length.
        bytes: usize,
        /// How long it is there.
        age: Duration,
    },
}

/// What happened.
#[derive(Debug)]
pub enum Input {
    /// The agent begins. What its spool held, oldest first.
    Start(Vec<Spooled>),
    /// A line is open; nothing was said yet.
    Connected {
        /// The token to show.
        token: SecretString,
        /// It is a Unix socket.
        local: bool,
    },
    /// A frame came, or something that is none.
    Received(Option<Box<Frame>>),
    /// The line is gone, or could not be had.
    Disconnected {
        /// The code the bridge closed it with.
        code: Option<u16>,
        /// A random number of 0 to 1, for the wait before the next try.
        draw: f64,
    },
    /// Time has passed; see [`AgentMachine::next_deadline`].
    Tick,
    /// A running call says something.
    Chunk {
        /// Which.
        req_id: ReqId,
        /// Where it comes from.
        channel: Channel,
        /// The text, of any length.
        data: String,
    },
    /// A running call's server said more than could be taken in.
    Lost {
        /// Which.
        req_id: ReqId,
        /// Notifications that are gone.
        lines: u64,
    },
    /// A call is over.
    Ended {
        /// Which.
        req_id: ReqId,
        /// How.
        result: CallResult,
    },
    /// What the agent offers.
    Tools(Tools),
    /// The RESULT asked for by [`Output::SpoolRead`]; `None` when it is not there.
    SpoolRead {
        /// Which call's.
        req_id: ReqId,
        /// The payload's text.
        payload: Option<String>,
    },
    /// The disk did not take the RESULT of an [`Output::SpoolPut`]. Said in answer to it, before anything else.
    SpoolRefused {
        /// Which call's.
        req_id: ReqId,
        /// The payload's text, given back.
        payload: Arc<str>,
    },
    /// After [`Input::SpoolRefused`]: the disk took a RESULT again.
    SpoolWorks,
    /// Finish what runs, and take nothing new.
    Stop,
}

/// What is to be done.
#[derive(Debug)]
pub enum Output {
    /// Open a line after this wait; then [`Input::Connected`] or [`Input::Disconnected`].
    Dial {
        /// The wait.
        after: Duration,
    },
    /// Close the line; then [`Input::Disconnected`].
    Close {
        /// The close code.
        code: u16,
        /// Why, in words.
        reason: &'static str,
    },
    /// Note on disk that the call is started. Comes before [`Output::StartCall`], and must be done before.
    SpoolStarted(ReqId),
    /// Run the call; then [`Input::Ended`], exactly once.
    StartCall {
        /// Which.
        req_id: ReqId,
        /// What.
        invoke: Box<Invoke>,
    },
    /// Stop a running call; [`Input::Ended`] is awaited for a short while yet.
    CancelCall {
        /// Which.
        req_id: ReqId,
        /// Why, in words.
        reason: String,
    },
    /// Put a RESULT on disk, in place of what is there of the call.
    SpoolPut {
        /// Which call's.
        req_id: ReqId,
        /// The payload's text.
        payload: Arc<str>,
    },
    /// Read a RESULT; then [`Input::SpoolRead`].
    SpoolRead(ReqId),
    /// Forget the call, on disk too.
    SpoolDelete(ReqId),
    /// Run these servers. From a Unix socket only.
    Configure(Configure),
    /// Something a log or a status may tell.
    Note(Note),
    /// After [`Input::Stop`]: nothing runs and nothing waits to be sent.
    Done,
}

/// What a log or a status may tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Note {
    /// The bridge took the agent.
    Online {
        /// The connection's.
        epoch: u64,
    },
    /// The line is gone.
    Offline,
    /// The bridge goes, and says why.
    Goodbye(String),
    /// A frame of the bridge was refused.
    BadFrame,
    /// A RESULT is no longer kept: there was no room for it, or it was there too long.
    Dropped {
        /// Which call's.
        req_id: ReqId,
        /// Its length.
        bytes: usize,
    },
}

/// What can be counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Calls that run.
    pub running: usize,
    /// RESULTs not acknowledged.
    pub results: usize,
    /// CHUNK bytes that wait.
    pub chunk_bytes: usize,
}

/// An agent.
#[derive(Debug)]
pub struct AgentMachine {
    settings: Settings,
    line: Option<Line>,
    /// Every call that is known and not acknowledged.
    calls: HashMap<ReqId, Call>,
    running: usize,
    /// When running calls are to be stopped, or given up on.
    deadlines: BTreeSet<(Duration, ReqId)>,
    acknowledged: Acknowledged,
    results: Results,
    outbox: Outbox,
    tools: Option<Arc<Tools>>,
    /// The smaller of what the protocol and the bridge say.
    limits: Limits,
    backoff: Duration,
    stopping: bool,
    done: bool,
    out: Vec<Output>,
}

impl AgentMachine {
    /// An agent that has not begun.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        Self {
            backoff: settings.reconnect_initial,
            outbox: Outbox::new(settings.agent_id.clone()),
            settings,
            line: None,
            calls: HashMap::new(),
            running: 0,
            deadlines: BTreeSet::new(),
            acknowledged: Acknowledged::default(),
            results: Results::default(),
            tools: None,
            limits: Limits::default(),
            stopping: false,
            done: false,
            out: Vec::new(),
        }
    }

    /// Its id.
    #[must_use]
    pub fn agent_id(&self) -> &AgentId {
        &self.settings.agent_id
    }

    /// The connection's name, when it stands; for reading frames.
    #[must_use]
    pub fn conn_session_id(&self) -> Option<&Arc<str>> {
        self.line.as_ref()?.conn_session_id.as_ref()
    }

    /// What can be counted.
    #[must_use]
    pub fn counts(&self) -> Counts {
        Counts {
            running: self.running,
            results: self.calls.len() - self.running,
            chunk_bytes: self.outbox.chunk_bytes(),
        }
    }

    /// Whether the bridge has taken the agent on the present line.
    #[must_use]
    pub fn is_online(&self) -> bool {
        self.conn_session_id().is_some()
    }

    /// Takes in what happened, and says what is to be done, in this order.
    pub fn handle(&mut self, now: Now, input: Input) -> Vec<Output> {
        match input {
            Input::Start(spooled) => {
                self.load(now, spooled);
                self.out.push(Output::Dial {
                    after: Duration::ZERO,
                });
            }
            Input::Connected { token, local } => self.greet(now, token, local),
            Input::Received(frame) => self.received(now, frame.map(|frame| *frame)),
            Input::Disconnected { code, draw } => self.disconnected(now, (code, draw)),
            Input::Tick => self.tick(now),
            Input::Chunk {
                req_id,
                channel,
                data,
            } => self.chunk(&req_id, channel, &data),
            Input::Lost { req_id, lines } => self.lost(&req_id, lines),
            Input::Ended { req_id, result } => self.ended(now, &req_id, result),
            Input::Tools(tools) => {
                self.tools = Some(Arc::new(tools));
                if self.is_online() {
                    self.outbox.tell_tools();
                }
            }
            Input::SpoolRead { req_id, payload } => self.read_back(&req_id, payload),
            Input::SpoolRefused { req_id, payload } => self.spool_refused(now, &req_id, payload),
            Input::SpoolWorks => self.spool_works(),
            Input::Stop => self.stop(),
        }
        self.see_if_done();
        self.take_outputs()
    }

    /// What [`AgentMachine::next_frame`] found to be done.
    pub fn take_outputs(&mut self) -> Vec<Output> {
        std::mem::take(&mut self.out)
    }

    /// The next frame to be sent, if there is one. It may find that a RESULT must be
    /// read from disk first: see [`AgentMachine::take_outputs`].
    pub fn next_frame(&mut self, now: Now) -> Option<String> {
        let draft = self.next_draft(now)?;
        let line = self.line.as_mut()?;
        line.seq_out += 1;
        let text = draft.seal(line.conn_session_id.as_deref(), line.seq_out, now.unix_s);
        self.see_if_done();
        Some(text)
    }

    /// Whether so much waits to be sent that nothing more should be heard.
    #[must_use]
    pub fn is_congested(&self) -> bool {
        self.outbox.is_congested()
    }

    /// When [`Input::Tick`] has something to do.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Duration> {
        let line = self.line.as_ref().filter(|line| !line.closing);
        let line = line.map(Line::next_deadline);
        let call = self.deadlines.first().map(|(at, _)| *at);
        let results = self.results.next_deadline(self.settings.spool_age);
        [line, call, results].into_iter().flatten().min()
    }

    /// Says HELLO and AUTH; nothing else until they are answered.
    fn greet(&mut self, now: Now, token: SecretString, local: bool) {
        self.line = Some(Line::new(now.at, local));
        let (results, more) = self.results.oldest();
        let running = self.calls.iter().filter(|(_, call)| call.is_running());
        let hello = Hello {
            agent_meta: self.settings.meta.clone(),
            resume: ResumeOffer {
                running: running.map(|(req_id, _)| req_id.clone()).collect(),
                results,
                more,
            },
            protocol: ProtocolRange::default(),
        };
        let auth = Auth {
            token,
            device_fingerprint: None,
        };
        self.outbox.begin();
        self.outbox.say(None, &Payload::Hello(Box::new(hello)));
        self.outbox.say(None, &Payload::Auth(auth));
    }

    /// The line is gone: nothing is cancelled, and what is not on disk yet goes there.
    fn disconnected(&mut self, now: Now, (code, draw): (Option<u16>, f64)) {
        let line = self.line.take();
        self.outbox.begin();
        self.spool_all();
        let stood = line.as_ref().and_then(|line| line.stands_since);
        if stood.is_some() {
            self.out.push(Output::Note(Note::Offline));
        }
        if stood.is_some_and(|since| now.at.saturating_sub(since) >= HEALTHY) {
            self.backoff = self.settings.reconnect_initial;
        }
        // Another agent of this name took the place; it shall not be pushed out again at once.
        if code == Some(close::REPLACED) {
            self.backoff = self.settings.reconnect_max;
        }
        let after = self.backoff.mul_f64(draw.clamp(0.0, 1.0));
        self.backoff = (self.backoff * 2).min(self.settings.reconnect_max);
        if !self.stopping || self.running > 0 {
            self.out.push(Output::Dial { after });
        }
    }

    fn tick(&mut self, now: Now) {
        if let Some(line) = &mut self.line {
            if line.closing {
                // Its end is said in a moment.
            } else if line.stands_since.is_none() && now.at >= line.opened + HELLO_DEADLINE {
                self.close(close::POLICY, "HELLO was not answered in time");
            } else if now.at >= line.silent_at() {
                self.close(close::SILENT, "nothing was heard for too long");
            } else if line.ping_is_due(now.at) {
                self.outbox.say(None, &Payload::Ping);
                self.repeat_unheard(now);
            }
        }
        self.stop_overdue(now);
        self.spool_overdue(now);
        self.drop_old(now);
    }

    /// Wants the line closed, once.
    fn close(&mut self, code: u16, reason: &'static str) {
        if let Some(line) = &mut self.line
            && !std::mem::replace(&mut line.closing, true)
        {
            self.out.push(Output::Close { code, reason });
        }
    }

    fn stop(&mut self) {
        if std::mem::replace(&mut self.stopping, true) {
            return;
        }
        self.spool_all();
        if self.is_online() {
            let goodbye = Goodbye {
                reason: "the agent stops".to_owned(),
            };
            self.outbox.say(None, &Payload::Goodbye(goodbye));
        }
    }

    fn see_if_done(&mut self) {
        let quiet = self.running == 0 && (self.line.is_none() || self.outbox.is_empty());
        if self.stopping && quiet && !std::mem::replace(&mut self.done, true) {
            self.out.push(Output::Done);
        }
    }
}
