//! `mcp`: a host on standard input and output, a streamable HTTP server at the other end.

use std::net::TcpListener;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};

use crate::bridge::{Seen, problem};
use crate::face::{Diary, Face, Talk, asked};
use crate::host::{Host, call, initialize, modern};

const SESSION: &str = "mcp-session-id: s-1\r\n";

fn agreed() -> Value {
    json!({"protocolVersion": "2025-11-25", "capabilities": {}, "serverInfo": {"name": "b", "version": "1"}})
}

/// What every legacy server does; the rest is the test's.
fn legacy(seen: &Seen, talk: Talk) -> Option<Talk> {
    match asked(seen).as_str() {
        "POST initialize" => {
            let answer = json!({"jsonrpc": "2.0", "id": seen.json()["id"], "result": agreed()});
            talk.answer(200, SESSION, &answer.to_string());
        }
        "POST notifications/initialized" => talk.answer(202, "", ""),
        "DELETE" => talk.answer(204, "", ""),
        _ => return Some(talk),
    }
    None
}

fn tool(seen: &Seen) -> String {
    seen.json()["params"]["name"]
        .as_str()
        .unwrap_or_default()
        .to_owned()
}

fn text(text: &str) -> Value {
    json!({"content": [{"type": "text", "text": text}]})
}

#[test]
fn a_legacy_session_is_opened_carried_along_and_ended() {
    let face = Face::answering(|seen, talk, _| {
        let Some(talk) = legacy(seen, talk) else {
            return;
        };
        match seen.method.as_str() {
            "GET" => talk.answer(405, "", ""),
            _ => talk.result(seen, &text("hi")),
        }
    });
    let mut host = Host::of(&face, &["--server", "demo", "--workspace", "w"]);
    assert_eq!(host.initialize()["result"], agreed());
    host.send(&call(1, "greet"));
    assert_eq!(host.next()["result"], text("hi"));
    face.diary().wait_for("GET");
    let (rest, stderr) = host.close();
    assert_eq!((rest, stderr.as_str()), (Vec::new(), ""));
    let seen = face.seen();
    for one in &seen {
        assert_eq!(one.path, "/mcp/demo");
        assert_eq!(one.header("x-workspace"), Some("w"));
        assert_eq!(one.header("authorization"), Some("Bearer pb_test_token"));
        let first = asked(one) == "POST initialize";
        let (session, version) = (
            one.header("mcp-session-id"),
            one.header("mcp-protocol-version"),
        );
        let expected = (!first).then_some(("s-1", "2025-11-25"));
        assert_eq!(session.zip(version), expected, "{one:?}");
        assert_eq!(one.header("mcp-method"), None);
    }
    assert_eq!(face.asked().iter().filter(|one| *one == "GET").count(), 1);
    assert_eq!(face.asked().last().map(String::as_str), Some("DELETE"));
    assert_eq!(
        seen[0].header("accept"),
        Some("application/json, text/event-stream")
    );
}

#[test]
fn a_modern_request_says_in_headers_what_its_body_says() {
    let face = Face::answering(|seen, talk, _| talk.result(seen, &json!({})));
    let mut host = Host::of(&face, &[]);
    for (id, (method, params)) in [
        ("server/discover", json!({})),
        ("tools/call", json!({"name": "café"})),
        ("resources/read", json!({"uri": "x://y"})),
        ("tasks/get", json!({"taskId": "t-1"})),
        ("tools/list", json!({"name": "no"})),
    ]
    .iter()
    .enumerate()
    {
        host.send(&modern(id as u64, method, params));
        assert_eq!(host.next()["id"], id);
    }
    host.close();
    let headers: Vec<(String, String, String)> = face
        .seen()
        .iter()
        .map(|seen| {
            assert_eq!(seen.path, "/mcp");
            assert_eq!(seen.header("mcp-session-id"), None);
            let header = |name| seen.header(name).unwrap_or("-").to_owned();
            (
                header("mcp-protocol-version"),
                header("mcp-method"),
                header("mcp-name"),
            )
        })
        .collect();
    let expected = [
        ("server/discover", "-"),
        ("tools/call", "=?base64?Y2Fmw6k=?="),
        ("resources/read", "x://y"),
        ("tasks/get", "t-1"),
        ("tools/list", "-"),
    ]
    .map(|(method, name)| ("2026-07-28".to_owned(), method.to_owned(), name.to_owned()));
    assert_eq!(headers, expected);
}

