//! The agent's machine alone, step by step.

use std::sync::Arc;
use std::time::Duration;

use serde_json::value::RawValue;
use transports::tunnel::agent::machine::{
    AgentMachine, Input, Note, Output, Settings, SpoolState, Spooled,
};
use transports::tunnel::bridge::machine::Now;
use transports::tunnel::frame::{
    AgentMeta, Assembly, CallResult, Cancel, Channel, Configure, FailureCode, HelloAck, Invoke,
    InvokeMethod, ResumeAnswer, Stream,
};
use transports::tunnel::limits::{Limits, RESULT_BYTES};
use transports::tunnel::{AgentId, Frame, Kind, Payload, ReqId};

/// A day after the moment times are counted from.
const START: Duration = Duration::from_hours(48);

struct Played {
    machine: AgentMachine,
    at: Duration,
    seq: u64,
}

fn id(text: &str) -> ReqId {
    ReqId::new(text).unwrap()
}

fn raw(text: &str) -> Box<RawValue> {
    RawValue::from_string(text.to_owned()).unwrap()
}

fn settings() -> Settings {
    Settings::new(AgentId::new("laptop").unwrap(), AgentMeta::default())
}

impl Played {
    fn new(settings: Settings) -> Self {
        Self {
            machine: AgentMachine::new(settings),
            at: START,
            seq: 0,
        }
    }

    fn now(&self) -> Now {
        Now {
            at: self.at,
            unix_s: self.at.as_secs(),
        }
    }

    fn tell(&mut self, input: Input) -> Vec<Output> {
        let now = self.now();
        self.machine.handle(now, input)
    }

    /// Every frame there is to send.
    fn said(&mut self) -> Vec<Frame> {
        let now = self.now();
        let texts = std::iter::from_fn(|| self.machine.next_frame(now));
        texts.map(|text| Frame::decode(&text).unwrap()).collect()
    }

    fn kinds(&mut self) -> Vec<Kind> {
        let said = self.said();
        said.iter().map(|frame| frame.payload.kind()).collect()
    }

    fn hear(&mut self, req_id: Option<&str>, payload: Payload) -> Vec<Output> {
        self.seq += 1;
        let frame = Frame {
            agent_id: AgentId::new("laptop").unwrap(),
            req_id: req_id.map(id),
            conn_session_id: Some("ws_1".into()),
            seq: self.seq,
            ts: 1,
            payload,
        };
        self.tell(Input::Received(Some(Box::new(frame))))
    }

    fn connect(&mut self, local: bool, resume: ResumeAnswer) -> Vec<Output> {
        self.connect_with(local, (Limits::default(), resume))
    }

    fn connect_with(
        &mut self,
        local: bool,
        (limits, resume): (Limits, ResumeAnswer),
    ) -> Vec<Output> {
        self.seq = 0;
        let token = "t".to_owned().into();
        self.tell(Input::Connected { token, local });
        assert_eq!(self.kinds(), [Kind::Hello, Kind::Auth]);
        let ack = HelloAck {
            conn_session_id: "ws_1".into(),
            epoch: 1,
            limits,
            resume,
        };
        self.hear(None, Payload::HelloAck(Box::new(ack)))
    }

    fn online() -> Self {
        let mut agent = Self::new(settings());
        agent.tell(Input::Start(Vec::new()));
        agent.connect(false, ResumeAnswer::default());
        agent
    }

    fn invoke(&mut self, req_id: &str, timeout_ms: u64) -> Vec<Output> {
        let invoke = Invoke {
            server: "files".to_owned(),
            method: InvokeMethod::ToolsCall,
            params: raw("{}"),
            timeout_ms,
            deadline_ts: 0,
            stream: Stream { enabled: true },
            isolation_key: String::new(),
        };
        self.hear(Some(req_id), Payload::Invoke(Box::new(invoke)))
    }

    fn cut(&mut self, code: Option<u16>, draw: f64) -> Vec<Output> {
        self.tell(Input::Disconnected { code, draw })
    }

    fn end(&mut self, req_id: &str, result: CallResult) -> Vec<Output> {
        let req_id = id(req_id);
        self.tell(Input::Ended { req_id, result })
    }
}

fn done(bytes: usize) -> CallResult {
    CallResult::done(raw(&format!("\"{}\"", "x".repeat(bytes))))
}

fn waits(outputs: &[Output]) -> Option<Duration> {
    outputs.iter().find_map(|output| match output {
        Output::Dial { after } => Some(*after),
        _ => None,
    })
}

