//! Streamable HTTP against a server that misbehaves on demand.

#![expect(clippy::unwrap_used, reason = "a step that fails is the test failing")]

mod fault_server;

use std::sync::Arc;
use std::time::Duration;

use fault_server::{Fault, FaultServer};
use serde_json::value::RawValue;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::time::timeout;
use transports::{
    ConnectError, ConnectOptions, Connection, Endpoint, EraChoice, Executed, HttpSpec, Inbound,
    LogLevel, OutboundPolicy, Params, Request, RequestError, ServerName, ServerSpec, Timeouts,
    WireLimits, connect,
};

/// Longest a fault may take to become an error (rulings.md § Upstream faults).
const QUICK: Duration = Duration::from_secs(2);
/// The bound on an answer in these tests.
const FRAME_BYTES: usize = 64 * 1024;

fn spec(url: &str) -> ServerSpec {
    ServerSpec {
        name: ServerName::new("faults").unwrap(),
        endpoint: Endpoint::StreamableHttp(HttpSpec {
            url: url.parse().unwrap(),
            headers: Vec::new(),
            outbound: OutboundPolicy {
                allow_private: true,
                ..OutboundPolicy::default()
            },
            bearer: None,
        }),
        era: EraChoice::Auto,
        timeouts: Timeouts::default(),
        limits: WireLimits {
            frame_bytes: FRAME_BYTES,
            in_flight: 100,
        },
    }
}

async fn open(server: &FaultServer) -> (Arc<Connection>, mpsc::Receiver<Inbound>) {
    let (inbound, heard) = mpsc::channel(16);
    let options = ConnectOptions {
        known_era: None,
        inbound,
    };
    (connect(&spec(&server.url()), options).await.unwrap(), heard)
}

fn call(message: &str) -> Request {
    let arguments = RawValue::from_string(json!({ "message": message }).to_string()).unwrap();
    Request {
        params: Params::default()
            .with_text("name", "echo")
            .with("arguments", arguments),
        ..Request::new("tools/call", Duration::from_secs(30))
    }
}

fn text_of(result: &RawValue) -> String {
    let result: Value = serde_json::from_str(result.get()).unwrap();
    result["content"][0]["text"].as_str().unwrap().to_owned()
}

/// Calls under a fault; the error must come well before the call's own deadline.
async fn fails(fault: Fault) -> RequestError {
    let server = FaultServer::start().await;
    let (connection, _heard) = open(&server).await;
    server.fault(fault);
    let error = timeout(QUICK, connection.request(call("x")))
        .await
        .expect("a quick error")
        .unwrap_err();
    // The fault stays with its call: the next one, on the same connection, is answered.
    server.fault(Fault::None);
    assert_eq!(
        text_of(&connection.request(call("after")).await.unwrap()),
        "after"
    );
    error
}

#[tokio::test]
async fn answers_that_are_no_mcp_fail_their_call_at_once() {
    let json = "application/json";
    for fault in [
        Fault::Answer(200, "text/html", "<html>hello</html>".into()),
        Fault::Answer(500, "text/html", "<html>secret words</html>".into()),
        Fault::Answer(502, "text/plain", String::new()),
        Fault::Answer(200, json, "{\"jsonrpc\":\"2.0\",".into()),
        Fault::Answer(200, json, "\u{feff}nonsense".into()),
        Fault::Answer(200, json, String::new()),
        Fault::Answer(202, "text/plain", String::new()),
        Fault::WrongId,
        Fault::Truncated,
        Fault::Dropped { resumable: false },
        Fault::Answer(200, "text/event-stream", "data: nonsense\n\n".into()),
        Fault::Answer(200, "text/event-stream", String::new()),
    ] {
        let name = format!("{fault:?}");
        let error = fails(fault).await;
        assert!(
            matches!(error, RequestError::Protocol { .. }),
            "{name}: {error:?}"
        );
        assert_eq!(error.executed(), Executed::Unknown, "{name}");
        assert!(!error.to_string().contains("secret"), "{name}");
    }
}

#[tokio::test]
async fn an_answer_over_the_bound_is_cut_off_as_json_and_as_stream() {
    let huge = "x".repeat(FRAME_BYTES + 1);
    for kind in ["application/json", "text/event-stream"] {
        let error = fails(Fault::Answer(200, kind, format!("data: {huge}\n\n"))).await;
        assert!(
            matches!(
                error,
                RequestError::TooLarge {
                    limit_bytes: FRAME_BYTES
                }
            ),
            "{error:?}"
        );
    }
}