#[test]
fn parameters_a_tool_list_marks_are_repeated_in_headers() {
    let face = Face::answering(|seen, talk, _| {
        let tools = json!({"tools": [{"name": "sql", "inputSchema": {"properties":
            {"region": {"type": "string", "x-mcp-header": "Region"}}}}]});
        talk.result(seen, &tools);
    });
    let mut host = Host::of(&face, &[]);
    host.send(&modern(1, "tools/list", &json!({})));
    host.next();
    host.send(&modern(
        2,
        "tools/call",
        &json!({"name": "sql", "arguments": {"region": "west"}}),
    ));
    host.next();
    host.close();
    assert_eq!(face.seen()[1].header("mcp-param-region"), Some("west"));
}

#[test]
fn notifications_of_a_call_come_before_its_answer_whatever_shape_it_has() {
    let face = Face::answering(|seen, talk, _| match tool(seen).as_str() {
        "streams" => {
            let mut events = talk.events("");
            for step in 1..=3 {
                events.send(&json!({"jsonrpc": "2.0", "method": "notifications/progress", "params": {"progress": step}}));
            }
            events
                .send(&json!({"jsonrpc": "2.0", "id": seen.json()["id"], "result": text("done")}));
        }
        _ => talk.answer(
            200,
            "",
            "{\"jsonrpc\":\"2.0\",\n  \"id\": 2,\n  \"result\": {}\n}\n",
        ),
    });
    let mut host = Host::of(&face, &[]);
    host.send(&modern(1, "tools/call", &json!({"name": "streams"})));
    for step in 1..=3 {
        assert_eq!(host.next()["params"]["progress"], step);
    }
    assert_eq!(host.next()["result"], text("done"));
    host.send(&modern(2, "tools/call", &json!({"name": "pretty"})));
    assert_eq!(
        host.next(),
        json!({"jsonrpc": "2.0", "id": 2, "result": {}})
    );
    host.close();
}

#[test]
fn a_slow_request_holds_up_no_other() {
    let face = Face::answering(|seen, talk, diary| {
        if tool(seen) == "slow" {
            diary.wait_for("fast was answered");
        }
        talk.result(seen, &text(&tool(seen)));
    });
    let mut host = Host::of(&face, &[]);
    host.send(&call(1, "slow"));
    host.send(&call(2, "fast"));
    assert_eq!(host.next()["id"], 2);
    face.diary().note("fast was answered");
    assert_eq!(host.next()["id"], 1);
    host.close();
}

#[test]
fn nothing_overtakes_the_opening_of_a_session() {
    let face = Face::answering(|seen, talk, _| {
        let Some(talk) = legacy(seen, talk) else {
            return;
        };
        match seen.method.as_str() {
            "GET" => talk.answer(405, "", ""),
            _ => talk.result(seen, &text("hi")),
        }
    });
    let mut host = Host::of(&face, &[]);
    host.send(&initialize());
    host.send(&json!({"jsonrpc": "2.0", "method": "notifications/initialized"}));
    host.send(&call(1, "a"));
    assert_eq!(host.next()["id"], "init");
    assert_eq!(host.next()["id"], 1);
    host.close();
    assert_eq!(
        face.asked()[..2],
        ["POST initialize", "POST notifications/initialized"]
    );
    let seen = face.seen();
    let call = seen.iter().find(|one| asked(one) == "POST tools/call");
    assert_eq!(call.unwrap().header("mcp-session-id"), Some("s-1"));
}

