//! Frames as text and back, and what is refused.

use proptest::prelude::*;
use serde_json::json;
use serde_json::value::RawValue;

use super::*;
use crate::tunnel::limits::{FRAME_BYTES, META_TEXT_BYTES, PARTS, RESULT_BYTES};

fn raw(text: &str) -> Box<RawValue> {
    RawValue::from_string(text.to_owned()).unwrap()
}

fn agent() -> AgentId {
    AgentId::new("laptop").unwrap()
}

fn call() -> ReqId {
    ReqId::new("call_1").unwrap()
}

fn every_payload() -> Vec<Payload> {
    let mut every = of_connections();
    every.extend(of_calls());
    every
}

fn of_connections() -> Vec<Payload> {
    vec![
        Payload::Hello(Box::default()),
        Payload::Auth(Auth {
            token: "t\"oken".to_owned().into(),
            device_fingerprint: Some("x".into()),
        }),
        Payload::HelloAck(Box::new(HelloAck {
            conn_session_id: "ws_1".into(),
            epoch: 3,
            limits: crate::tunnel::limits::Limits::default(),
            resume: ResumeAnswer {
                deliver: vec![call()],
                ..ResumeAnswer::default()
            },
        })),
        Payload::Tools(Tools {
            generation: 2,
            servers: vec![ServerTools {
                server: "files".into(),
                era: crate::Era::Legacy,
                lists: Lists::Known,
                tools: vec![raw("{ \"name\" : \"a\", \"x\":1.50 }")],
                resources: Vec::new(),
                templates: Vec::new(),
                prompts: Vec::new(),
                capabilities: Some(raw("{}")),
                server_info: None,
                instructions: None,
                protocol_version: None,
                problem: None,
            }],
        }),
        Payload::Ping,
        Payload::Pong,
        Payload::Goodbye(Goodbye::default()),
        Payload::Configure(Configure {
            generation: 1,
            servers: raw("[]"),
        }),
    ]
}

fn of_calls() -> Vec<Payload> {
    vec![
        Payload::Invoke(Box::new(Invoke {
            server: "files".into(),
            method: InvokeMethod::ToolsCall,
            params: raw("{\"name\":\"a\",\"arguments\":{ \"n\":1e2 }}"),
            timeout_ms: 5,
            deadline_ts: 7,
            stream: Stream { enabled: true },
            isolation_key: "lane\n1".into(),
        })),
        Payload::InvokeAck(InvokeAck {
            accepted: true,
            duplicate: true,
            state: Some(KnownState::Finished),
            reason: None,
        }),
        Payload::Chunk(Chunk {
            channel: Channel::Stderr,
            data: "a\"\\\n\u{1}é".into(),
            dropped_bytes: 3,
            dropped_lines: 1,
        }),
        Payload::Result(CallResult::done(raw("{\"isError\":true}"))),
        Payload::Result(CallResult::failed(FailureCode::Canceled, "stopped")),
        Payload::ResultAck,
        Payload::Cancel(Cancel {
            reason: "no".into(),
        }),
        Payload::CancelAck(CancelAck {
            will_cancel: false,
            reason: Some("already_finished".into()),
        }),
        Payload::Part(
            Kind::Result,
            Part {
                part: 1,
                parts: 2,
                data: "{\"ok\"".into(),
            },
        ),
    ]
}

fn frame(payload: Payload) -> Frame {
    Frame {
        agent_id: agent(),
        req_id: payload.kind().names_call().then(call),
        conn_session_id: Some("ws_\"1".into()),
        seq: 9,
        ts: 1_800_000_000,
        payload,
    }
}

#[test]
fn every_type_is_read_as_it_was_written() {
    for payload in every_payload() {
        let written = frame(payload).encode();
        let read = Frame::decode(&written).unwrap_or_else(|bad| panic!("{bad}: {written}"));
        assert_eq!(read.encode(), written);
        assert_eq!(
            (read.seq, read.ts, read.conn_session_id.as_deref()),
            (9, 1_800_000_000, Some("ws_\"1"))
        );
        // The envelope is plain JSON, whoever reads it.
        let json: serde_json::Value = serde_json::from_str(&written).unwrap();
        assert_eq!(json["type"], read.payload.kind().as_str());
        assert_eq!(json["v"], 1);
    }
}

#[test]
fn lists_are_known_unless_it_says_otherwise() {
    let server = r#"{"server":"files","era":"legacy","lists":"unknown"}"#;
    let unknown: ServerTools = serde_json::from_str(server).unwrap();
    assert_eq!(unknown.lists, Lists::Unknown);
    let written = serde_json::to_value(&unknown).unwrap();
    assert_eq!(written["lists"], "unknown");
    let known = ServerTools {
        lists: Lists::Known,
        ..unknown
    };
    let written = serde_json::to_string(&known).unwrap();
    assert!(!written.contains("\"lists\""), "{written}");
    let read: ServerTools = serde_json::from_str(&written).unwrap();
    assert!(read.lists.are_known());
}