#[tokio::test]
async fn refusals_before_any_effect_are_told_apart() {
    let challenge = "Bearer resource_metadata=\"https://example.com\"";
    let error = fails(Fault::Header(401, "www-authenticate", challenge.to_owned())).await;
    let RequestError::NeedsAuth {
        challenge: Some(told),
    } = error
    else {
        panic!("{error:?}")
    };
    assert_eq!(told, challenge);
    for (status, header, value) in [
        (403, "x-a", "b"),
        (429, "retry-after", "7"),
        (503, "retry-after", "7"),
        (302, "location", "http://127.0.0.1:9/"),
    ] {
        let error = fails(Fault::Header(status, header, value.to_owned())).await;
        assert!(
            matches!(error, RequestError::Unreachable { .. }),
            "{status}: {error:?}"
        );
        assert_eq!(error.executed(), Executed::No, "{status}");
        assert!(!error.to_string().contains("body of a refusal"), "{status}");
        assert_eq!(
            error.to_string().contains("7 s"),
            value == "7",
            "{status}: {error}"
        );
    }
}

#[tokio::test]
async fn a_json_rpc_error_keeps_its_words_under_any_status() {
    for status in [200, 400, 404, 500] {
        let body = json!({"jsonrpc": "2.0", "id": null, "error": {"code": -32602, "message": "no such tool", "data": 1}});
        let error = fails(Fault::Answer(status, "application/json", body.to_string())).await;
        match (status, error) {
            // A 404 on a session says that the session is gone.
            (404, RequestError::Protocol { .. }) => {}
            (_, RequestError::Rpc { code, message, .. }) => {
                assert_eq!((code, &*message), (-32602, "no such tool"), "{status}");
            }
            (_, other) => panic!("{status}: {other:?}"),
        }
    }
}

#[tokio::test]
async fn a_stream_gives_progress_and_log_in_order_before_the_result() {
    let server = FaultServer::start().await;
    let (connection, _heard) = open(&server).await;
    server.fault(Fault::Stream(5));
    let (sender, mut notes) = mpsc::channel(16);
    let request = Request {
        progress: Some(sender),
        ..call("streamed")
    };
    assert_eq!(
        text_of(&connection.request(request).await.unwrap()),
        "streamed"
    );
    let mut heard = Vec::new();
    while let Some(note) = notes.recv().await {
        let params: Value = serde_json::from_str(note.params.unwrap().get()).unwrap();
        heard.push((note.method, params["progress"].as_u64()));
    }
    let mut expected: Vec<_> = (1..=5)
        .map(|step| ("notifications/progress".to_owned(), Some(step)))
        .collect();
    expected.push(("notifications/message".to_owned(), None));
    assert_eq!(heard, expected);
}

#[tokio::test]
async fn a_broken_stream_with_an_event_id_is_taken_up_without_calling_again() {
    let server = FaultServer::start().await;
    let (connection, _heard) = open(&server).await;
    server.fault(Fault::Dropped { resumable: true });
    let answer = timeout(QUICK, connection.request(call("resumed")))
        .await
        .unwrap();
    assert_eq!(text_of(&answer.unwrap()), "resumed");
    assert_eq!(server.seen("tools/call"), 1);
}

#[tokio::test]
async fn a_stream_that_ends_politely_is_polled_no_sooner_than_the_server_wants() {
    let server = FaultServer::start().await;
    let (connection, _heard) = open(&server).await;
    server.fault(Fault::Polled(600));
    // Whoever comes sooner is turned away for good.
    let answer = connection.request(call("polled")).await;
    assert_eq!(text_of(&answer.unwrap()), "polled");
    assert_eq!(
        server.header("GET", "last-event-id").as_deref(),
        Some("e-1")
    );
    assert_eq!(server.seen("tools/call"), 1);
}

#[tokio::test]
async fn every_request_of_a_session_has_its_headers_and_none_of_the_next_era() {
    let server = FaultServer::listening().await;
    let (connection, _heard) = open(&server).await;
    server.wait_seen("listeners", 1).await;
    connection.request(call("x")).await.unwrap();
    let both = Some("application/json, text/event-stream");
    for (method, accept) in [
        ("tools/call", both),
        ("notifications/initialized", both),
        ("GET", Some("text/event-stream")),
    ] {
        let sent = |name: &str| server.header(method, name);
        assert_eq!(sent("accept").as_deref(), accept, "{method}");
        assert_eq!(sent("mcp-protocol-version").as_deref(), Some("2025-06-18"));
        assert_eq!(sent("mcp-session-id").as_deref(), Some("s-1"), "{method}");
        assert_eq!((sent("mcp-method"), sent("mcp-name")), (None, None));
    }
    assert_eq!(server.header("initialize", "accept").as_deref(), both);
    assert!(server.header("initialize", "mcp-session-id").is_none());
}

