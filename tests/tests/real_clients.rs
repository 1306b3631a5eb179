//! Clients nobody here wrote, through the real daemon: each lists and calls on both MCP faces.
//!
//! `/mcp` shows few tools over all servers (`find_tools`, `get_tool_help`, `call_tool`); `/mcp/{server}` shows a server's own.

#![expect(clippy::unwrap_used, reason = "a step that fails is the test failing")]

use serde_json::{Value, json};
use testkit::Bridge;
use testkit::clients::{self, node, node_script, python, run};
use testkit::upstreams;

const MODERN: &str = "2026-07-28";

/// Enough tools that `/mcp` defers them.
async fn bridge(home: &tempfile::TempDir) -> Bridge {
    let memory = upstreams::memory(&home.path().join("memory.json"));
    let bridge = Bridge::start(vec![upstreams::everything(), memory]).await;
    bridge.wait_for_ref("everything.echo").await;
    bridge.wait_for_ref("memory.read_graph").await;
    bridge
}

/// The calls a model makes on the deferred face, from knowing nothing to the answer.
fn deferred_calls() -> Value {
    json!([
        {"name": "find_tools", "arguments": {"queries": ["echo a message"]}},
        {"name": "get_tool_help", "arguments": {"refs": ["everything.echo"]}},
        {"name": "call_tool", "arguments": {"ref": "everything.echo", "arguments": {"message": "hello"}}}
    ])
}

fn native_calls() -> Value {
    json!([{"name": "echo", "arguments": {"message": "hello"}}])
}

fn names(said: &Value) -> Vec<&str> {
    let tools = said["tools"].as_array().unwrap();
    tools.iter().filter_map(Value::as_str).collect()
}

fn is_deferred(said: &Value) {
    for wanted in ["find_tools", "get_tool_help", "call_tool"] {
        assert!(names(said).contains(&wanted), "{said}");
    }
    assert!(!names(said).contains(&"echo"), "{said}");
    let results = said["results"].as_array().unwrap();
    assert!(results[0].to_string().contains("everything.echo"), "{said}");
    assert!(results[1].to_string().contains("message"), "{said}");
    assert!(results[2].to_string().contains("Echo: hello"), "{said}");
}

fn is_native(said: &Value) {
    assert!(names(said).contains(&"echo"), "{said}");
    assert!(!names(said).contains(&"find_tools"), "{said}");
    assert!(
        said["results"][0].to_string().contains("Echo: hello"),
        "{said}"
    );
}

/// A client that is a script of ours around an SDK, in one era.
async fn a_script_works(program: &str, script: &str, eras: &[&str]) {
    let home = tempfile::tempdir().unwrap();
    let bridge = bridge(&home).await;
    let script = clients::folder().join(script).display().to_string();
    for era in eras {
        for (path, calls) in [
            ("/mcp", deferred_calls()),
            ("/mcp/everything", native_calls()),
        ] {
            let url = format!("http://{}{path}", bridge.authority);
            let calls = calls.to_string();
            let said = run(&[program, &script, &url, &calls, era], &bridge.admin_key).await;
            if path == "/mcp" {
                is_deferred(&said.json);
            } else {
                is_native(&said.json);
            }
        }
    }
}

#[tokio::test]
async fn the_first_typescript_sdk() {
    a_script_works(&node(), "ts_sdk_v1.mjs", &["legacy"]).await;
}

#[tokio::test]
async fn the_second_typescript_sdk_in_both_eras() {
    a_script_works(&node(), "ts_sdk_v2.mjs", &["legacy", "auto", MODERN]).await;
}

#[tokio::test]
async fn the_python_sdk_in_both_eras() {
    a_script_works(&python(), "python_sdk.py", &["legacy", "auto", MODERN]).await;
}

#[tokio::test]
async fn fastmcp_in_both_eras() {
    a_script_works(&python(), "fastmcp_client.py", &["legacy", "auto", MODERN]).await;
}

