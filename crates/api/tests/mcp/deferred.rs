//! `/mcp`: every server behind a handful of tools.

use serde_json::{Value, json};

use crate::client::{Legacy, Modern, Wish, send, servers, text};
use crate::kit::{Bridge, eventually};
use crate::upstream::{Era, Upstream};

/// Two servers with more tools than are listed whole.
async fn bridge() -> (Upstream, Upstream, Bridge) {
    let (old, new) = (
        Upstream::start(Era::Legacy).await,
        Upstream::start(Era::Modern).await,
    );
    let yaml = servers(&[
        ("old", old.definition(", always_expose: [echo, nothing]")),
        ("new", new.definition("")),
    ]);
    let bridge = Bridge::start(&yaml).await;
    (old, new, bridge)
}

async fn call(client: &Legacy<'_>, tool: &str, arguments: Value) -> Value {
    client
        .answer(
            1,
            "tools/call",
            json!({"name": tool, "arguments": arguments}),
        )
        .await
}

#[tokio::test]
async fn a_model_calls_whatever_stands_behind() {
    let (old, new, bridge) = bridge().await;
    let client = Legacy::open(&bridge, "/mcp", json!({})).await;
    let greeting = &client.greeting["result"];
    assert!(
        greeting["instructions"]
            .as_str()
            .unwrap()
            .contains("Servers: new, old."),
        "{greeting}"
    );
    let list = client.answer(0, "tools/list", json!({})).await;
    let names: Vec<_> = list["result"]["tools"]
        .as_array()
        .unwrap()
        .iter()
        .map(|t| &t["name"])
        .collect();
    assert_eq!(
        names,
        [
            "find_tools",
            "get_tool_help",
            "call_tool",
            "list_resources",
            "read_resource",
            "list_prompts",
            "get_prompt",
            "old__echo"
        ]
    );
    for (reference, upstream) in [("old.echo", &old), ("new.echo", &new)] {
        let wanted = json!({"ref": reference, "arguments": {"message": "hi"}});
        let told = call(&client, "call_tool", wanted).await;
        assert_eq!(text(&told), "hi");
        // The result is the server's own.
        assert_eq!(told["result"]["unknown"], json!({"kept": 2.0}));
        assert_eq!(upstream.calls(), 1);
    }
    let told = call(&client, "old__echo", json!({"message": "direct"})).await;
    assert_eq!(text(&told), "direct");
    bridge.stop().await;
}