#[tokio::test]
async fn a_new_session_is_told_what_the_lost_one_knew() {
    let server = FaultServer::start().await;
    let (connection, _heard) = open(&server).await;
    let timeout = Duration::from_secs(30);
    connection
        .set_log_level(LogLevel::Error, timeout)
        .await
        .unwrap();
    for uri in ["a:1", "b:2"] {
        connection.subscribe_resource(uri, timeout).await.unwrap();
    }
    connection
        .unsubscribe_resource("b:2", timeout)
        .await
        .unwrap();
    server.forget();
    connection.request(call("x")).await.unwrap_err();
    server.wait_seen("resources/subscribe", 3).await;
    while server.told().len() < 6 {
        tokio::task::yield_now().await;
    }
    let (level, first) = (json!({"level": "error"}), json!({"uri": "a:1"}));
    let second = json!({"uri": "b:2"});
    assert_eq!(
        server.told(),
        [&level, &first, &second, &second, &level, &first].map(Clone::clone)
    );
    // A subscription that finds its session lost is said on the next one, and counts there.
    server.forget();
    connection.subscribe_resource("c:3", timeout).await.unwrap();
    assert_eq!(server.seen("initialize"), 3);
}

#[tokio::test]
async fn silence_and_a_slow_drip_end_at_the_deadline_and_are_cancelled_upstream() {
    for fault in [Fault::Silent, Fault::Drip] {
        let server = FaultServer::start().await;
        let (connection, _heard) = open(&server).await;
        server.fault(fault);
        let request = Request {
            timeout: Duration::from_millis(100),
            ..call("x")
        };
        let error = connection.request(request).await.unwrap_err();
        assert!(matches!(error, RequestError::Timeout { .. }), "{error:?}");
        server.wait_seen("notifications/cancelled", 1).await;
    }
}

#[tokio::test]
async fn a_dropped_call_is_cancelled_upstream() {
    let server = FaultServer::start().await;
    let (connection, _heard) = open(&server).await;
    server.fault(Fault::Silent);
    let calling = tokio::spawn({
        let connection = Arc::clone(&connection);
        async move { connection.request(call("x")).await.map(drop) }
    });
    server.wait_seen("tools/call", 1).await;
    calling.abort();
    server.wait_seen("notifications/cancelled", 1).await;
}

#[tokio::test]
async fn a_lost_session_is_opened_once_more_and_only_harmless_requests_are_repeated() {
    for status in [404, 400] {
        let server = FaultServer::start().await;
        let (connection, mut heard) = open(&server).await;
        assert_eq!(connection.info().mcp_session_id.as_deref(), Some("s-1"));
        server.fault(Fault::ForgetOnce(status));
        let calls = (0..8).map(|number| {
            let connection = Arc::clone(&connection);
            async move {
                let request = Request {
                    repeatable: true,
                    ..call(&number.to_string())
                };
                assert_eq!(
                    text_of(&connection.request(request).await.unwrap()),
                    number.to_string()
                );
            }
        });
        futures_util::future::join_all(calls).await;
        assert_eq!(server.seen("initialize"), 2, "{status}");
        assert!(
            matches!(heard.recv().await, Some(Inbound::Notification(told)) if told.method.ends_with("tools/list_changed"))
        );
    }
}

#[tokio::test]
async fn a_call_that_may_have_an_effect_is_not_repeated_on_a_new_session() {
    let server = FaultServer::start().await;
    let (connection, _heard) = open(&server).await;
    server.forget();
    let error = connection.request(call("x")).await.unwrap_err();
    assert!(matches!(error, RequestError::Protocol { .. }), "{error:?}");
    assert_eq!(server.seen("tools/call"), 1);
    assert_eq!(
        text_of(&connection.request(call("next")).await.unwrap()),
        "next"
    );
    assert_eq!(server.seen("initialize"), 2);
}