/// A client that only starts programs, with `paperbot-mcp mcp` between it and the bridge.
async fn a_script_works_over_stdio(program: &str, script: &str, eras: &[&str]) {
    let home = tempfile::tempdir().unwrap();
    let bridge = bridge(&home).await;
    let script = clients::folder().join(script).display().to_string();
    let start = upstreams::built("paperbot-mcp").display().to_string();
    let url = format!("http://{}", bridge.authority);
    let started = async |more: &[&str], calls: Value, era: &str| {
        let argv = [&[start.as_str(), "--url", &url, "mcp"], more].concat();
        let command = [
            program,
            &script,
            &json!(argv).to_string(),
            &calls.to_string(),
            era,
        ];
        run(&command, &bridge.admin_key).await.json
    };
    for era in eras {
        is_deferred(&started(&[], deferred_calls(), era).await);
        is_native(&started(&["--server", "everything"], native_calls(), era).await);
        // The options of the endpoint: a tool that is listed besides, and the lane its calls run in.
        let lane = format!("run-{era}");
        let more = [
            "--lane",
            &lane,
            "--expose",
            "everything.echo,memory.read_graph",
        ];
        let direct = json!([{"name": "everything__echo", "arguments": {"message": "hello"}}]);
        let said = started(&more, direct, era).await;
        for wanted in ["everything__echo", "memory__read_graph", "find_tools"] {
            assert!(names(&said).contains(&wanted), "{said}");
        }
        assert!(
            said["results"][0].to_string().contains("Echo: hello"),
            "{said}"
        );
        let newest = bridge.get("/v1/calls?ref=everything.echo&limit=1").await;
        assert_eq!(newest["items"][0]["lane"], lane, "{newest}");
    }
}

#[tokio::test]
async fn the_first_typescript_sdk_over_stdio() {
    a_script_works_over_stdio(&node(), "ts_sdk_v1.mjs", &["legacy"]).await;
}

/// Tasks of 2025-11-25 on the deferred face: the server behind knows none.
fn ran_as_tasks(said: &Value) {
    assert!(said["capability"]["requests"]["tools"]["call"].is_object());
    let kinds = json!(["taskCreated", "taskStatus", "result"]);
    assert_eq!(said["said"], kinds, "{said}");
    let result = said["result"]["content"][0]["text"].as_str().unwrap();
    assert!(result.contains("operation completed"), "{said}");
    assert!(!said["progress"].as_array().unwrap().is_empty(), "{said}");
    assert_eq!(said["cancelled"]["status"], "cancelled", "{said}");
    assert_eq!(said["listed"], json!(["cancelled", "completed"]), "{said}");
}

/// A client runs one tool to its end and cancels another, both as tasks; `place` of the bridge's address and program.
async fn tasks_work(place: impl FnOnce(&str, &str) -> String) {
    let home = tempfile::tempdir().unwrap();
    let bridge = bridge(&home).await;
    let script = clients::folder().join("ts_sdk_v1_tasks.mjs");
    let script = script.display().to_string();
    let lasting = |seconds: u32| {
        json!({"name": "call_tool", "arguments": {
            "ref": "everything.trigger-long-running-operation",
            "arguments": {"duration": seconds, "steps": 6}}})
        .to_string()
    };
    let (call, slow) = (lasting(3), lasting(600));
    let url = format!("http://{}", bridge.authority);
    let program = upstreams::built("paperbot-mcp").display().to_string();
    let place = place(&url, &program);
    let node = node();
    let command = [node.as_str(), &script, &place, &call, &slow];
    ran_as_tasks(&run(&command, &bridge.admin_key).await.json);
}

#[tokio::test]
async fn the_first_typescript_sdk_runs_tools_as_tasks() {
    tasks_work(|url, _| format!("{url}/mcp")).await;
}

#[tokio::test]
async fn the_first_typescript_sdk_runs_tools_as_tasks_over_stdio() {
    tasks_work(|url, program| json!([program, "--url", url, "mcp"]).to_string()).await;
}