#[test]
fn cancelling_a_modern_request_closes_its_stream_and_says_nothing_more() {
    let face = Face::answering(|seen, talk, diary| {
        if tool(seen) == "endless" {
            let mut events = talk.events("");
            events.send(&json!({"jsonrpc": "2.0", "method": "notifications/progress", "params": {"progress": 1}}));
            events.wait_for_hangup();
            diary.note("the client left");
        } else {
            talk.result(seen, &json!({}));
        }
    });
    let mut host = Host::of(&face, &[]);
    host.send(&modern(1, "tools/call", &json!({"name": "endless"})));
    assert_eq!(host.next()["method"], "notifications/progress");
    host.send(
        &json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 1}}),
    );
    face.diary().wait_for("the client left");
    host.send(&modern(2, "ping", &json!({})));
    assert_eq!(host.next()["id"], 2);
    assert_eq!(host.close().0, Vec::<Value>::new());
    assert_eq!(face.asked(), ["POST tools/call", "POST ping"]);
}

#[test]
fn cancelling_a_legacy_request_is_told_and_its_silence_is_no_error() {
    let face = Face::answering(|seen, talk, diary| {
        let Some(talk) = legacy(seen, talk) else {
            return;
        };
        match asked(seen).as_str() {
            "GET" => talk.answer(405, "", ""),
            "POST notifications/cancelled" => {
                talk.answer(202, "", "");
                diary.note("cancelled");
            }
            "POST tools/call" => {
                let _events = talk.events("");
                diary.wait_for("cancelled");
            }
            _ => talk.result(seen, &json!({})),
        }
    });
    let mut host = Host::of(&face, &[]);
    host.initialize();
    host.send(&call(1, "endless"));
    face.diary().wait_for("POST tools/call");
    host.send(
        &json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 1}}),
    );
    face.diary().wait_for("cancelled");
    host.send(&json!({"jsonrpc": "2.0", "id": 2, "method": "ping"}));
    assert_eq!(host.next()["id"], 2);
    assert_eq!(host.close().0, Vec::<Value>::new());
}

#[test]
fn a_subscription_is_a_long_post_beside_the_others() {
    let face = Face::answering(|seen, talk, diary| {
        if asked(seen) == "POST subscriptions/listen" {
            let mut events = talk.events("");
            events.send(
                &json!({"jsonrpc": "2.0", "method": "notifications/subscriptions/acknowledged"}),
            );
            diary.wait_for("POST ping");
            events.send(&json!({"jsonrpc": "2.0", "method": "notifications/tools/list_changed"}));
            events.wait_for_hangup();
            diary.note("the listener left");
        } else {
            talk.result(seen, &json!({}));
        }
    });
    let mut host = Host::of(&face, &[]);
    host.send(&modern(
        1,
        "subscriptions/listen",
        &json!({"notifications": {"toolsListChanged": true}}),
    ));
    assert_eq!(
        host.next()["method"],
        "notifications/subscriptions/acknowledged"
    );
    host.send(&modern(2, "ping", &json!({})));
    let mut next = [host.next(), host.next()];
    next.sort_by_key(|message| message["id"].is_null());
    assert_eq!(next[0]["id"], 2);
    assert_eq!(next[1]["method"], "notifications/tools/list_changed");
    // The end of standard input ends what is under way.
    assert_eq!(host.close().0, Vec::<Value>::new());
    face.diary().wait_for("the listener left");
}

#[test]
fn what_the_server_says_and_asks_unbidden_reaches_the_host() {
    let face = Face::answering(|seen, talk, diary| {
        let Some(talk) = legacy(seen, talk) else {
            return;
        };
        match asked(seen).as_str() {
            "GET" => {
                let resumed = seen.header("last-event-id").map(str::to_owned);
                let mut events = talk.events("");
                if resumed.as_deref() == Some("e-1") {
                    events.send(&json!({"jsonrpc": "2.0", "id": "q", "method": "roots/list"}));
                    events.wait_for_hangup();
                } else {
                    events.send_with_id(
                        "e-1",
                        &json!({"jsonrpc": "2.0", "method": "notifications/tools/list_changed"}),
                    );
                }
            }
            "POST (answer)" => {
                talk.answer(202, "", "");
                diary.note(&seen.body);
            }
            _ => talk.result(seen, &json!({})),
        }
    });
    let mut host = Host::of(&face, &[]);
    host.initialize();
    assert_eq!(host.next()["method"], "notifications/tools/list_changed");
    // The stream ended; the next one goes on where it was.
    assert_eq!(host.next()["method"], "roots/list");
    let answer = json!({"jsonrpc": "2.0", "id": "q", "result": {"roots": []}});
    host.send(&answer);
    face.diary().wait_for(&answer.to_string());
    host.close();
}