#[tokio::test]
async fn a_server_that_greets_no_more_does_not_hold_the_call_that_lost_its_session() {
    let server = FaultServer::start().await;
    let (connection, _heard) = open(&server).await;
    server.fault(Fault::NoGreeting);
    server.forget();
    let error = timeout(QUICK, connection.request(call("x")))
        .await
        .expect("a quick error")
        .unwrap_err();
    assert!(matches!(error, RequestError::Protocol { .. }), "{error:?}");
    connection.close().await;
}

#[tokio::test]
async fn sixty_four_calls_at_once_get_their_own_answers_and_no_handshake() {
    let server = FaultServer::start().await;
    let (connection, _heard) = open(&server).await;
    for fault in [Fault::None, Fault::Stream(1)] {
        server.fault(fault);
        let calls = (0..64).map(|number| {
            let connection = Arc::clone(&connection);
            async move {
                (
                    number.to_string(),
                    text_of(&connection.request(call(&number.to_string())).await.unwrap()),
                )
            }
        });
        for (asked, answered) in futures_util::future::join_all(calls).await {
            assert_eq!(asked, answered);
        }
    }
    assert_eq!(
        (
            server.seen("initialize"),
            server.seen("server/discover"),
            server.seen("tools/call")
        ),
        (1, 1, 128)
    );
}

#[tokio::test]
async fn one_call_after_another_uses_one_connection() {
    let server = FaultServer::start().await;
    let (connection, _heard) = open(&server).await;
    for number in 0..20 {
        connection.request(call(&number.to_string())).await.unwrap();
    }
    // One more for the GET that was refused while the first call ran.
    assert!(
        server.seen("connections") <= 2,
        "{}",
        server.seen("connections")
    );
}

#[tokio::test]
async fn more_calls_than_the_limit_are_turned_away_unsent() {
    let server = FaultServer::start().await;
    let mut narrow = spec(&server.url());
    narrow.limits.in_flight = 1;
    let (inbound, _heard) = mpsc::channel(16);
    let connection = connect(
        &narrow,
        ConnectOptions {
            known_era: None,
            inbound,
        },
    )
    .await
    .unwrap();
    server.fault(Fault::Silent);
    let held = tokio::spawn({
        let connection = Arc::clone(&connection);
        async move { connection.request(call("held")).await.map(drop) }
    });
    server.wait_seen("tools/call", 1).await;
    let error = connection.request(call("x")).await.unwrap_err();
    assert!(
        matches!(error, RequestError::Overloaded { limit: 1 }),
        "{error:?}"
    );
    connection.close().await;
    assert!(matches!(
        held.await.unwrap(),
        Err(RequestError::Closed { .. })
    ));
}

#[tokio::test]
async fn closing_takes_leave_of_the_session() {
    let server = FaultServer::start().await;
    let (connection, _heard) = open(&server).await;
    connection.close().await;
    connection.close().await;
    assert_eq!(server.seen("DELETE"), 1);
    let error = connection.request(call("x")).await.unwrap_err();
    assert_eq!(error.executed(), Executed::No);
}

#[tokio::test]
async fn what_the_server_says_by_itself_is_heard_on_every_session() {
    let server = FaultServer::listening().await;
    let (connection, mut heard) = open(&server).await;
    server.wait_seen("listeners", 1).await;
    let changed = json!({"jsonrpc": "2.0", "method": "notifications/resources/updated"});
    server.push(&changed).await;
    assert!(
        matches!(heard.recv().await, Some(Inbound::Notification(told)) if told.method.ends_with("updated"))
    );
    server.forget();
    connection.request(call("x")).await.unwrap_err();
    server.wait_seen("listeners", 2).await;
    server.push(&changed).await;
    assert!(
        matches!(heard.recv().await, Some(Inbound::Notification(told)) if told.method.ends_with("list_changed"))
    );
    assert!(
        matches!(heard.recv().await, Some(Inbound::Notification(told)) if told.method.ends_with("updated"))
    );
}

#[tokio::test]
async fn a_server_that_ends_its_streams_is_polled_as_often_as_it_says() {
    let server = FaultServer::listening().await;
    server.fault(Fault::ShortStreams);
    let (connection, _heard) = open(&server).await;
    // With the pauses of a broken stream, ever longer, this would take minutes.
    timeout(Duration::from_secs(30), server.wait_seen("GET", 8))
        .await
        .unwrap();
    assert_eq!(
        server.header("GET", "last-event-id").as_deref(),
        Some("g-1")
    );
    connection.close().await;
}

