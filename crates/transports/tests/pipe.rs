//! What a misbehaving server does to a call over a stream: its own call fails, quickly, and nothing else.
//! Time is paused, so "quickly" is exact.

#![expect(clippy::unwrap_used, reason = "a step that fails is the test failing")]

use std::time::Duration;

use serde_json::json;
use serde_json::value::RawValue;
use tokio::sync::mpsc;
use tokio::time::Instant;
use transports::testing::{Behaviour, FakeServer};
use transports::{
    ConnectError, ConnectOptions, Connection, Era, EraChoice, Inbound, Params, Request,
    RequestError, connect,
};

const MINUTE: Duration = Duration::from_mins(1);

async fn open(server: &FakeServer) -> (std::sync::Arc<Connection>, mpsc::Receiver<Inbound>) {
    let (inbound, messages) = mpsc::channel(16);
    let options = ConnectOptions {
        known_era: None,
        inbound,
    };
    (
        connect(&server.spec("fake").unwrap(), options)
            .await
            .unwrap(),
        messages,
    )
}

fn call(message: &str) -> Request {
    let arguments = RawValue::from_string(json!({"message": message}).to_string()).unwrap();
    Request {
        params: Params::default()
            .with_text("name", "echo")
            .with("arguments", arguments),
        ..Request::new("tools/call", MINUTE)
    }
}

async fn settle() {
    for _ in 0..50 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(start_paused = true)]
