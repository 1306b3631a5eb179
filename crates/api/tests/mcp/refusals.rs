//! Bad input is answered by the specification's code and reaches nobody.

use serde_json::json;

use crate::client::{Legacy, Modern, Wish, send, servers};
use crate::kit::Bridge;
use crate::upstream::{Era, Upstream};

async fn bridge() -> (Upstream, Bridge) {
    let upstream = Upstream::start(Era::Legacy).await;
    let bridge = Bridge::start(&servers(&[("fake", upstream.definition(""))])).await;
    (upstream, bridge)
}

async fn post(
    bridge: &Bridge,
    path: &str,
    (headers, body): (&[(&str, &str)], &str),
) -> (u16, serde_json::Value) {
    let wish = Wish {
        verb: "POST",
        path,
        headers,
        body: body.to_owned(),
    };
    let mut answer = send(bridge, wish).await;
    let status = answer.status;
    let text = answer.text().await;
    (status, serde_json::from_str(&text).unwrap_or_default())
}

const META: &str = r#""_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{}}"#;
const VERSION: (&str, &str) = ("mcp-protocol-version", "2026-07-28");
const CALL: (&str, &str) = ("mcp-method", "tools/call");

#[tokio::test]
async fn malformed_messages_have_their_codes_on_both_endpoints_and_reach_nobody() {
    let (upstream, bridge) = bridge().await;
    let deep = format!("{}1{}", "[".repeat(400), "]".repeat(400));
    let deep = format!(
        r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{"name":"echo","x":{deep}}}}}"#
    );
    let call = |id: &str| {
        format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/call","params":{{"name":"echo"}}}}"#)
    };
    let cases = [
        ("", -32700),
        ("{", -32700),
        ("nonsense", -32700),
        (r#"{"jsonrpc":"2.0","id":1,"method":"ping"}}"#, -32700),
        ("[]", -32600),
        ("7", -32600),
        ("null", -32600),
        (r#"{"id":1,"method":"ping"}"#, -32600),
        (r#"{"jsonrpc":"2.0","id":1}"#, -32600),
        (&call("null"), -32600),
        (&call("1.5"), -32600),
        (&call("1e2"), -32600),
        (&call("123456789012345678901234567890"), -32600),
        (&call("{}"), -32600),
        (r#"{"jsonrpc":"2.0","id":1,"id":2,"method":"ping"}"#, -32600),
        (
            r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"echo","name":"write"}}"#,
            -32602,
        ),
        (
            r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":[1]}"#,
            -32602,
        ),
        (&deep, -32602),
    ];
    for path in ["/mcp", "/mcp/fake"] {
        for (body, code) in &cases {
            let (status, told) = post(&bridge, path, (&[], body)).await;
            assert_eq!(
                (status, &told["error"]["code"]),
                (400, &json!(code)),
                "{path} {body} {told}"
            );
            assert_eq!(told["jsonrpc"], "2.0");
        }
    }
    assert_eq!(upstream.calls(), 0);
    bridge.stop().await;
}

#[tokio::test]
async fn text_that_is_no_utf_8_is_no_message() {
    let (upstream, bridge) = bridge().await;
    let body = b"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"\xff\"}";
    let mut request = bridge
        .request(
            "POST /mcp/fake",
            &[&format!("content-length: {}", body.len())],
            "",
        )
        .into_bytes();
    request.extend_from_slice(body);
    let reply = bridge.raw(&request).await;
    assert_eq!(
        (reply.status, &reply.json()["error"]["code"]),
        (400, &json!(-32700))
    );
    assert_eq!(upstream.calls(), 0);
    bridge.stop().await;
}

#[tokio::test]
async fn duplicate_and_bottomless_arguments_are_refused_to_the_model() {
    let (upstream, bridge) = bridge().await;
    let client = Legacy::open(&bridge, "/mcp/fake", json!({})).await;
    let deferred = Legacy::open(&bridge, "/mcp", json!({})).await;
    let deep = format!("{}1{}", "[".repeat(400), "]".repeat(400));
    for arguments in [
        r#"{"message":"a","message":"b"}"#,
        r#"{"m":{"a":1,"\u0061":2}}"#,
        &deep,
    ] {
        let body = format!(
            r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{"name":"echo","arguments":{arguments}}}}}"#
        );
        let told = client.raw(&body).await.answer().await;
        assert_eq!(told["result"]["isError"], true, "{told}");
        assert_eq!(
            told["result"]["_meta"]["paperbot/fault"]["code"],
            "invalid_arguments"
        );
        // Through the deferred face as well, by each tool that carries arguments to a server.
        for (tool, reference) in [("call_tool", "fake.echo"), ("get_prompt", "fake.greet")] {
            let body = format!(
                r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{"name":"{tool}","arguments":{{"ref":"{reference}","arguments":{arguments}}}}}}}"#
            );
            let told = deferred.raw(&body).await.answer().await;
            assert_eq!(told["result"]["isError"], true, "{tool} {told}");
            let code = &told["result"]["structuredContent"]["code"];
            assert_eq!(code, "invalid_arguments", "{tool} {told}");
        }
    }
    assert_eq!(upstream.calls(), 0);
    assert_eq!(upstream.count("prompts/get"), 0);
    bridge.stop().await;
}

