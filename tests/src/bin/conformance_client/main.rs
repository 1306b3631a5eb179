//! What the conformance suite starts to test a client: here the client is the bridge.
//!
//! `conformance-client URL`, as the suite calls it: a bridge takes the URL as its one upstream, and the
//! scenario of `MCP_CONFORMANCE_SCENARIO` is driven through the REST API or, where the server asks
//! something back, through the MCP face. Authorization scenarios are not offered yet.

mod face;

use std::time::Duration;

use serde_json::{Value, json};
use testkit::{Bridge, upstreams};

use face::Face;

/// The upstream's name in the bridge.
const SERVER: &str = "suite";

/// Shorter than the time the suite is told to wait.
const DEADLINE: Duration = Duration::from_secs(45);

/// Every tool the bridge shows of the upstream.
async fn tools(bridge: &Bridge) -> Vec<String> {
    let page = bridge
        .get(&format!("/v1/catalog?server={SERVER}&kind=tool&limit=500"))
        .await;
    let items = page["items"].as_array().cloned().unwrap_or_default();
    let refs = items.iter().filter_map(|item| item["ref"].as_str());
    refs.map(str::to_owned).collect()
}

/// Opens the upstream and lists it, as an owner would to see whether it works.
async fn list(bridge: &Bridge) {
    let path = format!("/v1/servers/{SERVER}/test");
    let report = bridge.send("POST", &path, None).await;
    println!("{}", report.text());
}

async fn call(bridge: &Bridge, name: &str, arguments: &Value) {
    let wanted = format!("{SERVER}.{name}");
    bridge.wait_for_ref(&wanted).await;
    let ask = async |arguments: &Value| {
        let body = json!({"ref": wanted, "arguments": arguments});
        let reply = bridge.send("POST", "/v1/calls", Some(body)).await;
        println!("{name}: {} {}", reply.status, reply.text());
        reply
    };
    let reply = ask(arguments).await;
    if reply.status == 422 {
        let _ = ask(&repaired(arguments, &reply.json())).await;
    }
}

/// What a caller makes of a refusal: a null that the tool's schema does not allow is left out.
fn repaired(arguments: &Value, refusal: &Value) -> Value {
    let mut arguments = arguments.clone();
    for complaint in refusal["errors"].as_array().into_iter().flatten() {
        let pointer = complaint["pointer"].as_str().unwrap_or_default();
        let member = pointer.rsplit('/').next().unwrap_or_default();
        if let Some(members) = arguments.as_object_mut()
            && members.get(member).is_some_and(Value::is_null)
        {
            members.remove(member);
        }
    }
    arguments
}

/// The calls the suite wants made, with values that are hard to put into headers.
async fn calls_of_the_context(bridge: &Bridge) {
    let context = std::env::var("MCP_CONFORMANCE_CONTEXT").unwrap_or_default();
    let context: Value = serde_json::from_str(&context).unwrap_or_default();
    for wanted in context["toolCalls"].as_array().into_iter().flatten() {
        let name = wanted["name"].as_str().unwrap_or_default();
        call(bridge, name, &wanted["arguments"]).await;
    }
}

/// Calls whatever is shown: what the bridge hides for a bad header must not be called.
async fn everything_shown(bridge: &Bridge) {
    bridge.wait_for_ref(&format!("{SERVER}.valid_tool")).await;
    for shown in tools(bridge).await {
        let name = shown
            .split_once('.')
            .map_or(shown.as_str(), |(_, name)| name);
        call(bridge, name, &json!({"region": "here", "value": "some"})).await;
    }
}

/// Lists, explains and calls every tool: at no step may the network be asked for a `$ref`.
async fn explained_and_called(bridge: &Bridge) {
    list(bridge).await;
    for shown in tools(bridge).await {
        let help = bridge
            .send("GET", &format!("/v1/tools/help?ref={shown}"), None)
            .await;
        println!("{}", help.text());
        let name = shown
            .split_once('.')
            .map_or(shown.as_str(), |(_, name)| name);
        call(bridge, name, &json!({})).await;
    }
}