#[test]
fn it_dials_again_later_and_later_until_a_line_held() {
    let mut agent = Played::new(settings());
    assert_eq!(
        waits(&agent.tell(Input::Start(Vec::new()))),
        Some(Duration::ZERO)
    );
    for seconds in [1, 2, 4, 8, 16, 32, 60, 60] {
        let full = Duration::from_secs(seconds);
        assert_eq!(waits(&agent.cut(None, 1.0)), Some(full));
    }
    assert_eq!(waits(&agent.cut(None, 0.25)), Some(Duration::from_secs(15)));
    agent.connect(false, ResumeAnswer::default());
    agent.at += Duration::from_secs(30);
    assert_eq!(waits(&agent.cut(None, 1.0)), Some(Duration::from_mins(1)));
    agent.connect(false, ResumeAnswer::default());
    agent.at += Duration::from_mins(1);
    assert_eq!(waits(&agent.cut(None, 1.0)), Some(Duration::from_secs(1)));
    // Who took its place shall not be pushed out at once.
    assert_eq!(
        waits(&agent.cut(Some(4409), 1.0)),
        Some(Duration::from_mins(1))
    );
}

#[test]
fn a_call_stops_at_its_deadline_without_any_line() {
    let mut agent = Played::online();
    agent.invoke("call_1", 3_000);
    agent.cut(None, 1.0);
    agent.at += Duration::from_millis(2_999);
    assert!(agent.tell(Input::Tick).is_empty());
    agent.at += Duration::from_millis(1);
    assert_eq!(agent.machine.next_deadline(), Some(agent.at));
    let told = agent.tell(Input::Tick);
    assert!(matches!(&told[..], [Output::CancelCall { req_id, .. }] if *req_id == id("call_1")));
    // The tool does not stop: the call does.
    agent.at += Duration::from_secs(5);
    let told = agent.tell(Input::Tick);
    let [Output::SpoolPut { payload, .. }] = &told[..] else {
        panic!("{told:?}")
    };
    assert!(payload.contains("\"timeout\""), "{payload}");
    assert!(
        agent.end("call_1", done(1)).is_empty(),
        "the first end counts"
    );
}

#[test]
fn a_cancel_is_answered_for_what_it_meets() {
    let mut agent = Played::online();
    agent.invoke("call_1", 60_000);
    let cancel = || Payload::Cancel(Cancel::default());
    let told = agent.hear(Some("call_1"), cancel());
    assert!(matches!(&told[..], [Output::CancelCall { .. }]));
    agent.end("call_1", CallResult::failed(FailureCode::Canceled, ""));
    agent.hear(Some("call_1"), cancel());
    agent.hear(Some("call_2"), cancel());
    let reasons: Vec<_> = agent
        .said()
        .into_iter()
        .filter_map(|frame| match frame.payload {
            Payload::CancelAck(ack) => Some((ack.will_cancel, ack.reason.map(String::from))),
            _ => None,
        })
        .collect();
    let why = |reason: &str| Some(reason.to_owned());
    assert_eq!(
        reasons,
        [
            (true, None),
            (false, why("already_finished")),
            (false, why("unknown_req_id")),
        ]
    );
}

#[test]
fn a_full_spool_drops_the_oldest_and_says_so() {
    let mut agent = Played::new(Settings {
        spool_bytes: 25_000,
        ..settings()
    });
    agent.tell(Input::Start(Vec::new()));
    agent.connect(false, ResumeAnswer::default());
    for call in ["call_1", "call_2", "call_3"] {
        agent.invoke(call, 60_000);
    }
    agent.cut(None, 1.0);
    agent.end("call_1", done(10_000));
    agent.end("call_2", done(10_000));
    let told = agent.end("call_3", done(10_000));
    let dropped: Vec<_> = told
        .iter()
        .filter_map(|output| match output {
            Output::Note(Note::Dropped { req_id, bytes }) => Some((req_id.to_string(), *bytes)),
            _ => None,
        })
        .collect();
    assert_eq!(dropped.len(), 1);
    assert!(
        dropped[0].0 == "call_1" && dropped[0].1 > 10_000,
        "{dropped:?}"
    );
    agent.connect(false, ResumeAnswer::default());
    let results: Vec<_> = agent
        .said()
        .into_iter()
        .filter_map(|frame| match frame.payload {
            Payload::Result(result) => Some((frame.req_id, result)),
            _ => None,
        })
        .collect();
    let oks: Vec<_> = results.iter().map(|(_, result)| result.ok).collect();
    assert_eq!(oks, [false, true, true]);
    let error = results[0].1.error.as_ref().unwrap();
    assert_eq!(error.code, FailureCode::Disconnected);
    assert!(
        error
            .details
            .as_ref()
            .unwrap()
            .get()
            .contains("dropped_bytes")
    );
}