#[test]
fn a_session_that_is_gone_is_opened_again_once_and_nobody_notices() {
    let opened = AtomicUsize::new(0);
    let face = Face::answering(move |seen, talk, diary| {
        let session = seen.header("mcp-session-id").unwrap_or("none").to_owned();
        match asked(seen).as_str() {
            "POST initialize" => {
                let count = opened.fetch_add(1, Ordering::SeqCst) + 1;
                let answer = json!({"jsonrpc": "2.0", "id": seen.json()["id"], "result": agreed()});
                talk.answer(
                    200,
                    &format!("mcp-session-id: s-{count}\r\n"),
                    &answer.to_string(),
                );
            }
            "POST notifications/initialized" => talk.answer(202, "", ""),
            "GET" => talk.answer(405, "", ""),
            "DELETE" => talk.answer(204, "", ""),
            _ if session == "s-1" => {
                // Both are on their way before either hears that the session is gone.
                diary.note(&tool(seen));
                diary.wait_for("a");
                diary.wait_for("b");
                talk.answer(404, "", &problem("session_not_found", 404).to_string());
            }
            _ => talk.result(seen, &text(&session)),
        }
    });
    let mut host = Host::of(&face, &[]);
    host.initialize();
    host.send(&call(1, "a"));
    host.send(&call(2, "b"));
    for _ in 0..2 {
        assert_eq!(host.next()["result"], text("s-2"));
    }
    let (rest, stderr) = host.close();
    assert_eq!(rest, Vec::<Value>::new());
    assert!(stderr.contains("opening it again"), "{stderr}");
    let count = |what: &str| face.asked().iter().filter(|one| *one == what).count();
    assert_eq!(count("POST initialize"), 2);
    assert_eq!(count("POST notifications/initialized"), 2);
    assert_eq!(count("POST tools/call"), 4);
}

#[test]
fn an_unknown_method_is_an_answer_and_no_lost_session() {
    let face = Face::answering(|seen, talk, _| {
        let Some(talk) = legacy(seen, talk) else {
            return;
        };
        match seen.method.as_str() {
            "GET" => talk.answer(405, "", ""),
            _ => talk.answer(
                404,
                "",
                r#"{"jsonrpc":"2.0","id":null,"error":{"code":-32601,"message":"no"}}"#,
            ),
        }
    });
    let mut host = Host::of(&face, &[]);
    host.initialize();
    host.send(&json!({"jsonrpc": "2.0", "id": 5, "method": "no/such"}));
    assert_eq!(
        host.next(),
        json!({"jsonrpc": "2.0", "id": 5, "error": {"code": -32601, "message": "no"}})
    );
    host.close();
}

#[test]
fn a_refusal_of_the_bridge_is_an_error_of_its_request() {
    let face = Face::answering(|seen, talk, _| {
        let mut refusal = problem("rate_limited", 429);
        refusal["retryable"] = json!(true);
        match tool(seen).as_str() {
            "busy" => talk.answer(429, "retry-after: 7\r\n", &refusal.to_string()),
            "mismatch" => talk.answer(
                400,
                "",
                r#"{"jsonrpc":"2.0","error":{"code":-32020,"message":"m"}}"#,
            ),
            "html" => talk.answer(200, "", "<html>"),
            "cut" => drop(talk.events("")),
            _ => talk.answer(202, "", ""),
        }
    });
    let mut host = Host::of(&face, &[]);
    let mut error = |tool: &str| {
        host.send(&call(1, tool));
        let answer = host.next();
        assert_eq!(answer["id"], 1);
        answer["error"].clone()
    };
    let busy = error("busy");
    assert_eq!(
        (&busy["code"], &busy["message"]),
        (&json!(-32000), &json!("what went wrong"))
    );
    assert_eq!(busy["data"]["code"], "rate_limited");
    assert_eq!(busy["data"]["retry_after_s"], 7);
    assert_eq!(busy["data"]["retryable"], true);
    assert_eq!(error("mismatch")["code"], -32020);
    for broken in ["html", "cut", "accepted"] {
        let error = error(broken);
        assert_eq!(
            error["data"]["code"], "bridge_protocol",
            "{broken}: {error}"
        );
        assert_eq!(error["data"]["executed"], "unknown", "{broken}");
    }
    host.close();
}