#[tokio::test]
async fn headers_that_say_something_else_than_the_body_are_refused() {
    let (upstream, bridge) = bridge().await;
    let body = format!(
        r#"{{"jsonrpc":"2.0","id":"k","method":"tools/call","params":{{"name":"echo",{META}}}}}"#
    );
    let name = ("mcp-name", "echo");
    for headers in [
        &[VERSION, ("mcp-method", "tools/list"), name][..],
        &[VERSION, ("mcp-method", "TOOLS/CALL"), name],
        &[VERSION, name],
        &[VERSION, CALL],
        &[VERSION, CALL, ("mcp-name", "write")],
        &[VERSION, CALL, ("mcp-name", "=?base64?!!?=")],
        &[VERSION, CALL, name, ("mcp-name", "echo")],
        &[CALL, name],
        &[("mcp-protocol-version", "2025-11-25"), CALL, name],
        &[VERSION, ("mcp-protocol-version", "2026-07-28"), CALL, name],
    ] {
        let (status, told) = post(&bridge, "/mcp/fake", (headers, &body)).await;
        assert_eq!(
            (status, &told["error"]["code"]),
            (400, &json!(-32020)),
            "{headers:?} {told}"
        );
    }
    assert_eq!(upstream.calls(), 0);
    let encoded = ("mcp-name", "=?base64?ZWNobw==?=");
    let (status, told) = post(&bridge, "/mcp/fake", (&[VERSION, CALL, encoded], &body)).await;
    assert_eq!((status, &told["id"]), (200, &json!("k")), "{told}");
    assert_eq!(upstream.calls(), 1);
    bridge.stop().await;
}

#[tokio::test]
async fn mirrored_arguments_are_held_against_the_body() {
    let upstream = Upstream::start(Era::Modern).await;
    let bridge = Bridge::start(&servers(&[("fake", upstream.definition(""))])).await;
    let client = Modern::new(&bridge, "/mcp/fake", json!({}));
    // Listed once, as any client does before it calls.
    client.answer(0, "tools/list", json!({})).await;
    let call = json!({"name": "mirrored", "arguments": {"region": "Hello"}});
    for (header, status) in [
        (None, 400),
        (Some("hello"), 400),
        (Some("=?base64?SGVsbG8?="), 400),
        (Some("Hello"), 200),
        (Some("=?base64?SGVsbG8=?="), 200),
    ] {
        let headers: Vec<_> = header
            .map(|value| ("mcp-param-region", value))
            .into_iter()
            .collect();
        let mut told = client.with(&headers, (1, "tools/call", call.clone())).await;
        assert_eq!(told.status, status, "{header:?}");
        let told = told.answer().await;
        assert_eq!(told["error"]["code"] == -32020, status == 400, "{told}");
    }
    assert_eq!(upstream.calls(), 2);
    bridge.stop().await;
}