#[test]
fn what_an_earlier_process_left_is_told_and_ages() {
    let mut agent = Played::new(settings());
    let spooled = |req_id: &str, state| Spooled {
        req_id: id(req_id),
        state,
    };
    let finished = |hours| SpoolState::Finished {
        bytes: 2_000,
        age: Duration::from_hours(hours),
    };
    agent.tell(Input::Start(vec![
        spooled("old", finished(23)),
        spooled("started", SpoolState::Started),
        spooled("new", finished(1)),
    ]));
    agent.at += Duration::from_hours(2);
    let told = agent.tell(Input::Tick);
    assert!(
        matches!(&told[..], [Output::Note(Note::Dropped { req_id, .. }), Output::SpoolPut { .. }] if **req_id == *"old"),
        "{told:?}"
    );
    let forget = ResumeAnswer {
        forget: vec![id("new")],
        ..ResumeAnswer::default()
    };
    let told = agent.connect(false, forget);
    assert!(
        told.iter()
            .any(|output| matches!(output, Output::SpoolDelete(req_id) if **req_id == *"new"))
    );
    let said = agent.said();
    let lost: Vec<_> = said
        .iter()
        .filter(|frame| matches!(&frame.payload, Payload::Result(result) if !result.ok))
        .filter_map(|frame| frame.req_id.as_deref())
        .collect();
    assert_eq!(lost, ["started", "old"]);
    // And is not run again.
    let told = agent.invoke("started", 1_000);
    assert!(told.is_empty(), "{told:?}");
}

#[test]
fn long_output_is_cut_between_characters() {
    let mut agent = Played::new(Settings {
        chunk_frame_bytes: 10,
        ..settings()
    });
    agent.tell(Input::Start(Vec::new()));
    agent.connect(false, ResumeAnswer::default());
    agent.invoke("call_1", 60_000);
    let data = "ééééééé\n".to_owned();
    let (req_id, channel) = (id("call_1"), Channel::Stderr);
    agent.tell(Input::Chunk {
        req_id,
        channel,
        data,
    });
    // A piece of a JSON text would be none: told as lost.
    let data = "{\"progress\":1,\"message\":\"x\"}".to_owned();
    let (req_id, channel) = (id("call_1"), Channel::Progress);
    agent.tell(Input::Chunk {
        req_id,
        channel,
        data,
    });
    agent.end("call_1", done(1));
    let chunks: Vec<_> = agent
        .said()
        .into_iter()
        .filter_map(|frame| match frame.payload {
            Payload::Chunk(chunk) => Some((chunk.data, chunk.dropped_bytes)),
            Payload::Result(_) => Some(("RESULT".to_owned(), 0)),
            _ => None,
        })
        .collect();
    let chunks: Vec<_> = chunks
        .iter()
        .map(|(data, lost)| (data.as_str(), *lost))
        .collect();
    assert_eq!(chunks, [("ééééé", 0), ("éé\n", 0), ("", 28), ("RESULT", 0)]);
}

#[test]
fn a_result_over_the_bound_is_told_to_be() {
    let mut agent = Played::online();
    agent.invoke("call_1", 60_000);
    agent.invoke("call_2", 60_000);
    agent.end("call_1", done(RESULT_BYTES));
    agent.end("call_2", done(RESULT_BYTES - 100));
    let mut assembly = Assembly::default();
    let mut ends = Vec::new();
    for frame in agent.said() {
        let req_id = frame.req_id.clone();
        match frame.payload {
            Payload::Result(result) => ends.push((req_id, result.ok)),
            Payload::Part(kind, part) => {
                if let Some(Payload::Result(result)) =
                    assembly.take(req_id.as_ref(), kind, &part).unwrap()
                {
                    ends.push((req_id, result.ok));
                }
            }
            _ => {}
        }
    }
    assert_eq!(
        ends,
        [(Some(id("call_1")), false), (Some(id("call_2")), true)]
    );
}

#[test]
fn definitions_are_taken_from_this_machine_only() {
    let configure = || {
        Payload::Configure(Configure {
            generation: 1,
            servers: raw("[]"),
        })
    };
    let mut agent = Played::online();
    let told = agent.hear(None, configure());
    assert!(matches!(&told[..], [Output::Note(Note::BadFrame)]));
    agent.cut(None, 1.0);
    agent.connect(true, ResumeAnswer::default());
    let told = agent.hear(None, configure());
    assert!(matches!(&told[..], [Output::Configure(_)]));
}