#[test]
fn a_payload_before_its_type_is_read_as_well() {
    let text = r#"{"payload":{"channel":"stdout","data":"x"},"ts":1,"seq":1,"type":"CHUNK","req_id":"c","agent_id":"abc","v":1}"#;
    let read = Frame::decode(text).unwrap();
    assert!(matches!(read.payload, Payload::Chunk(chunk) if chunk.data == "x"));
}

#[test]
fn what_is_no_frame_is_refused_for_what_it_is() {
    let good = r#"{"v":1,"type":"PING","agent_id":"abc","payload":{},"seq":1,"ts":1}"#;
    assert!(Frame::decode(good).is_ok());
    let swap = |from: &str, to: &str| good.replace(from, to);
    for (text, bad) in [
        (String::new(), BadFrame::Envelope),
        ("[]".into(), BadFrame::Envelope),
        ("null".into(), BadFrame::Envelope),
        (format!("{good}{good}"), BadFrame::Envelope),
        (good[..good.len() - 1].into(), BadFrame::Envelope),
        (swap("\"v\":1", "\"v\":2"), BadFrame::Version),
        (swap("\"v\":1", "\"v\":\"1\""), BadFrame::Envelope),
        (swap("\"v\":1,", ""), BadFrame::Envelope),
        (swap("\"v\":1", "\"v\":1,\"v\":1"), BadFrame::Envelope),
        (swap("PING", "PINGS"), BadFrame::Type),
        (swap("\"type\":\"PING\",", ""), BadFrame::Envelope),
        (swap("\"abc\"", "\"a\""), BadFrame::Envelope),
        (swap("\"seq\":1", "\"seq\":-1"), BadFrame::Envelope),
        (swap("\"seq\":1", "\"seq\":1.5"), BadFrame::Envelope),
        (swap(",\"ts\":1", ""), BadFrame::Envelope),
        (swap("\"ts\":1", "\"ts\":1,\"extra\":1"), BadFrame::Envelope),
        (swap("{}", "[]"), BadFrame::Payload(Kind::Ping)),
        (swap("\"payload\":{},", ""), BadFrame::Envelope),
        (swap("PING", "CANCEL"), BadFrame::ReqId(Kind::Cancel)),
        (
            swap("\"v\":1", "\"v\":1,\"req_id\":\"c\""),
            BadFrame::ReqId(Kind::Ping),
        ),
        (swap("PING", "TOOLS"), BadFrame::Payload(Kind::Tools)),
        (swap("PING", "RESULT"), BadFrame::Payload(Kind::Result)),
        (
            swap("\"abc\"", &format!("\"{}\"", "a".repeat(FRAME_BYTES))),
            BadFrame::TooLarge,
        ),
    ] {
        let shown = &text[..text.len().min(120)];
        assert_eq!(Frame::decode(&text).unwrap_err(), bad, "{shown}");
    }
}

#[test]
fn a_result_says_one_thing() {
    for payload in [
        r#"{"ok":true}"#,
        r#"{"ok":true,"result_json":null}"#,
        r#"{"ok":false,"result_json":{}}"#,
        r#"{"ok":true,"result_json":{},"error":{"code":"timeout","message":""}}"#,
        r#"{"ok":false,"error":{"code":"whatever","message":""}}"#,
        r#"{"ok":true,"result_json":{},"part":1}"#,
        r#"{"part":1,"parts":2}"#,
    ] {
        assert_eq!(
            read_payload(Kind::Result, payload).unwrap_err(),
            BadFrame::Payload(Kind::Result),
            "{payload}"
        );
    }
}

#[test]
fn neither_tokens_nor_definitions_are_shown() {
    for payload in every_payload() {
        let shown = format!("{:?}", frame(payload));
        assert!(!shown.contains("oken") && !shown.contains("1e2"), "{shown}");
    }
    let auth = Payload::Auth(Auth {
        token: "hunter2".to_owned().into(),
        device_fingerprint: None,
    });
    assert!(!format!("{auth:?}").contains("hunter2"));
}

/// Writes a payload and puts it together again.
fn through(payload: &Payload) -> (usize, Payload) {
    let mut drafts = Vec::new();
    Draft::write(&agent(), Some(&call()), payload, |draft| drafts.push(draft));
    let mut assembly = Assembly::default();
    let mut whole = None;
    for (draft, seq) in drafts.iter().zip(1..) {
        let text = draft.clone().seal(Some("ws_1"), seq, 1);
        assert!(text.len() <= FRAME_BYTES, "{}", text.len());
        let read = Frame::decode(&text).unwrap();
        assert!(whole.is_none());
        whole = match read.payload {
            Payload::Part(kind, part) => assembly.take(read.req_id.as_ref(), kind, &part).unwrap(),
            payload => Some(payload),
        };
    }
    (drafts.len(), whole.unwrap())
}