#[tokio::test]
async fn a_revision_nobody_speaks_is_told_which_are_spoken() {
    let (upstream, bridge) = bridge().await;
    let body = r#"{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{"_meta":{"io.modelcontextprotocol/protocolVersion":"v9","io.modelcontextprotocol/clientCapabilities":{}}}}"#;
    let headers = [("mcp-protocol-version", "v9"), ("mcp-method", "tools/list")];
    let (status, told) = post(&bridge, "/mcp/fake", (&headers, body)).await;
    assert_eq!((status, &told["error"]["code"]), (400, &json!(-32022)));
    assert_eq!(told["error"]["data"]["requested"], "v9");
    assert_eq!(told["error"]["data"]["supported"][0], "2026-07-28");
    let spoken = json!([
        "2026-07-28",
        "2025-11-25",
        "2025-06-18",
        "2025-03-26",
        "2024-11-05"
    ]);
    assert_eq!(told["error"]["data"]["supported"], spoken);
    // A legacy client with a header nobody knows, too, whatever it comes for.
    let client = Legacy::open(&bridge, "/mcp/fake", json!({})).await;
    let unknown = [("mcp-protocol-version", "v9")];
    let body = r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#;
    let batch = format!("[{body}]");
    let mut answers = vec![client.with(&unknown, body).await];
    answers.push(client.with(&unknown, &batch).await);
    answers.push(client.get(&unknown).await);
    let wish = Wish {
        verb: "DELETE",
        path: "/mcp/fake",
        headers: &[("mcp-session-id", client.session.as_str()), unknown[0]],
        body: String::new(),
    };
    answers.push(send(&bridge, wish).await);
    for mut told in answers {
        assert_eq!(told.status, 400);
        assert_eq!(told.json().await["error"]["code"], -32022);
    }
    assert_eq!(
        client.answer(2, "ping", json!({})).await["result"],
        json!({})
    );
    assert_eq!(upstream.calls(), 0);
    bridge.stop().await;
}

#[tokio::test]
async fn modern_requests_without_their_metadata_are_refused() {
    let (upstream, bridge) = bridge().await;
    for params in [
        "{}",
        r#"{"_meta":{}}"#,
        r#"{"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28"}}"#,
        r#"{"_meta":{"io.modelcontextprotocol/clientCapabilities":{}}}"#,
        r#"{"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":[]}}"#,
    ] {
        let body =
            format!(r#"{{"jsonrpc":"2.0","id":1,"method":"server/discover","params":{params}}}"#);
        let headers = [VERSION, ("mcp-method", "server/discover")];
        let (status, told) = post(&bridge, "/mcp/fake", (&headers, &body)).await;
        assert_eq!(
            (status, &told["error"]["code"]),
            (400, &json!(-32602)),
            "{params} {told}"
        );
        assert_eq!(told["id"], 1);
    }
    assert_eq!(upstream.calls(), 0);
    bridge.stop().await;
}

#[tokio::test]
async fn unknown_and_removed_methods_are_404_to_modern_clients_and_an_answer_to_legacy_ones() {
    let (upstream, bridge) = bridge().await;
    for path in ["/mcp", "/mcp/fake"] {
        let modern = Modern::new(&bridge, path, json!({}));
        for method in [
            "initialize",
            "ping",
            "logging/setLevel",
            "resources/subscribe",
            "no/such",
        ] {
            let mut told = modern.ask(1, method, json!({})).await;
            assert_eq!(told.status, 404, "{method}");
            assert_eq!(told.json().await["error"]["code"], -32601);
        }
        let legacy = Legacy::open(&bridge, path, json!({})).await;
        let mut told = legacy.ask(1, "no/such", json!({})).await;
        assert_eq!(told.status, 200);
        assert_eq!(told.json().await["error"]["code"], -32601);
        assert_eq!(
            legacy.answer(2, "ping", json!({})).await["result"],
            json!({})
        );
    }
    assert_eq!(upstream.calls(), 0);
    bridge.stop().await;
}

#[tokio::test]
async fn batches_are_served_where_the_revision_knows_them_and_refused_elsewhere() {
    let (upstream, bridge) = bridge().await;
    let batch = r#"[{"jsonrpc":"2.0","id":1,"method":"ping"},{"jsonrpc":"2.0","method":"notifications/x"},
        {"jsonrpc":"2.0","id":"b","method":"tools/call","params":{"name":"echo","arguments":{"message":"hi"}}},
        {"jsonrpc":"2.0","id":3,"method":"initialize","params":{}},{"nonsense":true}]"#;
    let old = ("2025-03-26", json!({}));
    let client = Legacy::speaking(&bridge, "/mcp/fake", old).await;
    let mut stream = client.raw(batch).await;
    assert!(stream.is_stream());
    let mut answers = Vec::new();
    while let Some(answer) = stream.message().await {
        answers.push(answer);
    }
    assert_eq!(answers.len(), 4, "{answers:?}");
    let of = |id: serde_json::Value| answers.iter().find(|answer| answer["id"] == id).unwrap();
    assert_eq!(of(json!(1))["result"], json!({}));
    assert_eq!(of(json!("b"))["result"]["content"][0]["text"], "hi");
    assert!(of(json!(3))["error"].is_object());
    assert_eq!(of(json!(null))["error"]["code"], -32600);
    let mut whole = client.with(&[("accept", "application/json")], batch).await;
    assert_eq!(whole.json().await.as_array().unwrap().len(), 4);
    let quiet = r#"[{"jsonrpc":"2.0","method":"notifications/x"}]"#;
    assert_eq!(client.raw(quiet).await.status, 202);
    let calls = upstream.calls();

    let newer = Legacy::open(&bridge, "/mcp/fake", json!({})).await;
    let mut told = newer.raw(batch).await;
    assert_eq!(told.status, 400);
    assert_eq!(told.json().await["error"]["code"], -32600);
    let (status, _) = post(&bridge, "/mcp/fake", (&[VERSION], batch)).await;
    assert_eq!(status, 400);
    assert_eq!(upstream.calls(), calls);
    bridge.stop().await;
}

