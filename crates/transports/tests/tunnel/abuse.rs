//! What is tried against the bridge half, and how each attempt ends.

use std::time::Duration;

use serde_json::json;
use transports::tunnel::bridge::ServeEnd;
use transports::tunnel::frame::{CallResult, Cancel, Channel, Chunk, Hello, HelloAck, Part};
use transports::tunnel::limits::FRAME_BYTES;
use transports::tunnel::{AgentId, Kind, Payload};

use crate::played::{Bridge, Played, TOKEN, invocation, raw};

fn hello() -> Payload {
    Payload::Hello(Box::default())
}

/// What the bridge says to these texts on a fresh connection.
async fn refused(texts: &[String]) -> (Option<u16>, String) {
    let bridge = Bridge::new();
    let mut line = bridge.line();
    for text in texts {
        line.socket().force(text.clone());
    }
    let end = line.end().await;
    assert_eq!(bridge.owner.told(), [""; 0], "it was never online");
    end
}

#[tokio::test(start_paused = true)]
async fn nothing_is_heard_before_a_good_token() {
    let bridge = Bridge::new();
    let mut line = bridge.line();
    let tools = line.frame(
        None,
        Payload::Tools(transports::tunnel::frame::Tools::default()),
    );
    let pong = line.frame(None, Payload::Pong).encode();
    let mut line = bridge.line();
    let hello = line.frame(None, hello()).encode();
    let expected = |reason: &str| (Some(1008), reason.to_owned());
    for (texts, reason) in [
        (vec![tools.encode()], "the first frame must be HELLO"),
        (vec![hello.clone(), pong], "the second frame must be AUTH"),
        (vec!["{}".to_owned()], "no envelope of this protocol"),
        (vec![String::new()], "no envelope of this protocol"),
        (vec![hello.clone(), hello.clone()], "a frame out of turn"),
        (
            vec![hello.replace("\"v\":1", "\"v\":9")],
            "an envelope of another version",
        ),
        (
            vec![
                hello
                    .replace("\"max\":1", "\"max\":0")
                    .replace("\"min\":1", "\"min\":0"),
            ],
            "no protocol revision in common",
        ),
    ] {
        assert_eq!(refused(&texts).await, expected(reason), "{texts:?}");
    }
    let mut line = bridge.line();
    line.socket().send_binary();
    assert_eq!(line.end().await, expected("a message that is no text"));
}

#[tokio::test(start_paused = true)]
async fn a_bad_token_is_told_so_and_silence_does_not_last() {
    let bridge = Bridge::new();
    let mut line = bridge.line();
    line.say(None, hello()).await;
    line.auth("wrong").await;
    assert_eq!(
        line.end().await,
        (Some(1008), "the token is not good".to_owned())
    );
    let mut line = bridge.line();
    line.say(None, hello()).await;
    let began = tokio::time::Instant::now();
    assert_eq!(
        line.end().await,
        (Some(1008), "no HELLO and AUTH in time".to_owned())
    );
    assert_eq!(began.elapsed(), Duration::from_secs(10));
    // Another agent's name under a good token.
    let mut line = bridge.line();
    for payload in [hello(), auth()] {
        let mut frame = line.frame(None, payload);
        frame.agent_id = AgentId::new("other").unwrap();
        line.socket().force(frame.encode());
    }
    assert_eq!(
        line.end().await,
        (Some(1008), "the token is another agent's".to_owned())
    );
}

fn auth() -> Payload {
    Payload::Auth(transports::tunnel::frame::Auth {
        token: TOKEN.to_owned().into(),
        device_fingerprint: None,
    })
}

/// Says this three times on a good connection and expects it to be closed.
async fn three_times(what: &str, mut say: impl FnMut(&mut Played)) {
    let bridge = Bridge::new();
    let mut line = bridge.connect().await;
    let call = bridge.calls(invocation("call_1"));
    line.takes("call_1").await;
    for _ in 0..2 {
        say(&mut line);
    }
    line.say(None, Payload::Ping).await;
    line.hears(Kind::Pong).await;
    assert_eq!(bridge.agent.facts().bad_frames, 2, "{what}");
    say(&mut line);
    assert_eq!(line.end().await.0, Some(4400), "{what}");
    assert!(!call.is_finished(), "{what}: the call goes on");
}

fn force(line: &mut Played, req_id: Option<&str>, payload: Payload) {
    let text = line.frame(req_id, payload).encode();
    line.socket().force(text);
}