#[test]
fn a_large_result_goes_in_parts_and_comes_back_whole() {
    // The worst text: every character doubles as JSON in JSON.
    let text = format!("{{\"t\":\"{}\"}}", "\\\"é".repeat(4 * 1024 * 1024 - 64));
    assert!(text.len() > RESULT_BYTES - 1024);
    let (parts, whole) = through(&Payload::Result(CallResult::done(raw(&text))));
    assert!((2..=PARTS).contains(&parts), "{parts}");
    let Payload::Result(result) = whole else {
        panic!("{whole:?}")
    };
    assert!(result.result_json.unwrap().get() == text);
}

#[test]
fn parts_out_of_turn_and_without_end_are_refused() {
    let part = |part, parts, data: &str| Part {
        part,
        parts,
        data: data.to_owned(),
    };
    let other = ReqId::new("call_2").unwrap();
    let (first, second) = (part(1, 3, "{"), part(2, 3, "}"));
    let refused = |steps: &[(&ReqId, &Part)]| {
        let mut assembly = Assembly::default();
        let (last, before) = steps.split_last().unwrap();
        for (req_id, part) in before {
            assert!(
                assembly
                    .take(Some(req_id), Kind::Result, part)
                    .unwrap()
                    .is_none()
            );
        }
        let refused = assembly
            .take(Some(last.0), Kind::Result, last.1)
            .unwrap_err();
        let again = assembly.take(Some(&call()), Kind::Result, &part(1, 3, "{"));
        assert_eq!(again.unwrap().map(|_| ()), None, "nothing is kept");
        refused
    };
    let call = call();
    assert_eq!(refused(&[(&call, &second)]), BadPart::Order);
    assert_eq!(refused(&[(&call, &first), (&call, &first)]), BadPart::Order);
    assert_eq!(
        refused(&[(&call, &first), (&other, &second)]),
        BadPart::Order
    );
    assert_eq!(refused(&[(&call, &part(1, 1, "{}"))]), BadPart::Order);
    assert_eq!(refused(&[(&call, &part(1, u32::MAX, ""))]), BadPart::Order);
    assert_eq!(
        refused(&[(&call, &part(1, 2, "{")), (&call, &part(2, 2, "]"))]),
        BadPart::Payload(BadFrame::Payload(Kind::Result))
    );
    let half = "x".repeat(RESULT_BYTES / 2 + 1);
    assert_eq!(
        refused(&[(&call, &part(1, 3, &half)), (&call, &part(2, 3, &half))]),
        BadPart::TooLarge
    );
}

#[test]
fn what_an_agent_says_of_itself_is_read_short_and_printable() {
    let long = "é".repeat(META_TEXT_BYTES);
    let meta = json!({"hostname": long, "os": "li\u{7}nux", "label": long, "spool_id": null});
    let read: AgentMeta = serde_json::from_value(meta).unwrap();
    assert_eq!(read.hostname, "é".repeat(META_TEXT_BYTES / 2));
    assert_eq!(read.label.as_ref(), Some(&read.hostname));
    assert_eq!((read.os.as_str(), read.arch.as_str()), ("linux", ""));
    assert_eq!(read.spool_id, None);
}

proptest! {
    #[test]
    fn any_text_is_carried(data in any::<String>(), key in any::<String>()) {
        let chunk = Chunk { channel: Channel::Stdout, data: data.clone(), dropped_bytes: 0, dropped_lines: 0 };
        let read = Frame::decode(&frame(Payload::Chunk(chunk)).encode()).unwrap();
        prop_assert!(matches!(read.payload, Payload::Chunk(chunk) if chunk.data == data));
        let invoke = Invoke {
            server: key.clone(), method: InvokeMethod::Complete, params: raw("{}"), timeout_ms: 1,
            deadline_ts: 1, stream: Stream::default(), isolation_key: data.clone(),
        };
        let read = Frame::decode(&frame(Payload::Invoke(Box::new(invoke))).encode()).unwrap();
        prop_assert!(matches!(read.payload, Payload::Invoke(invoke) if invoke.isolation_key == data && invoke.server == key));
    }

    #[test]
    fn no_text_makes_the_reader_fall(text in any::<String>(), cut in 0usize..200) {
        let _ = Frame::decode(&text);
        for payload in every_payload() {
            let written = frame(payload).encode();
            let cut = written.floor_char_boundary(cut.min(written.len() - 1));
            prop_assert!(Frame::decode(&written[..cut]).is_err());
        }
    }
}