#[tokio::test]
async fn what_fails_before_a_message_is_read_is_a_problem() {
    let upstream = Upstream::start(Era::Legacy).await;
    let yaml = format!(
        "limits: {{body_bytes: 2000}}\n{}",
        servers(&[("fake", upstream.definition(""))])
    );
    let bridge = Bridge::start(&yaml).await;
    let ping = r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#;
    let refused = |line: &'static str, headers: &'static [&'static str], body: String| {
        let bridge = &bridge;
        async move {
            let reply = bridge.send(line, headers, &body).await;
            assert_eq!(
                reply.header("content-type").unwrap(),
                "application/problem+json",
                "{line}"
            );
            (reply.status, reply.code(), reply.header("www-authenticate"))
        }
    };
    let (status, _, challenge) = refused("POST /mcp/fake", &["no-key: 1"], ping.to_owned()).await;
    assert_eq!((status, challenge.as_deref()), (401, Some("Bearer")));
    let (status, ..) = refused(
        "POST /mcp/fake",
        &["origin: http://evil.example"],
        ping.to_owned(),
    )
    .await;
    assert_eq!(status, 403);
    let (status, ..) = refused("POST /mcp/fake", &["host: evil.example"], ping.to_owned()).await;
    assert_eq!(status, 403);
    let large = format!(
        r#"{{"jsonrpc":"2.0","id":1,"method":"ping","x":"{}"}}"#,
        "x".repeat(4000)
    );
    let (status, code, _) = refused("POST /mcp/fake", &[], large).await;
    assert_eq!((status, code.as_str()), (413, "payload_too_large"));
    for path in ["POST /mcp/nobody", "POST /mcp/NO.SUCH", "POST /mcp/%ff"] {
        let (status, code, _) = refused(path, &[], ping.to_owned()).await;
        assert_eq!((status, code.as_str()), (404, "server_not_found"), "{path}");
    }
    let (status, ..) = refused("POST /mcp/fake?exposee=a", &[], ping.to_owned()).await;
    assert_eq!(status, 400);
    let (status, ..) = refused("PUT /mcp/fake", &[], ping.to_owned()).await;
    assert_eq!(status, 405);
    assert_eq!(upstream.calls(), 0);
    bridge.stop().await;
}

#[tokio::test]
async fn a_page_of_a_trusted_origin_may_speak_mcp() {
    let bridge = Bridge::start("auth: {trusted_origins: [\"https://app.example\"]}\n").await;
    let reply = bridge
        .send(
            "OPTIONS /mcp",
            &[
                "origin: https://app.example",
                "access-control-request-headers: mcp-method, Mcp-Param-Region, x-evil",
            ],
            "",
        )
        .await;
    assert_eq!(reply.status, 204);
    let allowed = reply.header("access-control-allow-headers").unwrap();
    for name in [
        "mcp-session-id",
        "mcp-protocol-version",
        "mcp-method",
        "Mcp-Param-Region",
    ] {
        assert!(allowed.contains(name), "{allowed}");
    }
    assert!(!allowed.contains("evil"), "{allowed}");
    bridge.stop().await;
}