#[tokio::test]
async fn a_question_of_the_server_is_answered_during_its_call() {
    let server = FaultServer::start().await;
    let (connection, mut heard) = open(&server).await;
    server.fault(Fault::Ask);
    let calling = tokio::spawn({
        let connection = Arc::clone(&connection);
        async move { text_of(&connection.request(call("x")).await.unwrap()) }
    });
    let Some(Inbound::Request(question)) = heard.recv().await else {
        panic!("a question")
    };
    assert_eq!(question.method, "roots/list");
    let said = RawValue::from_string(json!({"said": "no roots"}).to_string()).unwrap();
    connection.answer(question.id, Ok(said)).await;
    assert_eq!(calling.await.unwrap(), "no roots");
    assert_eq!(server.answers()[0]["id"], "q1");
}

#[tokio::test]
async fn a_legacy_server_is_told_all_that_can_be_relayed_or_as_much_as_it_can_read() {
    let plain = json!({"elicitation": {}, "sampling": {}, "roots": {"listChanged": true}});
    let full = json!({
        "elicitation": {"form": {}, "url": {}}, "sampling": {"tools": {}, "context": {}},
        "roots": {"listChanged": true},
    });
    for (unreadable, declared, asked) in [
        ("/nothing", full, 1),
        ("/elicitation/form", plain, 2),
        ("/elicitation", json!({}), 3),
    ] {
        let server = FaultServer::start().await;
        server.fault(Fault::Unreadable(unreadable));
        let (connection, _heard) = open(&server).await;
        assert_eq!(server.declared(), declared, "{unreadable}");
        assert_eq!(server.seen("initialize"), asked);
        // A lost session is opened with what was understood.
        server.forget();
        connection.request(call("x")).await.unwrap_err();
        connection.request(call("x")).await.unwrap();
        assert_eq!(server.declared(), declared, "{unreadable}");
        assert_eq!(server.seen("initialize"), asked + 1);
    }
}

#[tokio::test]
async fn a_question_on_a_calls_own_stream_goes_to_that_call() {
    let server = FaultServer::start().await;
    let (connection, mut heard) = open(&server).await;
    server.fault(Fault::Ask);
    let (asks, mut asked) = mpsc::channel(1);
    let calling = tokio::spawn({
        let connection = Arc::clone(&connection);
        let request = Request {
            asks: Some(asks),
            ..call("x")
        };
        async move { text_of(&connection.request(request).await.unwrap()) }
    });
    let question = asked.recv().await.unwrap();
    assert_eq!(question.method, "roots/list");
    let said = RawValue::from_string(json!({"said": "mine"}).to_string()).unwrap();
    connection.answer(question.id, Ok(said)).await;
    assert_eq!(calling.await.unwrap(), "mine");
    assert!(heard.try_recv().is_err(), "nobody else was asked");
}

#[tokio::test]
async fn a_question_whose_call_can_take_none_is_declined_at_once() {
    let full = mpsc::channel(1);
    let filler = transports::ServerRequest {
        id: transports::RequestId(RawValue::from_string("1".into()).unwrap()),
        method: "filler".into(),
        params: None,
    };
    full.0.try_send(filler).unwrap();
    let closed = mpsc::channel(1).0;
    for asks in [full.0, closed] {
        let server = FaultServer::start().await;
        let (connection, _heard) = open(&server).await;
        server.fault(Fault::Ask);
        let request = Request {
            asks: Some(asks),
            ..call("x")
        };
        let calling = tokio::spawn({
            let connection = Arc::clone(&connection);
            async move { connection.request(request).await }
        });
        // The fake ends the call with whatever it was answered.
        assert!(timeout(QUICK, calling).await.unwrap().unwrap().is_ok());
        assert_eq!(server.answers()[0]["error"]["code"], -32603);
        assert_eq!(connection.dropped_notifications(), 1);
    }
}