#[test]
fn a_bridge_that_is_away_costs_an_answer_each_and_is_found_when_it_is_back() {
    let port = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let mut host = Host::at(&format!("http://{port}"), &[]);
    for id in 1..=2 {
        host.send(&call(id, "a"));
        let answer = host.next();
        assert_eq!(
            (&answer["id"], &answer["error"]["code"]),
            (&json!(id), &json!(-32000))
        );
        let data = &answer["error"]["data"];
        assert_eq!(data["code"], "bridge_unreachable");
        assert_eq!(
            (&data["retryable"], &data["executed"]),
            (&json!(true), &json!("no"))
        );
    }
    let listener = TcpListener::bind(port).unwrap();
    let face = Face::on(listener, |seen: &Seen, talk: Talk, _: &Diary| {
        talk.result(seen, &text("back"));
    });
    host.send(&call(3, "a"));
    assert_eq!(host.next()["result"], text("back"));
    assert_eq!(face.asked(), ["POST tools/call"]);
    host.close();
}

#[test]
fn a_line_that_is_no_message_is_answered_and_the_next_one_goes_through() {
    let face = Face::answering(|seen, talk, _| talk.result(seen, &json!({})));
    let mut host = Host::of(&face, &[]);
    host.send_line("");
    host.send_line("{\"id\": 1,");
    assert_eq!(host.next()["error"]["code"], -32700);
    host.send_line("{\"jsonrpc\": \"2.0\"}");
    assert_eq!(host.next()["error"]["code"], -32600);
    let long = format!(
        "{{\"jsonrpc\":\"2.0\",\"id\":9,\"method\":\"{}\"}}",
        "x".repeat(16 * 1024 * 1024)
    );
    host.send_line(&long);
    let error = host.next();
    assert_eq!(
        (&error["id"], &error["error"]["data"]["code"]),
        (&json!(9), &json!("payload_too_large"))
    );
    host.send(&call(2, "a"));
    assert_eq!(host.next()["id"], 2);
    host.close();
    assert_eq!(face.asked(), ["POST tools/call"]);
}

#[test]
fn more_requests_than_can_be_carried_are_refused_and_cancelling_still_works() {
    let face = Face::answering(|seen, talk, diary| {
        if tool(seen) == "endless" {
            talk.events("").wait_for_hangup();
            diary.note("left");
        } else {
            talk.result(seen, &json!({}));
        }
    });
    let mut host = Host::of(&face, &[]);
    for id in 0..128 {
        host.send(&modern(id, "tools/call", &json!({"name": "endless"})));
    }
    host.send(&modern(128, "tools/call", &json!({"name": "one more"})));
    let refused = host.next();
    assert_eq!(
        (&refused["id"], &refused["error"]["data"]["code"]),
        (&json!(128), &json!("overloaded"))
    );
    face.diary().wait_for_many("POST tools/call", 128);
    host.send(
        &json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 5}}),
    );
    face.diary().wait_for("left");
    host.send(&modern(129, "tools/call", &json!({"name": "again"})));
    assert_eq!(host.next()["id"], 129);
    host.close();
}

#[cfg(unix)]
#[test]
fn a_signal_ends_it_as_the_end_of_standard_input_does() {
    use nix::sys::signal::{Signal, kill};
    use nix::unistd::Pid;

    let face = Face::answering(|seen, talk, diary| {
        let Some(talk) = legacy(seen, talk) else {
            return;
        };
        if seen.method == "GET" {
            talk.answer(405, "", "");
        } else {
            talk.events("").wait_for_hangup();
            diary.note("the caller left");
        }
    });
    let mut host = Host::of(&face, &[]);
    host.initialize();
    host.send(&call(1, "endless"));
    face.diary().wait_for("POST tools/call");
    kill(
        Pid::from_raw(host.child.id().cast_signed()),
        Signal::SIGTERM,
    )
    .unwrap();
    assert_eq!(host.ended().0, Vec::<Value>::new());
    face.diary().wait_for("the caller left");
    face.diary().wait_for("DELETE");
}