#[test]
fn a_stopped_agent_finishes_and_takes_nothing_new() {
    let mut agent = Played::online();
    agent.invoke("call_1", 60_000);
    agent.tell(Input::Stop);
    let told = agent.invoke("call_2", 60_000);
    assert!(
        !told
            .iter()
            .any(|output| matches!(output, Output::StartCall { .. })),
        "{told:?}"
    );
    let kinds = agent.kinds();
    assert!(kinds.contains(&Kind::Goodbye), "{kinds:?}");
    let told = agent.end("call_1", done(1));
    assert!(
        told.iter()
            .any(|output| matches!(output, Output::SpoolPut { .. })),
        "{told:?}"
    );
    assert_eq!(agent.kinds(), [Kind::Result]);
    let told = agent.machine.take_outputs();
    assert!(matches!(&told[..], [Output::Done]), "{told:?}");
    assert_eq!(waits(&agent.cut(None, 1.0)), None);
}

#[test]
fn a_silent_or_mute_bridge_is_left() {
    let mut agent = Played::online();
    agent.kinds();
    agent.at += Duration::from_secs(20);
    agent.tell(Input::Tick);
    assert_eq!(agent.kinds(), [Kind::Ping]);
    agent.at += Duration::from_secs(40);
    let told = agent.tell(Input::Tick);
    assert!(
        matches!(&told[..], [Output::Close { code: 4408, .. }]),
        "{told:?}"
    );
    agent.cut(None, 1.0);
    let token = "t".to_owned().into();
    agent.tell(Input::Connected {
        token,
        local: false,
    });
    agent.at += Duration::from_secs(10);
    let told = agent.tell(Input::Tick);
    assert!(
        matches!(&told[..], [Output::Close { code: 1008, .. }]),
        "{told:?}"
    );
}

fn puts(outputs: Vec<Output>) -> Vec<(ReqId, Arc<str>)> {
    let put = |output| match output {
        Output::SpoolPut { req_id, payload } => Some((req_id, payload)),
        _ => None,
    };
    outputs.into_iter().filter_map(put).collect()
}

fn drops(outputs: &[Output]) -> usize {
    let dropped = |output: &&Output| matches!(output, Output::Note(Note::Dropped { .. }));
    outputs.iter().filter(dropped).count()
}

impl Played {
    /// The disk says no to each of these, and to what is put in answer.
    fn refuse(&mut self, outputs: Vec<Output>) -> Vec<Output> {
        let mut others = Vec::new();
        for (req_id, payload) in puts(outputs) {
            others.extend(self.tell(Input::SpoolRefused { req_id, payload }));
        }
        others
    }

    /// The ends of calls that are said, in this order, each acknowledged.
    fn results(&mut self) -> Vec<(String, bool)> {
        let mut assembly = Assembly::default();
        let mut ends = Vec::new();
        for frame in self.said() {
            let req_id = frame.req_id.clone();
            let whole = match frame.payload {
                Payload::Part(kind, part) => assembly.take(req_id.as_ref(), kind, &part).unwrap(),
                payload => Some(payload),
            };
            if let (Some(Payload::Result(result)), Some(req_id)) = (whole, req_id) {
                ends.push((req_id.to_string(), result.ok));
            }
        }
        ends
    }
}

#[test]
fn a_disk_that_takes_nothing_costs_no_result_and_no_turn() {
    let mut agent = Played::online();
    for call in ["call_1", "call_2", "call_3"] {
        agent.invoke(call, 60_000);
    }
    agent.cut(None, 1.0);
    let told = agent.end("call_1", done(20_000));
    assert!(agent.refuse(told).is_empty(), "a refusal asks for nothing");
    assert!(
        agent.end("call_2", done(20_000)).is_empty(),
        "it waits for the disk"
    );
    for _ in 0..10 {
        let at = agent.machine.next_deadline().unwrap();
        assert!(at > agent.at, "time passes before it is asked again");
        agent.at = at;
        let told = agent.tell(Input::Tick);
        assert!(told.len() <= 1, "one try for all: {told:?}");
        assert!(agent.refuse(told).is_empty());
    }
    let told = agent.end("call_3", done(20_000));
    assert!(agent.refuse(told).is_empty());
    agent.connect(false, ResumeAnswer::default());
    let said: Vec<_> = agent.results();
    let all = ["call_1", "call_2", "call_3"].map(|call| (call.to_owned(), true));
    assert_eq!(said, all);
    // Once it takes them, they all go there.
    let told = agent.tell(Input::SpoolWorks);
    assert_eq!(puts(told).len(), 3);
}