async fn both_eras_are_found_and_remembered() {
    for (server, era, version) in [
        (FakeServer::legacy(), Era::Legacy, "2025-11-25"),
        (FakeServer::modern(), Era::Modern, "2026-07-28"),
    ] {
        let (connection, _messages) = open(&server).await;
        assert_eq!(
            (
                connection.info().era,
                connection.info().protocol_version.as_str()
            ),
            (era, version)
        );
        assert_eq!(server.initialized(), 1);
        assert!(
            connection
                .request(call("hi"))
                .await
                .unwrap()
                .get()
                .contains("hi")
        );
        let (inbound, _rest) = mpsc::channel(1);
        let known = ConnectOptions {
            known_era: Some(era),
            inbound,
        };
        assert_eq!(
            connect(&server.spec("fake").unwrap(), known)
                .await
                .unwrap()
                .info()
                .era,
            era
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_wrong_memory_of_the_era_is_corrected() {
    let server = FakeServer::modern();
    let (inbound, _messages) = mpsc::channel(1);
    let options = ConnectOptions {
        known_era: Some(Era::Legacy),
        inbound,
    };
    let connection = connect(&server.spec("fake").unwrap(), options)
        .await
        .unwrap();
    assert_eq!(connection.info().era, Era::Modern);
}

#[tokio::test(start_paused = true)]
async fn a_server_of_the_other_era_is_refused_where_one_era_is_demanded() {
    let server = FakeServer::legacy();
    let mut spec = server.spec("fake").unwrap();
    spec.era = EraChoice::Modern;
    let (inbound, _messages) = mpsc::channel(1);
    let error = connect(
        &spec,
        ConnectOptions {
            known_era: None,
            inbound,
        },
    )
    .await
    .unwrap_err();
    assert!(matches!(error, ConnectError::Protocol { .. }), "{error:?}");
}

#[tokio::test(start_paused = true)]
async fn a_silent_server_fails_the_handshake_at_its_deadlines() {
    let server = FakeServer::legacy();
    server.go_deaf(true);
    let spec = server.spec("fake").unwrap();
    let (inbound, _messages) = mpsc::channel(1);
    let before = Instant::now();
    let error = connect(
        &spec,
        ConnectOptions {
            known_era: None,
            inbound,
        },
    )
    .await
    .unwrap_err();
    assert!(
        matches!(
            error,
            ConnectError::Timeout {
                step: "initialize",
                ..
            }
        ),
        "{error:?}"
    );
    let bound = spec.timeouts.probe + spec.timeouts.initialize + Duration::from_secs(1);
    assert!(before.elapsed() < bound);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_times_out_is_cancelled_upstream() {
    let server = FakeServer::legacy();
    let (connection, _messages) = open(&server).await;
    server.behave(Behaviour::Silent);
    let error = connection
        .request(Request {
            timeout: Duration::from_secs(3),
            ..call("x")
        })
        .await
        .unwrap_err();
    assert!(matches!(error, RequestError::Timeout { .. }), "{error:?}");
    settle().await;
    assert_eq!(server.cancelled(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_dropped_call_is_cancelled_upstream_and_a_finished_one_is_not() {
    let server = FakeServer::legacy();
    let (connection, _messages) = open(&server).await;
    connection.request(call("done")).await.unwrap();
    server.behave(Behaviour::Silent);
    let calling =
        tokio::time::timeout(Duration::from_secs(1), connection.request(call("dropped"))).await;
    assert!(calling.is_err());
    settle().await;
    assert_eq!(server.cancelled(), 1);
    // The late answer of the cancelled call is nobody's, and no fault either.
    server.behave(Behaviour::Echo);
    assert!(connection.request(call("after")).await.is_ok());
    assert_eq!(connection.garbage_frames(), 0);
}

#[tokio::test(start_paused = true)]
async fn progress_arrives_in_order_and_before_the_answer() {
    let server = FakeServer::modern();
    let (connection, _messages) = open(&server).await;
    server.behave(Behaviour::Progress(40));
    let (sender, mut heard) = mpsc::channel(64);
    connection
        .request(Request {
            progress: Some(sender),
            ..call("x")
        })
        .await
        .unwrap();
    let mut steps = Vec::new();
    while let Ok(notification) = heard.try_recv() {
        let params: serde_json::Value =
            serde_json::from_str(notification.params.unwrap().get()).unwrap();
        steps.push(params["progress"].as_u64().unwrap());
    }
    assert_eq!(steps, (1..=40).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn a_full_progress_channel_loses_progress_counted_and_never_the_answer() {
    let server = FakeServer::legacy();
    let (connection, _messages) = open(&server).await;
    server.behave(Behaviour::Progress(40));
    let (sender, _unread) = mpsc::channel(4);
    connection
        .request(Request {
            progress: Some(sender),
            ..call("x")
        })
        .await
        .unwrap();
    assert_eq!(connection.dropped_notifications(), 36);
}

async fn fault_of(
    line: &str,
) -> (
    RequestError,
    Duration,
    std::sync::Arc<Connection>,
    FakeServer,
) {
    let server = FakeServer::legacy();
    let (connection, messages) = open(&server).await;
    server.behave(Behaviour::Line(line.to_owned()));
    let before = Instant::now();
    let error = connection.request(call("x")).await.unwrap_err();
    drop(messages);
    (error, before.elapsed(), connection, server)
}

#[tokio::test(start_paused = true)]
async fn broken_wrong_and_oversized_answers_fail_their_call_at_once_and_the_next_one_works() {
    let big = format!(
        "{{\"jsonrpc\":\"2.0\",\"id\":@ID@,\"result\":{{\"text\":\"{}\"}}}}",
        "x".repeat(17 * 1024 * 1024)
    );
    let big_tail = format!(
        "{{\"jsonrpc\":\"2.0\",\"result\":{{\"text\":\"{}\"}},\"id\":@ID@}}",
        "x".repeat(17 * 1024 * 1024)
    );
    for (line, kind) in [
        (
            "{\"jsonrpc\":\"2.0\",\"id\":@ID@,\"result\":{\"cut\":",
            "protocol",
        ),
        (
            "{\"jsonrpc\":\"2.0\",\"id\":99999,\"result\":{}}",
            "protocol",
        ),
        (
            "{\"jsonrpc\":\"2.0\",\"id\":\"@ID@\",\"result\":{}}",
            "protocol",
        ),
        (big.as_str(), "too large"),
        (big_tail.as_str(), "too large"),
        (
            "{\"jsonrpc\":\"2.0\",\"id\":@ID@,\"error\":{\"code\":-32602,\"message\":\"bad\"}}",
            "rpc",
        ),
    ] {
        let (error, took, connection, server) = fault_of(line).await;
        let found = match &error {
            RequestError::Protocol { .. } => "protocol",
            RequestError::TooLarge { .. } => "too large",
            RequestError::Rpc { code: -32602, .. } => "rpc",
            other => panic!("{other:?}"),
        };
        assert_eq!(found, kind, "{}", &line[..line.len().min(80)]);
        assert!(took < Duration::from_secs(2));
        server.behave(Behaviour::Echo);
        assert!(
            connection
                .request(call("next"))
                .await
                .unwrap()
                .get()
                .contains("next"),
            "the stream goes on"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn an_oversized_answer_hurts_only_its_own_call() {
    let server = FakeServer::legacy();
    let (connection, _messages) = open(&server).await;
    server.behave(Behaviour::Slow(Duration::from_secs(5)));
    let other = tokio::spawn({
        let connection = connection.clone();
        async move { connection.request(call("patient")).await }
    });
    settle().await;
    let big = format!(
        "{{\"jsonrpc\":\"2.0\",\"id\":@ID@,\"result\":{{\"text\":\"{}\"}}}}",
        "x".repeat(17 * 1024 * 1024)
    );
    server.behave(Behaviour::Line(big));
    let error = connection.request(call("x")).await.unwrap_err();
    assert!(matches!(error, RequestError::TooLarge { .. }), "{error:?}");
    assert!(other.await.unwrap().unwrap().get().contains("patient"));
}

#[tokio::test(start_paused = true)]
async fn the_late_answer_to_a_failed_call_fails_no_other() {
    let server = FakeServer::legacy();
    let (connection, _messages) = open(&server).await;
    server.behave(Behaviour::Slow(Duration::from_secs(5)));
    let other = tokio::spawn({
        let connection = connection.clone();
        async move { connection.request(call("patient")).await }
    });
    settle().await;
    server.behave(Behaviour::Line(
        "{\"jsonrpc\":\"2.0\",\"id\":@ID@,\"result\":{\"cut\":".into(),
    ));
    let error = connection.request(call("x")).await.unwrap_err();
    assert!(matches!(error, RequestError::Protocol { .. }), "{error:?}");
    let id = server.seen().last().unwrap()["id"].clone();
    server.push(&json!({"jsonrpc": "2.0", "id": id, "result": {}}));
    assert!(other.await.unwrap().unwrap().get().contains("patient"));
    assert_eq!(connection.garbage_frames(), 1, "the broken line alone");
}

#[tokio::test(start_paused = true)]
async fn a_wrong_id_with_several_in_flight_fails_none() {
    let server = FakeServer::legacy();
    let (connection, _messages) = open(&server).await;
    server.behave(Behaviour::Slow(Duration::from_secs(5)));
    let calls: Vec<_> = (0..3)
        .map(|number| {
            let connection = connection.clone();
            tokio::spawn(async move { connection.request(call(&format!("n{number}"))).await })
        })
        .collect();
    settle().await;
    server.push(&json!({"jsonrpc": "2.0", "id": 4242, "result": {}}));
    for call in calls {
        assert!(call.await.unwrap().is_ok());
    }
    assert_eq!(connection.garbage_frames(), 1);
}

#[tokio::test(start_paused = true)]
async fn garbage_lines_are_counted_and_ignored() {
    let server = FakeServer::legacy();
    let (connection, mut messages) = open(&server).await;
    server.push(&json!("a log line"));
    server.push(&json!({"level": "info", "msg": "structured"}));
    server.push(&json!({"jsonrpc": "2.0", "method": "notifications/message", "params": {"level": "info", "data": "x"}}));
    assert!(connection.request(call("hi")).await.is_ok());
    assert_eq!(connection.garbage_frames(), 2);
    assert!(
        matches!(messages.try_recv(), Ok(Inbound::Notification(n)) if n.method == "notifications/message")
    );
}

#[tokio::test(start_paused = true)]
async fn the_end_of_the_stream_fails_what_is_in_flight_and_what_comes_after() {
    let server = FakeServer::legacy();
    let (connection, _messages) = open(&server).await;
    server.behave(Behaviour::Leave);
    let error = connection.request(call("x")).await.unwrap_err();
    assert!(matches!(error, RequestError::Protocol { .. }), "{error:?}");
    let after = connection.request(call("y")).await.unwrap_err();
    assert_eq!(after.executed(), transports::Executed::No, "{after:?}");
    assert!(matches!(
        connection.closed().await,
        transports::CloseReason::Lost(_)
    ));
}

#[tokio::test(start_paused = true)]
async fn more_calls_than_the_bound_are_refused_not_queued() {
    let server = FakeServer::legacy();
    let mut spec = server.spec("fake").unwrap();
    spec.limits.in_flight = 2;
    let (inbound, _messages) = mpsc::channel(1);
    let connection = connect(
        &spec,
        ConnectOptions {
            known_era: None,
            inbound,
        },
    )
    .await
    .unwrap();
    server.behave(Behaviour::Slow(MINUTE / 2));
    let (one, two, three) = tokio::join!(
        connection.request(call("1")),
        connection.request(call("2")),
        connection.request(call("3"))
    );
    assert!(one.is_ok() && two.is_ok());
    assert!(
        matches!(three, Err(RequestError::Overloaded { limit: 2 })),
        "{three:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn the_servers_own_request_reaches_whoever_listens_and_is_refused_when_nobody_can() {
    let server = FakeServer::legacy();
    let (connection, mut messages) = open(&server).await;
    server.behave(Behaviour::Ask("roots/list".into()));
    connection.request(call("x")).await.unwrap();
    let Some(Inbound::Request(request)) = messages.recv().await else {
        panic!("a request")
    };
    let roots = RawValue::from_string("{\"roots\":[]}".into()).unwrap();
    connection.answer(request.id, Ok(roots)).await;
    settle().await;
    assert!(server.seen().last().unwrap()["result"]["roots"].is_array());
    drop(messages);
    connection.request(call("y")).await.unwrap();
    settle().await;
    assert_eq!(server.seen().last().unwrap()["error"]["code"], -32603);
}

#[tokio::test(start_paused = true)]
async fn ping_asks_what_the_era_knows() {
    for server in [FakeServer::legacy(), FakeServer::modern()] {
        let (connection, _messages) = open(&server).await;
        connection.ping(MINUTE).await.unwrap();
        server.go_deaf(true);
        assert!(connection.ping(Duration::from_secs(1)).await.is_err());
    }
}