#[tokio::test(start_paused = true)]
async fn three_bad_frames_end_a_good_connection() {
    three_times("no JSON", |line| line.socket().force("{".to_owned())).await;
    three_times("no text", |line| line.socket().send_binary()).await;
    three_times("replayed AUTH", |line| force(line, None, auth())).await;
    three_times("replayed HELLO", |line| force(line, None, hello())).await;
    three_times("a call of the agent's", |line| {
        let cancel = Payload::Cancel(Cancel::default());
        force(line, Some("call_1"), cancel);
    })
    .await;
    three_times("the bridge's word", |line| {
        let ack = HelloAck {
            conn_session_id: "ws".into(),
            epoch: 9,
            limits: transports::tunnel::limits::Limits::default(),
            resume: transports::tunnel::frame::ResumeAnswer::default(),
        };
        force(line, None, Payload::HelloAck(Box::new(ack)));
    })
    .await;
    three_times("another agent's name", |line| {
        let mut frame = line.frame(None, Payload::Ping);
        frame.agent_id = AgentId::new("other").unwrap();
        line.socket().force(frame.encode());
    })
    .await;
    three_times("another connection's name", |line| {
        let mut frame = line.frame(None, Payload::Ping);
        frame.conn_session_id = Some("ws_other".into());
        line.socket().force(frame.encode());
    })
    .await;
    three_times("a repeated seq", |line| {
        line.seq -= 1;
        force(line, None, Payload::Pong);
    })
    .await;
    three_times("a chunk of nobody's call", |line| {
        let chunk = Chunk {
            channel: Channel::Stdout,
            data: "x".into(),
            dropped_bytes: 0,
            dropped_lines: 0,
        };
        force(line, Some("call_2"), Payload::Chunk(chunk));
    })
    .await;
    three_times("a result of nobody's call", |line| {
        let result = CallResult::done(raw(&json!({})));
        force(line, Some("call_2"), Payload::Result(result));
    })
    .await;
    three_times("a part out of turn", |line| {
        let part = Part {
            part: 2,
            parts: 3,
            data: "x".into(),
        };
        force(line, Some("call_1"), Payload::Part(Kind::Result, part));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_line_that_loses_frames_is_given_up_and_no_call_with_it() {
    let bridge = Bridge::new();
    let mut line = bridge.connect().await;
    let call = bridge.calls(invocation("call_1"));
    line.takes("call_1").await;
    line.seq += 1;
    force(&mut line, None, Payload::Pong);
    let end = (Some(4400), "frames are missing".to_owned());
    assert_eq!(line.end().await, end);
    assert!(!call.is_finished());
}

#[tokio::test(start_paused = true)]
async fn a_message_over_the_bound_ends_the_line_and_no_call() {
    let bridge = Bridge::new();
    let mut line = bridge.connect().await;
    let call = bridge.calls(invocation("call_1"));
    line.takes("call_1").await;
    line.socket().force("x".repeat(17 * 1024 * 1024));
    assert_eq!(line.end().await.0, Some(1009));
    assert!(!call.is_finished());
    let mut line = bridge.line();
    line.socket().force("x".repeat(FRAME_BYTES + 1));
    assert_eq!(line.end().await.0, Some(1009));
}

#[tokio::test(start_paused = true)]
async fn an_older_connection_cannot_speak_for_the_newer() {
    let bridge = Bridge::new();
    let mut old = bridge.connect().await;
    let call = bridge.calls(invocation("call_1"));
    old.takes("call_1").await;
    let mut hello = Hello::default();
    hello.resume.running.push(crate::played::id("call_1"));
    // Said before the newer stands, read after.
    let mut new = bridge.line();
    new.say(None, Payload::Hello(Box::new(hello))).await;
    new.auth(TOKEN).await;
    new.hears(Kind::HelloAck).await;
    force(
        &mut old,
        Some("call_1"),
        Payload::Result(CallResult::done(raw(&json!({"old": 1})))),
    );
    assert_eq!(old.end().await.0, Some(4409));
    assert!(!call.is_finished());
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_does_not_read_is_not_read_either() {
    let bridge = Bridge::new();
    let mut line = bridge.connect().await;
    for _ in 0..20_000 {
        force(&mut line, None, Payload::Ping);
    }
    let began = tokio::time::Instant::now();
    // Its PINGs are not all answered into memory: the line ends for silence, not for room.
    tokio::time::sleep(Duration::from_secs(61)).await;
    assert!(!bridge.agent.facts().online);
    assert!(began.elapsed() < Duration::from_secs(90));
    drop(line);
}

#[tokio::test(start_paused = true)]
async fn who_does_not_read_is_closed_all_the_same() {
    for replaced in [false, true] {
        let bridge = Bridge::new();
        let mut line = bridge.connect().await;
        // The answers to these fill the line; nobody reads them.
        for _ in 0..600 {
            force(&mut line, None, Payload::Ping);
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
        let newer = if replaced {
            Some(bridge.connect().await)
        } else {
            bridge.agent.disconnect(4401, "the token was reset");
            None
        };
        // It goes on speaking, of what it may no longer speak of.
        force(
            &mut line,
            None,
            Payload::Tools(transports::tunnel::frame::Tools::default()),
        );
        let began = tokio::time::Instant::now();
        let end = line.ends_unread().await;
        // Two seconds to be read, and two for the close.
        assert!(began.elapsed() <= Duration::from_secs(5), "{end:?}");
        let code = if replaced { 4409 } else { 4401 };
        assert!(
            matches!(&end, ServeEnd::Closed { code: closed, .. } if *closed == code),
            "{end:?}"
        );
        let told = bridge.owner.told();
        assert!(
            !told.iter().any(|what| what.starts_with("catalogue")),
            "{told:?}"
        );
        assert_eq!(bridge.agent.is_online(), replaced);
        drop(newer);
    }
}

#[tokio::test(start_paused = true)]
async fn an_offer_beyond_its_bounds_is_refused_in_words_and_one_within_is_taken() {
    let tools = |servers: usize, entries: usize| {
        let servers: Vec<_> = (0..servers)
            .map(|n| json!({"server": format!("s{n}"), "era": "legacy", "tools": vec![json!({}); entries]}))
            .collect();
        let tools = json!({"generation": 1, "servers": servers});
        Payload::Tools(serde_json::from_value(tools).unwrap())
    };
    for (servers, entries, reason) in [
        (257, 0, "TOOLS of too many servers"),
        (1, 10_001, "TOOLS with a list that is too long"),
    ] {
        let bridge = Bridge::new();
        let mut line = bridge.connect().await;
        force(&mut line, None, tools(servers, entries));
        assert_eq!(line.end().await, (Some(4400), reason.to_owned()));
        assert!(bridge.agent.catalogue().servers.is_empty());
    }
    let bridge = Bridge::new();
    let mut line = bridge.connect().await;
    force(&mut line, None, tools(256, 10));
    line.say(None, Payload::Ping).await;
    line.hears(Kind::Pong).await;
    assert_eq!(bridge.agent.catalogue().servers.len(), 256);
}

#[tokio::test(start_paused = true)]
async fn results_of_calls_that_were_dismissed_at_hello_are_no_bad_frames() {
    let bridge = Bridge::new();
    let calls = ["call_1", "call_2", "call_3", "call_4"];
    let mut hello = Hello::default();
    hello.resume.running = calls.map(crate::played::id).to_vec();
    bridge.resume.lock().unwrap().cancel = hello.resume.running.clone();
    let mut line = bridge.connect_as(hello).await;
    for call in calls {
        line.result(call, &json!({})).await;
        let ack = line.hears(Kind::ResultAck).await;
        assert_eq!(ack.req_id.as_deref(), Some(call));
    }
    assert_eq!(bridge.agent.facts().bad_frames, 0);
    assert!(bridge.agent.is_online());
}

#[tokio::test(start_paused = true)]
async fn a_name_an_agent_gives_its_connection_itself_is_not_taken() {
    let bridge = Bridge::new();
    let mut line = bridge.line();
    line.conn = Some("ws_mine".into());
    line.say(None, hello()).await;
    line.auth(TOKEN).await;
    let Payload::HelloAck(ack) = line.hears(Kind::HelloAck).await.payload else {
        unreachable!()
    };
    assert_ne!(&*ack.conn_session_id, "ws_mine");
    // It is no name of this connection.
    line.say(None, Payload::Ping).await;
    line.conn = Some(ack.conn_session_id);
    line.say(None, Payload::Ping).await;
    line.hears(Kind::Pong).await;
    assert_eq!(bridge.agent.facts().bad_frames, 1);
}
