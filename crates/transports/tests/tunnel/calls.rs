//! Calls through an agent: their results, their ends, and who acknowledges what.

use std::time::Duration;

use serde_json::json;
use serde_json::value::RawValue;
use tokio::sync::mpsc;
use transports::RequestError;
use transports::error::Executed;
use transports::tunnel::bridge::{ACKED, Attendance, DROPPED, Fate};
use transports::tunnel::frame::{CallResult, Channel, Chunk, Failure, FailureCode, Hello};
use transports::tunnel::limits::IN_FLIGHT;
use transports::tunnel::{Kind, Payload};

use crate::played::{Bridge, id, invocation, raw};

fn chunk(channel: Channel, data: &str, dropped_bytes: u64) -> Payload {
    Payload::Chunk(Chunk {
        channel,
        data: data.to_owned(),
        dropped_bytes,
        dropped_lines: dropped_bytes / 10,
    })
}

#[tokio::test(start_paused = true)]
async fn a_call_crosses_and_is_acknowledged_only_when_it_is_settled() {
    let bridge = Bridge::new();
    let mut line = bridge.connect().await;
    let params = r#"{ "name":"echo", "arguments":{"n":1.50} }"#;
    let mut call = invocation("call_1");
    call.params = RawValue::from_string(params.to_owned()).unwrap();
    let call = bridge.calls(call);
    let frame = line.takes("call_1").await;
    let Payload::Invoke(invoke) = frame.payload else {
        unreachable!()
    };
    assert_eq!(
        (invoke.server.as_str(), invoke.timeout_ms),
        ("files", 10_000)
    );
    assert_eq!(invoke.params.get(), params);
    let result = json!({"content": [], "isError": true});
    line.result("call_1", &result).await;
    assert_eq!(call.await.unwrap().unwrap(), result.to_string());
    line.hears_nothing().await;
    bridge.agent.settled("call_1");
    line.hears(Kind::ResultAck).await;
    // It came twice: acknowledged, and nobody is asked.
    line.result("call_1", &json!({"other": 1})).await;
    line.hears(Kind::ResultAck).await;
    assert_eq!(bridge.owner.told(), ["online 1"]);
    assert_eq!(bridge.agent.facts().in_flight, 0);
}

#[tokio::test(start_paused = true)]
async fn who_keeps_nothing_lets_the_carrier_acknowledge() {
    let bridge = Bridge::new();
    let mut line = bridge.connect().await;
    let mut call = invocation("call_1");
    call.acknowledge = true;
    let call = bridge.calls(call);
    line.takes("call_1").await;
    line.result("call_1", &json!({})).await;
    line.hears(Kind::ResultAck).await;
    assert!(call.await.unwrap().is_ok());
}