#[tokio::test]
async fn tools_are_found_by_a_line_and_explained_whole() {
    let (_old, _new, bridge) = bridge().await;
    let client = Legacy::open(&bridge, "/mcp", json!({})).await;
    let found = call(
        &client,
        "find_tools",
        json!({"queries": ["add numbers"], "limit": 2}),
    )
    .await;
    let line = text(&found).lines().next().unwrap().to_owned();
    assert!(line.contains(".add(a: number)"), "{line}");
    let all = call(&client, "find_tools", json!({"limit": 50, "server": "old"})).await;
    assert_eq!(text(&all).lines().count(), 8, "{}", text(&all));
    assert!(
        text(&all).contains("old.write(message?) - The tool write. [may destroy]"),
        "{}",
        text(&all)
    );
    let help = call(
        &client,
        "get_tool_help",
        json!({"refs": ["old.add", "old.nope"]}),
    )
    .await;
    let help: Value = serde_json::from_str(text(&help)).unwrap();
    assert_eq!(help[0]["input_schema"]["required"], json!(["a"]), "{help}");
    assert_eq!(help[1]["missing"], true);
    let hash = help[0]["hash"].as_str().unwrap();
    let known = call(
        &client,
        "get_tool_help",
        json!({"refs": ["old.add"], "if_hash": [hash]}),
    )
    .await;
    assert!(text(&known).contains(r#""unchanged":true"#), "{known}");
    bridge.stop().await;
}

/// A wrong call, its code, and a part of the hint.
type Mistake = (&'static str, Value, &'static str, &'static str);

fn mistakes() -> Vec<Mistake> {
    let mut mistakes = mistaken_calls();
    mistakes.extend(mistaken_lookups());
    mistakes
}

fn mistaken_calls() -> Vec<Mistake> {
    vec![
        (
            "call_tool",
            json!({"ref": "old.add", "arguments": {"a": "x"}}),
            "invalid_arguments",
            "old.add(a: number)",
        ),
        (
            "call_tool",
            json!({"ref": "old.ad", "arguments": {}}),
            "tool_not_found",
            "old.add",
        ),
        (
            "call_tool",
            json!({"ref": "add"}),
            "tool_not_found",
            "server.tool",
        ),
        (
            "call_tool",
            json!({"reff": "old.add"}),
            "invalid_arguments",
            "call_tool(ref: string",
        ),
        (
            "call_tool",
            json!({"ref": "old.add", "arguments": {"a": 1}, "schema_hash": "000000000000"}),
            "schema_changed",
            "old.add(a: number)",
        ),
        (
            "call_tool",
            json!({"ref": "old.fail"}),
            "upstream_protocol_error",
            "",
        ),
    ]
}

fn mistaken_lookups() -> Vec<Mistake> {
    vec![
        (
            "get_tool_help",
            json!({}),
            "invalid_arguments",
            "get_tool_help(refs",
        ),
        (
            "find_tools",
            json!({"server": "olt"}),
            "server_not_found",
            "old",
        ),
        (
            "read_resource",
            json!({"server": "old", "uri": "a://c"}),
            "resource_not_found",
            "",
        ),
        (
            "read_resource",
            json!({"server": "NO"}),
            "invalid_arguments",
            "read_resource(server",
        ),
        (
            "get_prompt",
            json!({"ref": "greet"}),
            "prompt_not_found",
            "server.prompt",
        ),
    ]
}

#[tokio::test]
async fn a_failure_says_in_one_step_how_to_repair_the_call() {
    let (old, _new, bridge) = bridge().await;
    let client = Legacy::open(&bridge, "/mcp", json!({})).await;
    for (tool, arguments, code, hint) in mistakes() {
        let told = call(&client, tool, arguments.clone()).await;
        assert_eq!(told["result"]["isError"], true, "{arguments} {told}");
        let fault = &told["result"]["structuredContent"];
        assert_eq!(fault["code"], code, "{told}");
        assert!(fault["executed"].is_string());
        assert!(text(&told).starts_with(code), "{told}");
        assert!(text(&told).contains(hint), "{hint} in {told}");
    }
    assert_eq!(
        old.count("tools/call"),
        1,
        "only the tool that fails by itself was called"
    );
    bridge.stop().await;
}

#[tokio::test]
async fn resources_and_prompts_of_all_servers_are_listed_and_read() {
    let (_old, _new, bridge) = bridge().await;
    let client = Legacy::open(&bridge, "/mcp", json!({})).await;
    let listed = call(&client, "list_resources", json!({})).await;
    assert!(
        text(&listed).contains("old a://b") && text(&listed).contains("new a://b"),
        "{listed}"
    );
    let read = call(
        &client,
        "read_resource",
        json!({"server": "new", "uri": "a://b"}),
    )
    .await;
    let block = &read["result"]["content"][0];
    assert_eq!(block["type"], "resource", "{read}");
    assert_eq!(
        block["resource"],
        json!({"uri": "a://b", "text": "hello", "x": 1.0})
    );
    let listed = call(&client, "list_prompts", json!({"server": "old"})).await;
    assert!(text(&listed).starts_with("old.greet"), "{listed}");
    let got = call(
        &client,
        "get_prompt",
        json!({"ref": "old.greet", "arguments": {"a": "b"}}),
    )
    .await;
    assert_eq!(text(&got), "user: Greet.");
    bridge.stop().await;
}

#[tokio::test]
async fn a_url_exposes_tools_of_its_choice_and_progress_still_comes() {
    let (_old, new, bridge) = bridge().await;
    let client = Modern::new(
        &bridge,
        "/mcp?expose=new.progress,new.gone,new.odd.name/x",
        json!({}),
    );
    let list = client.answer(0, "tools/list", json!({})).await;
    let names = list["result"]["tools"]
        .as_array()
        .unwrap()
        .iter()
        .map(|t| t["name"].as_str().unwrap());
    let direct: Vec<_> = names.filter(|name| name.contains("__")).collect();
    assert_eq!((direct[0], direct[2]), ("new__progress", "old__echo"));
    let odd = direct[1].to_owned();
    assert!(odd.starts_with("new__odd_name_x_"), "{odd}");
    let told = client
        .answer(9, "tools/call", json!({"name": odd, "arguments": {}}))
        .await;
    assert_eq!(text(&told), "-");
    assert_eq!(new.last("tools/call").unwrap()["name"], "odd.name/x");
    let wanted = json!({"name": "new__progress", "arguments": {}, "_meta": {"progressToken": 5}});
    let mut stream = client.ask(1, "tools/call", wanted).await;
    let first = stream.message().await.unwrap();
    assert_eq!(first["params"]["progressToken"], 5, "{first}");
    assert_eq!(text(&stream.answer().await), "done");
    // A tool that is not exposed is found by its listed name all the same; one that is hidden is not there.
    let told = client
        .answer(
            2,
            "tools/call",
            json!({"name": "new__nope", "arguments": {}}),
        )
        .await;
    assert_eq!(told["error"]["code"], -32602);
    assert_eq!(new.calls(), 2);
    let many = format!("/mcp?expose={}", "a.b,".repeat(100));
    let wish = Wish {
        verb: "POST",
        path: &many,
        headers: &[],
        body: String::new(),
    };
    assert_eq!(send(&bridge, wish).await.status, 400);
    bridge.stop().await;
}

#[tokio::test]
async fn a_question_of_any_server_reaches_the_client_through_call_tool() {
    let (_old, _new, bridge) = bridge().await;
    for server in ["old", "new"] {
        let arguments = json!({"ref": format!("{server}.ask"), "arguments": {}});
        let asks = json!({"name": "call_tool", "arguments": arguments});
        let modern = Modern::new(&bridge, "/mcp", json!({"elicitation": {}}));
        let asked = modern.answer(1, "tools/call", asks.clone()).await;
        let result = &asked["result"];
        assert_eq!(result["resultType"], "input_required", "{asked}");
        let key = result["inputRequests"]
            .as_object()
            .unwrap()
            .keys()
            .next()
            .unwrap();
        let mut again = asks.clone();
        again["requestState"] = result["requestState"].clone();
        again["inputResponses"] = json!({key: {"action": "accept", "content": {"name": "Ann"}}});
        assert_eq!(
            text(&modern.answer(2, "tools/call", again).await),
            "accept Ann"
        );

        let legacy = Legacy::open(&bridge, "/mcp", json!({"elicitation": {}})).await;
        let mut stream = legacy.ask(1, "tools/call", asks).await;
        let question = stream.message().await.unwrap();
        let answer =
            json!({"jsonrpc": "2.0", "id": question["id"], "result": {"action": "decline"}});
        legacy.raw(&answer.to_string()).await;
        assert_eq!(text(&stream.answer().await), "decline nobody");
    }
    bridge.stop().await;
}

#[tokio::test]
async fn a_viewer_finds_only_what_reads() {
    let (old, _new, bridge) = bridge().await;
    let key = format!("Bearer {}", bridge.key_of("vera", "viewer").await);
    let ask = |params: Value| {
        let (bridge, key) = (&bridge, key.clone());
        async move {
            let client = Modern::new(bridge, "/mcp", json!({}));
            let headers = [("authorization", key.as_str())];
            client
                .with(&headers, (1, "tools/call", params))
                .await
                .answer()
                .await
        }
    };
    let found = eventually("the servers are listed", || async {
        let found = ask(json!({"name": "find_tools", "arguments": {"limit": 50}})).await;
        text(&found).contains("new.echo").then_some(found)
    })
    .await;
    assert!(!text(&found).contains("write"), "{found}");
    let told = ask(json!({"name": "call_tool", "arguments": {"ref": "old.write"}})).await;
    assert_eq!(told["result"]["isError"], true, "{told}");
    assert_eq!(old.calls(), 0);
    bridge.stop().await;
}