/// One request of each method that carries a name.
async fn every_method(bridge: &Bridge) {
    call(bridge, "test_headers", &json!({})).await;
    call(bridge, "my-hyphenated-tool", &json!({})).await;
    let listed = bridge
        .send("GET", &format!("/v1/resources?server={SERVER}"), None)
        .await;
    println!("resources: {}", listed.text());
    let uri = "file:%2F%2F%2Fpath%2Fto%2Ffile%2520name.txt";
    let path = format!("/v1/resources/read?server={SERVER}&uri={uri}");
    println!("read: {}", bridge.send("GET", &path, None).await.text());
    let path = format!("/v1/prompts?server={SERVER}");
    println!("prompts: {}", bridge.send("GET", &path, None).await.text());
    let body = json!({"ref": format!("{SERVER}.test_prompt"), "arguments": {}});
    let reply = bridge.send("POST", "/v1/prompts/get", Some(body)).await;
    println!("prompt: {}", reply.text());
}

/// Sends back the schema it was shown, so that the suite sees what was lost on the way.
async fn schema_and_back(face: &Face<'_>) {
    let listed = face.request("tools/list", json!({})).await;
    let tools = listed["tools"].as_array().cloned().unwrap_or_default();
    let schema = tools
        .iter()
        .find(|tool| tool["name"] == "json_schema_2020_12_tool")
        .map(|tool| tool["inputSchema"].clone())
        .unwrap_or_default();
    let echo = tools
        .iter()
        .find(|tool| tool["name"] != "json_schema_2020_12_tool")
        .map_or(Value::Null, |tool| tool["name"].clone());
    let asked = json!({"name": echo, "arguments": {"schema": schema}});
    println!("{}", face.request("tools/call", asked).await);
}

/// Two calls that are asked something back, an unrelated one between the rounds of the first.
async fn rounds(face: &Face<'_>) {
    let plain = |name: &str| json!({"name": name, "arguments": {}});
    let first = face
        .request("tools/call", plain("test_mrtr_echo_state"))
        .await;
    let unrelated = face
        .request("tools/call", plain("test_mrtr_unrelated"))
        .await;
    println!("{unrelated}");
    let asked = plain("test_mrtr_echo_state");
    println!("{}", face.answered("tools/call", &asked, first).await);
    for name in ["test_mrtr_no_state", "test_mrtr_no_result_type"] {
        let first = face.request("tools/call", plain(name)).await;
        println!("{}", face.answered("tools/call", &plain(name), first).await);
    }
}

async fn drive(bridge: &Bridge, scenario: &str) -> Result<(), String> {
    let face = Face::new(bridge, SERVER);
    match scenario {
        "initialize" | "request-metadata" => list(bridge).await,
        "json-schema-ref-no-deref" => explained_and_called(bridge).await,
        "tools_call" => call(bridge, "add_numbers", &json!({"a": 2, "b": 3})).await,
        "sse-retry" => call(bridge, "test_reconnection", &json!({})).await,
        "http-standard-headers" => every_method(bridge).await,
        "http-custom-headers" => calls_of_the_context(bridge).await,
        "http-invalid-tool-headers" => everything_shown(bridge).await,
        "json-schema-2020-12-preservation" => schema_and_back(&face).await,
        "sep-2322-client-request-state" => rounds(&face).await,
        "elicitation-sep1034-client-defaults" => {
            let asked = json!({"name": "test_client_elicitation_defaults", "arguments": {}});
            let first = face.request("tools/call", asked.clone()).await;
            println!("{}", face.answered("tools/call", &asked, first).await);
        }
        other => return Err(format!("no scenario {other}")),
    }
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let url = std::env::args().next_back().unwrap_or_default();
    let scenario = std::env::var("MCP_CONFORMANCE_SCENARIO")?;
    if scenario.starts_with("auth/") {
        return Err("authorization scenarios are not offered yet".into());
    }
    let upstream = upstreams::http(SERVER, "streamable_http", &url);
    let bridge = Bridge::start(vec![upstream]).await;
    // Left by itself, so that the bridge is ended too: the suite kills without a word.
    tokio::time::timeout(DEADLINE, drive(&bridge, &scenario)).await??;
    Ok(())
}