#[tokio::test(start_paused = true)]
async fn progress_comes_in_order_before_the_result_with_what_was_lost() {
    let bridge = Bridge::new();
    let mut line = bridge.connect().await;
    let (progress, mut told) = mpsc::channel(16);
    let mut call = invocation("call_1");
    call.progress = Some(progress);
    let call = bridge.calls(call);
    line.takes("call_1").await;
    for said in [
        chunk(Channel::Progress, r#"{"progressToken":1,"progress":2}"#, 0),
        chunk(Channel::Stdout, "half done", 40),
        chunk(Channel::Stderr, r#"{"level":"error","data":"x"}"#, 0),
        chunk(Channel::Stderr, "plain", 0),
        chunk(Channel::Stdout, "", 10),
    ] {
        line.say(Some("call_1"), said).await;
    }
    line.result("call_1", &json!({})).await;
    call.await.unwrap().unwrap();
    let mut heard = Vec::new();
    while let Ok(note) = told.try_recv() {
        let params = note.params.map(|params| params.get().to_owned());
        heard.push((note.method, params.unwrap_or_default()));
    }
    let heard: Vec<_> = heard
        .iter()
        .map(|(m, p)| (m.as_str(), p.as_str()))
        .collect();
    assert_eq!(
        heard,
        [
            (ACKED, ""),
            (
                "notifications/progress",
                r#"{"progressToken":1,"progress":2}"#
            ),
            (DROPPED, r#"{"bytes":40,"channel":"stdout","lines":4}"#),
            (
                "notifications/progress",
                r#"{"message":"half done","progress":0}"#
            ),
            ("notifications/message", r#"{"level":"error","data":"x"}"#),
            (
                "notifications/message",
                r#"{"data":"plain","level":"info"}"#
            ),
            (DROPPED, r#"{"bytes":10,"channel":"stdout","lines":1}"#),
        ]
    );
    assert_eq!(bridge.agent.facts().dropped_bytes, 50);
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_is_away_is_said_to_be_at_once() {
    let bridge = Bridge::new();
    let offline = bridge.agent.invoke(invocation("call_1")).await;
    assert!(matches!(offline, Err(RequestError::AgentOffline { agent }) if agent == "laptop"));
    let line = bridge.connect().await;
    line.cut().await;
    let offline = bridge.agent.invoke(invocation("call_1")).await.unwrap_err();
    assert_eq!(offline.executed(), Executed::No);
    assert!(!bridge.agent.facts().online);
}

#[tokio::test(start_paused = true)]
async fn a_lost_line_ends_no_call() {
    let bridge = Bridge::new();
    let mut line = bridge.connect().await;
    let call = bridge.calls(invocation("call_1"));
    line.takes("call_1").await;
    line.cut().await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let mut hello = Hello::default();
    hello.resume.results.push(id("call_1"));
    let mut line = bridge.connect_as(hello).await;
    line.result("call_1", &json!({"late": 1})).await;
    assert_eq!(call.await.unwrap().unwrap(), r#"{"late":1}"#);
    bridge.agent.settled("call_1");
    line.hears(Kind::ResultAck).await;
}

#[tokio::test(start_paused = true)]
async fn a_call_that_never_arrived_is_sent_again_to_the_same_spool_only() {
    for (spool, again) in [("one", true), ("two", false)] {
        let bridge = Bridge::new();
        let hello = |spool: &str| {
            let mut hello = Hello::default();
            hello.agent_meta.spool_id = Some(spool.to_owned());
            hello
        };
        let mut line = bridge.connect_as(hello("one")).await;
        let call = bridge.calls(invocation("call_1"));
        line.hears(Kind::Invoke).await;
        line.cut().await;
        let mut line = bridge.connect_as(hello(spool)).await;
        if again {
            line.takes("call_1").await;
            line.result("call_1", &json!({})).await;
            call.await.unwrap().unwrap();
        } else {
            let lost = call.await.unwrap().unwrap_err();
            assert!(
                matches!(lost, RequestError::Disconnected { .. }),
                "{lost:?}"
            );
            assert_eq!(lost.executed(), Executed::Unknown);
            line.hears_nothing().await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_the_agent_had_and_has_no_more_is_lost_and_never_sent_again() {
    let bridge = Bridge::new();
    let mut line = bridge.connect().await;
    let call = bridge.calls(invocation("call_1"));
    line.takes("call_1").await;
    line.cut().await;
    let mut line = bridge.connect().await;
    let lost = call.await.unwrap().unwrap_err();
    assert!(
        matches!(lost, RequestError::Disconnected { .. }),
        "{lost:?}"
    );
    line.hears_nothing().await;
}

#[tokio::test(start_paused = true)]
async fn giving_up_cancels_and_the_late_result_is_acknowledged_once_settled() {
    let bridge = Bridge::new();
    let mut line = bridge.connect().await;
    let call = bridge.calls(invocation("call_1"));
    line.takes("call_1").await;
    call.abort();
    let cancel = line.hears(Kind::Cancel).await;
    assert!(
        matches!(cancel.payload, Payload::Cancel(cancel) if cancel.reason == "the caller gave up")
    );
    bridge.agent.settled("call_1");
    line.hears_nothing().await;
    let canceled = CallResult::failed(FailureCode::Canceled, "stopped");
    line.say(Some("call_1"), Payload::Result(canceled)).await;
    line.hears(Kind::ResultAck).await;
    assert_eq!(bridge.agent.facts().in_flight, 0);
}

#[tokio::test(start_paused = true)]
async fn the_deadline_is_the_callers_and_is_told() {
    let bridge = Bridge::new();
    let mut line = bridge.connect().await;
    let call = bridge.calls(invocation("call_1"));
    line.takes("call_1").await;
    let late = call.await.unwrap();
    assert!(matches!(late, Err(RequestError::Timeout { after }) if after.as_secs() == 10));
    let cancel = line.hears(Kind::Cancel).await;
    assert!(
        matches!(cancel.payload, Payload::Cancel(cancel) if cancel.reason == "the deadline passed")
    );
}

#[tokio::test(start_paused = true)]
async fn a_call_of_an_earlier_process_is_attended() {
    let bridge = Bridge::new();
    let attendance = |req_id: &str| Attendance {
        req_id: id(req_id),
        timeout: Duration::from_mins(1),
        progress: None,
    };
    let known = bridge.agent.attending(attendance("call_1")).unwrap();
    let unknown = bridge.agent.attending(attendance("call_2")).unwrap();
    let mut hello = Hello::default();
    hello.resume.running.push(id("call_1"));
    let mut line = bridge.connect_as(hello).await;
    let lost = unknown.await.unwrap_err();
    assert!(
        matches!(lost, RequestError::Disconnected { .. }),
        "{lost:?}"
    );
    line.hears_nothing().await;
    line.result("call_1", &json!({"still": "here"})).await;
    assert_eq!(known.await.unwrap().get(), r#"{"still":"here"}"#);
    bridge.agent.settled("call_1");
    line.hears(Kind::ResultAck).await;
    // Too late: the agent has said what it has.
    let late = bridge.agent.attend(attendance("call_3")).await;
    assert!(matches!(late, Err(RequestError::Disconnected { .. })));
}

#[tokio::test(start_paused = true)]
async fn a_result_nobody_waits_for_is_the_ledgers_to_judge() {
    let bridge = Bridge::new();
    let fates = [("old", Fate::Settled), ("mine", Fate::Awaited)];
    let fates = fates.map(|(id, fate)| (id.to_owned(), fate));
    bridge.owner.fates.lock().unwrap().extend(fates);
    let mut line = bridge.connect().await;
    line.result("old", &json!({})).await;
    line.hears(Kind::ResultAck).await;
    line.result("mine", &json!({})).await;
    line.hears_nothing().await;
    assert_eq!(bridge.agent.facts().bad_frames, 0);
    for _ in 0..3 {
        line.result("whose", &json!({})).await;
    }
    assert_eq!(
        line.end().await,
        (Some(4400), "too many bad frames".to_owned())
    );
}

#[tokio::test(start_paused = true)]
async fn every_failure_of_an_agent_has_its_own_meaning() {
    let bridge = Bridge::new();
    let mut line = bridge.connect().await;
    let mut ends = Vec::new();
    let codes = [
        FailureCode::Canceled,
        FailureCode::Timeout,
        FailureCode::Disconnected,
        FailureCode::UpstreamExited,
        FailureCode::ProtocolError,
        FailureCode::ToolNotFound,
        FailureCode::Rejected,
    ];
    for (number, code) in codes.into_iter().enumerate() {
        let name = format!("call_{number}");
        let call = bridge.calls(invocation(&name));
        line.takes(&name).await;
        let failed = Payload::Result(CallResult::failed(code, "in words"));
        line.say(Some(&name), failed).await;
        ends.push(call.await.unwrap().unwrap_err());
    }
    let shown: Vec<_> = ends
        .iter()
        .map(|error| (error.to_string(), error.executed()))
        .collect();
    let unknown = |text: &str| (text.to_owned(), Executed::Unknown);
    assert_eq!(
        shown,
        [
            unknown("in words"),
            unknown("no answer within 10s"),
            unknown("in words"),
            unknown("in words"),
            unknown("in words"),
            ("in words".to_owned(), Executed::No),
            ("in words".to_owned(), Executed::No),
        ]
    );
    assert!(matches!(ends[0], RequestError::Canceled { .. }), "{ends:?}");
    assert!(
        matches!(ends[5], RequestError::NoSuchTool { .. }),
        "{ends:?}"
    );
    let call = bridge.calls(invocation("rpc"));
    line.takes("rpc").await;
    let failed = CallResult {
        error: Some(Failure {
            code: FailureCode::ProtocolError,
            message: "in words".into(),
            details: Some(raw(
                &json!({"rpc": {"code": -5, "message": "no", "data": [1]}}),
            )),
        }),
        ..CallResult::failed(FailureCode::ProtocolError, "")
    };
    line.say(Some("rpc"), Payload::Result(failed)).await;
    let error = call.await.unwrap().unwrap_err();
    assert!(
        matches!(&error, RequestError::Rpc { code: -5, data: Some(data), .. } if data.get() == "[1]"),
        "{error:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn one_agent_runs_so_many_calls_and_no_more() {
    let bridge = Bridge::new();
    let mut line = bridge.connect().await;
    let calls: Vec<_> = (0..IN_FLIGHT)
        .map(|n| bridge.calls(invocation(&format!("call_{n}"))))
        .collect();
    for _ in 0..IN_FLIGHT {
        line.hears(Kind::Invoke).await;
    }
    let over = bridge.agent.invoke(invocation("over")).await;
    assert!(matches!(
        over,
        Err(RequestError::Overloaded { limit: IN_FLIGHT })
    ));
    line.result("call_7", &json!({})).await;
    for (n, call) in calls.into_iter().enumerate() {
        if n == 7 {
            call.await.unwrap().unwrap();
        }
    }
    assert_eq!(bridge.agent.facts().in_flight, IN_FLIGHT - 1);
    let twice = bridge.agent.invoke(invocation("call_8")).await;
    assert!(matches!(twice, Err(RequestError::Protocol { .. })));
}

#[tokio::test(start_paused = true)]
async fn large_calls_and_results_cross_in_parts() {
    let bridge = Bridge::new();
    let mut line = bridge.connect().await;
    let text = "x\"".repeat(1024 * 1024);
    let mut call = invocation("call_1");
    call.params = raw(&json!({ "name": text }));
    let call = bridge.calls(call);
    let mut assembly = transports::tunnel::frame::Assembly::default();
    let invoke = loop {
        let frame = line.hears(Kind::Invoke).await;
        let Payload::Part(kind, part) = frame.payload else {
            panic!("whole")
        };
        if let Some(whole) = assembly.take(frame.req_id.as_ref(), kind, &part).unwrap() {
            break whole;
        }
    };
    assert!(matches!(invoke, Payload::Invoke(invoke) if invoke.params.get().len() > text.len()));
    let result = json!({ "text": text });
    let payload = Payload::Result(CallResult::done(raw(&result)));
    let mut texts = Vec::new();
    transports::tunnel::frame::Draft::write(
        &crate::played::agent_id(),
        Some(&id("call_1")),
        &payload,
        |draft| texts.push(draft),
    );
    assert!(texts.len() > 2);
    for draft in texts {
        line.seq += 1;
        let text = draft.seal(line.conn.as_deref(), line.seq, 1);
        transports::tunnel::FrameSocket::send(line.socket(), text)
            .await
            .unwrap();
    }
    assert!(call.await.unwrap().unwrap() == serde_json::to_string(&result).unwrap());
}

#[tokio::test(start_paused = true)]
async fn a_ledger_that_settles_late_keeps_no_call_from_being_sent() {
    let bridge = Bridge::new();
    let mut line = bridge.connect().await;
    // Each has its answer before the next, and none of the ends is written down yet.
    for number in 0..8 * IN_FLIGHT {
        let req_id = format!("call_{number}");
        let call = bridge.calls(invocation(&req_id));
        line.takes(&req_id).await;
        line.result(&req_id, &json!({})).await;
        assert!(call.await.unwrap().is_ok(), "{req_id}");
    }
    assert_eq!(bridge.agent.facts().in_flight, 0);
    bridge.agent.settled("call_0");
    line.hears(Kind::ResultAck).await;
}