#[tokio::test]
async fn the_second_typescript_sdk_over_stdio_in_both_eras() {
    a_script_works_over_stdio(&node(), "ts_sdk_v2.mjs", &["legacy", MODERN]).await;
}

#[tokio::test]
async fn the_python_sdk_over_stdio_in_both_eras() {
    a_script_works_over_stdio(&python(), "python_sdk.py", &["legacy", MODERN]).await;
}

/// One run of the Inspector's command line.
async fn inspect(bridge: &Bridge, path: &str, more: &[&str]) -> Value {
    let node = node();
    let script = node_script("@modelcontextprotocol/inspector/clients/launcher/build/index.js");
    let url = format!("http://{}{path}", bridge.authority);
    let header = format!("Authorization: Bearer {}", bridge.admin_key);
    let mut command = vec![node.as_str(), &script, "--cli", &url, "--transport", "http"];
    command.extend(["--header", &header]);
    command.extend(more);
    run(&command, &bridge.admin_key).await.json
}

/// What the scripts print, from one run for the list and one for each call.
async fn inspected(bridge: &Bridge, path: &str, calls: &Value) -> Value {
    let listed = inspect(bridge, path, &["--method", "tools/list"]).await;
    let tools = listed["tools"].as_array().unwrap().iter();
    let names: Vec<Value> = tools.map(|tool| tool["name"].clone()).collect();
    let mut results = Vec::new();
    for call in calls.as_array().unwrap() {
        let name = call["name"].as_str().unwrap();
        let mut more = vec!["--method", "tools/call", "--tool-name", name];
        let pairs: Vec<String> = call["arguments"]
            .as_object()
            .unwrap()
            .iter()
            .map(|(key, value)| match value {
                Value::String(text) => format!("{key}={text}"),
                other => format!("{key}={other}"),
            })
            .collect();
        for pair in &pairs {
            more.extend(["--tool-arg", pair]);
        }
        results.push(inspect(bridge, path, &more).await);
    }
    json!({"tools": names, "results": results})
}

#[tokio::test]
async fn the_inspector() {
    let home = tempfile::tempdir().unwrap();
    let bridge = bridge(&home).await;
    is_deferred(&inspected(&bridge, "/mcp", &deferred_calls()).await);
    is_native(&inspected(&bridge, "/mcp/everything", &native_calls()).await);
}

/// What the scripts print, from runs of `mcporter` with a configuration of its own.
async fn ported(bridge: &Bridge, path: &str, calls: &Value) -> Value {
    let node = node();
    let script = node_script("mcporter/dist/cli.js");
    let home = tempfile::tempdir().unwrap();
    let config = home.path().join("mcporter.json");
    let url = format!("http://{}{path}", bridge.authority);
    let definition = json!({"imports": [], "mcpServers": {"bridge": {
        "baseUrl": url, "headers": {"Authorization": "Bearer ${MCP_KEY}"}}}});
    std::fs::write(&config, definition.to_string()).unwrap();
    let config = config.display().to_string();
    let start = [node.as_str(), &script, "--config", &config];

    let list = [&start[..], &["list", "bridge", "--json"]].concat();
    let listed = run(&list, &bridge.admin_key).await.json;
    let tools = listed["tools"].as_array().unwrap().iter();
    let names: Vec<Value> = tools.map(|tool| tool["name"].clone()).collect();
    let mut results = Vec::new();
    for call in calls.as_array().unwrap() {
        let selector = format!("bridge.{}", call["name"].as_str().unwrap());
        let arguments = call["arguments"].to_string();
        let asked = ["call", &selector, "--args", &arguments, "--output", "raw"];
        let said = run(&[&start[..], &asked].concat(), &bridge.admin_key).await;
        results.push(json!(said.text));
    }
    json!({"tools": names, "results": results})
}

#[tokio::test]
async fn mcporter() {
    let home = tempfile::tempdir().unwrap();
    let bridge = bridge(&home).await;
    is_deferred(&ported(&bridge, "/mcp", &deferred_calls()).await);
    is_native(&ported(&bridge, "/mcp/everything", &native_calls()).await);
}