#[test]
fn what_no_disk_takes_is_bounded_and_the_oldest_is_given_up_with_a_word() {
    const BYTES: usize = 15 * 1024 * 1024;
    let mut agent = Played::online();
    let calls: Vec<_> = (1..=6).map(|number| format!("call_{number}")).collect();
    for call in &calls {
        agent.invoke(call, 60_000);
    }
    agent.cut(None, 1.0);
    let mut dropped = 0;
    for call in &calls {
        let told = agent.end(call, done(BYTES));
        dropped += drops(&told);
        dropped += drops(&agent.refuse(told));
    }
    assert_eq!(dropped, 2, "64 MiB are kept");
    agent.connect(false, ResumeAnswer::default());
    let oks: Vec<_> = agent.results().into_iter().map(|(_, ok)| ok).collect();
    assert_eq!(oks, [false, false, true, true, true, true]);
}

#[test]
fn a_small_result_is_on_disk_before_it_is_sent() {
    let mut agent = Played::online();
    agent.invoke("call_1", 60_000);
    agent.invoke("call_2", 60_000);
    assert_eq!(puts(agent.end("call_1", done(1_000))).len(), 1);
    assert!(agent.end("call_2", done(100_000)).is_empty(), "in a second");
    assert_eq!(agent.results().len(), 2);
    agent.at += Duration::from_secs(1);
    assert_eq!(puts(agent.tell(Input::Tick)).len(), 1);
}

#[test]
fn large_results_are_read_one_at_a_time_and_said_in_order() {
    let mut agent = Played::online();
    let calls = ["call_1", "call_2", "call_3"];
    for call in calls {
        agent.invoke(call, 60_000);
    }
    agent.cut(None, 1.0);
    let mut disk = Vec::new();
    for call in calls {
        disk.extend(puts(agent.end(call, done(100_000))));
    }
    agent.connect(false, ResumeAnswer::default());
    let mut said = Vec::new();
    for call in calls {
        said.extend(agent.results());
        let told = agent.machine.take_outputs();
        assert!(
            matches!(&told[..], [Output::SpoolRead(req_id)] if **req_id == *call),
            "{told:?}"
        );
        let kept = disk.iter().find(|(req_id, _)| **req_id == *call);
        let payload = kept.map(|(_, payload)| payload.to_string());
        let req_id = id(call);
        agent.tell(Input::SpoolRead { req_id, payload });
    }
    said.extend(agent.results());
    assert_eq!(said, calls.map(|call| (call.to_owned(), true)));
}

#[test]
fn a_line_is_closed_once_however_much_is_wrong_with_it() {
    let mut agent = Played::online();
    let mut closes = 0;
    for _ in 0..9 {
        let told = agent.tell(Input::Received(None));
        let close = |output: &&Output| matches!(output, Output::Close { .. });
        closes += told.iter().filter(close).count();
    }
    assert_eq!(closes, 1);
    agent.at += Duration::from_mins(2);
    assert!(agent.tell(Input::Tick).is_empty());
    assert_eq!(waits(&agent.cut(None, 1.0)), Some(Duration::from_secs(1)));
}

#[test]
fn the_smaller_bound_of_a_bridge_is_kept() {
    let mut agent = Played::new(settings());
    agent.tell(Input::Start(Vec::new()));
    let limits = Limits {
        in_flight: 1,
        chunk_frame_bytes: 10,
        result_bytes: 10_000,
        ping_every_ms: 5_000,
        ..Limits::default()
    };
    agent.connect_with(false, (limits, ResumeAnswer::default()));
    agent.invoke("call_1", 60_000);
    assert!(
        agent
            .invoke("call_2", 60_000)
            .iter()
            .all(|output| !matches!(output, Output::StartCall { .. }))
    );
    let (req_id, channel) = (id("call_1"), Channel::Stderr);
    let data = "0123456789ab".to_owned();
    agent.tell(Input::Chunk {
        req_id,
        channel,
        data,
    });
    agent.end("call_1", done(20_000));
    let said = agent.said();
    let chunk = |frame: &Frame| match &frame.payload {
        Payload::Chunk(chunk) => Some(chunk.data.len()),
        _ => None,
    };
    let chunks: Vec<_> = said.iter().filter_map(chunk).collect();
    assert_eq!(chunks, [10, 2]);
    let whole = |frame: &Frame| matches!(&frame.payload, Payload::Result(result) if result.ok);
    assert!(!said.iter().any(whole), "it is over the bridge's bound");
    agent.at += Duration::from_secs(5);
    agent.tell(Input::Tick);
    assert_eq!(agent.kinds(), [Kind::Ping]);
}