#[tokio::test]
async fn what_a_calls_stream_says_is_the_calls_and_news_for_everybody_are_not() {
    let server = FaultServer::start().await;
    let (connection, mut heard) = open(&server).await;
    let note = |method: &str| json!({"jsonrpc": "2.0", "method": method, "params": {"n": 1}});
    let ping = json!({"jsonrpc": "2.0", "id": 1, "method": "ping"});
    server.fault(Fault::Say(vec![
        note("notifications/message"),
        note("notifications/tools/list_changed"),
        note("notifications/of/another/kind"),
        ping,
        note("notifications/resources/updated"),
        note("notifications/progress"),
    ]));
    let (progress, mut notes) = mpsc::channel(16);
    let (asks, mut asked) = mpsc::channel(1);
    let request = Request {
        progress: Some(progress),
        asks: Some(asks),
        ..call("x")
    };
    connection.request(request).await.unwrap();
    let mut own = Vec::new();
    while let Some(note) = notes.recv().await {
        own.push(note.method);
    }
    assert_eq!(
        own,
        [
            "notifications/message",
            "notifications/of/another/kind",
            "notifications/progress"
        ]
    );
    let mut everybodys = Vec::new();
    while let Ok(message) = heard.try_recv() {
        everybodys.push(match message {
            Inbound::Notification(note) => note.method,
            Inbound::Request(request) => request.method,
        });
    }
    assert_eq!(
        everybodys,
        [
            "notifications/tools/list_changed",
            "ping",
            "notifications/resources/updated"
        ]
    );
    assert!(asked.recv().await.is_none());
}

#[tokio::test]
async fn no_spelling_of_a_closed_address_reaches_a_listener() {
    let sentinel = FaultServer::start().await;
    let port = sentinel.address.port();
    for host in [
        "127.0.0.1",
        "127.1",
        "0x7f000001",
        "2130706433",
        "[::ffff:127.0.0.1]",
        "[::]",
        "0.0.0.0",
        "localhost",
        "localhost.",
        "user@127.0.0.1",
        "example.com@127.0.0.1",
        "169.254.169.254",
        "[::1]",
        "[64:ff9b::7f00:1]",
    ] {
        let mut closed = spec(&format!("http://{host}:{port}/mcp"));
        for sse in [false, true] {
            let (Endpoint::StreamableHttp(http) | Endpoint::LegacySse(http)) = &closed.endpoint
            else {
                unreachable!()
            };
            let http = HttpSpec {
                outbound: OutboundPolicy::default(),
                ..http.clone()
            };
            closed.endpoint = if sse {
                Endpoint::LegacySse(http)
            } else {
                Endpoint::StreamableHttp(http)
            };
            let (inbound, _heard) = mpsc::channel(1);
            let refused = connect(
                &closed,
                ConnectOptions {
                    known_era: None,
                    inbound,
                },
            )
            .await;
            assert!(
                matches!(refused, Err(ConnectError::Unreachable { .. })),
                "{host}: {refused:?}"
            );
        }
    }
    assert_eq!(sentinel.seen("connections"), 0);
}

#[tokio::test]
async fn a_wider_policy_lends_its_connections_to_nobody() {
    let server = FaultServer::start().await;
    let url = format!("http://localhost:{}/mcp", server.address.port());
    let (inbound, _heard) = mpsc::channel(16);
    let open = connect(
        &spec(&url),
        ConnectOptions {
            known_era: None,
            inbound: inbound.clone(),
        },
    )
    .await
    .unwrap();
    assert_eq!(text_of(&open.request(call("x")).await.unwrap()), "x");
    let mut closed = spec(&url);
    let Endpoint::StreamableHttp(http) = &mut closed.endpoint else {
        unreachable!()
    };
    http.outbound.allow_private = false;
    let refused = connect(
        &closed,
        ConnectOptions {
            known_era: None,
            inbound,
        },
    )
    .await;
    assert!(
        matches!(refused, Err(ConnectError::Unreachable { .. })),
        "{refused:?}"
    );
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let sentinel = FaultServer::start().await;
    for status in [302, 307, 308] {
        let error = fails(Fault::Header(status, "location", sentinel.url())).await;
        assert!(
            matches!(error, RequestError::Unreachable { .. }),
            "{error:?}"
        );
    }
    assert_eq!(sentinel.seen("connections"), 0);
}

#[tokio::test]
async fn nobody_there_no_name_and_no_tls_are_unreachable() {
    let plain = FaultServer::start().await;
    let free = {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        listener.local_addr().unwrap().port()
    };
    for url in [
        format!("http://127.0.0.1:{free}/mcp"),
        "http://name.invalid/mcp".to_owned(),
        format!("https://127.0.0.1:{}/mcp", plain.address.port()),
    ] {
        let (inbound, _heard) = mpsc::channel(1);
        let opened = timeout(
            QUICK,
            connect(
                &spec(&url),
                ConnectOptions {
                    known_era: None,
                    inbound,
                },
            ),
        )
        .await;
        assert!(
            matches!(opened, Ok(Err(ConnectError::Unreachable { .. }))),
            "{url}: {opened:?}"
        );
    }
}
