//! `/mcp`: a tool of any server run as a task, by clients of both kinds. The tasks are the bridge's, whatever its
//! servers know.

use serde_json::{Value, json};

use crate::client::{Legacy, Modern, servers, text};
use crate::kit::{Bridge, eventually};
use crate::upstream::{Era, Upstream};

const RELATED: &str = "io.modelcontextprotocol/related-task";
const TASKS: &str = "io.modelcontextprotocol/tasks";

/// Two servers with more tools than are listed whole.
async fn bridge() -> ([Upstream; 2], Bridge) {
    let old = Upstream::start(Era::Legacy).await;
    let new = Upstream::start(Era::Modern).await;
    let yaml = servers(&[
        ("old", old.definition(", always_expose: [slow]")),
        ("new", new.definition("")),
    ]);
    let bridge = Bridge::start(&yaml).await;
    ([old, new], bridge)
}

fn call(reference: &str, arguments: &Value) -> Value {
    json!({"name": "call_tool", "arguments": {"ref": reference, "arguments": arguments}})
}

fn as_task(mut call: Value) -> Value {
    call["task"] = json!({"ttl": 1000});
    call
}

#[tokio::test]
async fn a_modern_client_that_knows_tasks_gets_one_after_a_moment() {
    let (upstreams, bridge) = bridge().await;
    let knows = json!({"elicitation": {}, "extensions": {TASKS: {}}});
    let client = Modern::new(&bridge, "/mcp", knows);
    let told = client.answer(0, "server/discover", json!({})).await;
    let capabilities = &told["result"]["capabilities"];
    assert!(capabilities["extensions"][TASKS].is_object(), "{told}");
    assert!(capabilities.get("tasks").is_none(), "{told}");
    for (upstream, server) in upstreams.iter().zip(["old", "new"]) {
        let quick = call(&format!("{server}.echo"), &json!({"message": "hi"}));
        assert_eq!(text(&client.answer(1, "tools/call", quick).await), "hi");
        let late = call(&format!("{server}.ask"), &json!({"how": "late"}));
        let begun = client.answer(2, "tools/call", late).await["result"].clone();
        assert_eq!(begun["resultType"], "task", "{server} {begun}");
        let task = json!({"taskId": begun["taskId"]});
        upstream.release();
        let key = eventually("it asks", || async {
            let told = client.answer(3, "tasks/get", task.clone()).await;
            let asked = told["result"]["inputRequests"].as_object()?;
            asked.keys().next().cloned()
        })
        .await;
        let answers = json!({"taskId": begun["taskId"], "inputResponses":
            {key: {"action": "accept", "content": {"name": "Ann"}}}});
        client.answer(4, "tasks/update", answers).await;
        let done = eventually("it ends", || async {
            let told = client.answer(5, "tasks/get", task.clone()).await;
            (told["result"]["status"] == "completed").then(|| told["result"].clone())
        })
        .await;
        let said = &done["result"]["content"][0]["text"];
        assert_eq!(said, "accept Ann", "{server} {done}");
    }
    // A tool that is listed directly, too.
    let slow = json!({"name": "old__slow", "arguments": {}});
    let begun = client.answer(6, "tools/call", slow).await["result"].clone();
    assert_eq!(begun["resultType"], "task", "{begun}");
    let task = json!({"taskId": begun["taskId"]});
    client.answer(7, "tasks/cancel", task.clone()).await;
    eventually("it is cancelled", || async {
        let told = client.answer(8, "tasks/get", task.clone()).await;
        (told["result"]["status"] == "cancelled").then_some(())
    })
    .await;
    // Whoever does not know tasks waits, and has none.
    let ignorant = Modern::new(&bridge, "/mcp", json!({}));
    let mut told = ignorant.ask(9, "tasks/get", task).await;
    assert_eq!(told.status, 400);
    assert_eq!(told.json().await["error"]["code"], -32021);
    bridge.stop().await;
}

#[tokio::test]
async fn a_modern_client_is_asked_by_the_bridge_where_it_may_become_a_task() {
    let (_upstreams, bridge) = bridge().await;
    let knows = json!({"elicitation": {}, "extensions": {TASKS: {}}});
    for capabilities in [knows, json!({"elicitation": {}})] {
        let client = Modern::new(&bridge, "/mcp", capabilities);
        for server in ["old", "new"] {
            let ask = call(&format!("{server}.ask"), &json!({}));
            let asked = client.answer(1, "tools/call", ask.clone()).await["result"].clone();
            assert_eq!(asked["resultType"], "input_required", "{server} {asked}");
            let asks = asked["inputRequests"].as_object().unwrap();
            let (key, _) = asks.iter().next().unwrap();
            let mut again = ask;
            again["requestState"] = asked["requestState"].clone();
            again["inputResponses"] =
                json!({key: {"action": "accept", "content": {"name": "Ann"}}});
            let told = client.answer(2, "tools/call", again).await;
            assert_eq!(text(&told), "accept Ann", "{server} {told}");
        }
    }
    bridge.stop().await;
}

#[tokio::test]
async fn a_legacy_client_runs_any_tool_as_a_task() {
    let (upstreams, bridge) = bridge().await;
    let client = Legacy::open(&bridge, "/mcp", json!({})).await;
    let tasks = json!({"list": {}, "cancel": {}, "requests": {"tools": {"call": {}}}});
    let capabilities = &client.greeting["result"]["capabilities"];
    assert_eq!(capabilities["tasks"], tasks, "{capabilities}");
    let listed = client.answer(0, "tools/list", json!({})).await;
    for tool in listed["result"]["tools"].as_array().unwrap() {
        let runs = tool["name"] == "call_tool" || tool["name"] == "old__slow";
        let said = tool["execution"]["taskSupport"] == "optional";
        assert_eq!(runs, said, "{tool}");
    }
    let mut begun = Vec::new();
    for (upstream, server) in upstreams.iter().zip(["old", "new"]) {
        let job = as_task(call(&format!("{server}.job"), &json!({"how": "soon"})));
        let told = client.answer(1, "tools/call", job).await;
        let task = json!({"taskId": told["result"]["task"]["taskId"]});
        let told = client.answer(2, "tasks/result", task.clone()).await;
        // The old server was asked for no task, the new one made one of it.
        let said = if server == "old" {
            "at once"
        } else {
            "the result"
        };
        assert_eq!(text(&told), said, "{server} {told}");
        assert_eq!(told["result"]["_meta"][RELATED], task);
        assert!(upstream.last("tools/call").unwrap().get("task").is_none());
        begun.push(task["taskId"].clone());
    }
    let slow = json!({"name": "old__slow", "arguments": {}, "task": {}});
    let told = client.answer(3, "tools/call", slow).await;
    let task = json!({"taskId": told["result"]["task"]["taskId"]});
    let told = client.answer(4, "tasks/cancel", task.clone()).await;
    assert_eq!(told["result"]["status"], "cancelled", "{told}");
    begun.push(task["taskId"].clone());
    let told = client.answer(5, "tasks/list", json!({})).await;
    let listed = told["result"]["tasks"].as_array().unwrap().iter();
    let listed: Vec<_> = listed.map(|task| task["taskId"].clone()).collect();
    begun.reverse();
    assert_eq!(listed, begun);
    // At a server's own endpoint only its own are seen; those of the old one are its own affair.
    let new = Legacy::open(&bridge, "/mcp/new", json!({})).await;
    let told = new.answer(6, "tasks/list", json!({})).await;
    assert_eq!(
        told["result"]["tasks"].as_array().unwrap().len(),
        1,
        "{told}"
    );
    let told = new.answer(7, "tasks/get", task).await;
    assert_eq!(told["error"]["code"], -32602, "{told}");

    bridge.stop().await;
}

#[tokio::test]
async fn what_fails_as_a_task_fails_as_without_one_and_what_cannot_begin_is_an_error() {
    let (_upstreams, bridge) = bridge().await;
    let client = Legacy::open(&bridge, "/mcp", json!({})).await;
    let slow = as_task(call("new.slow", &json!({})));
    let told = client.answer(6, "tools/call", slow).await;
    let task = json!({"taskId": told["result"]["task"]["taskId"]});
    let told = client.answer(7, "tasks/cancel", task.clone()).await;
    assert_eq!(told["result"]["status"], "cancelled", "{told}");
    // Our own tools fail by results; so does what was cancelled.
    let told = client.answer(8, "tasks/result", task.clone()).await;
    assert_eq!(
        told["result"]["structuredContent"]["code"], "cancelled",
        "{told}"
    );
    assert_eq!(told["result"]["_meta"][RELATED], task);
    // What was not begun is an error: no result but that of a begun task would be understood.
    for wrong in [
        call("new.nothing", &json!({})),
        call("new.add", &json!({"b": 1})),
        call("nonsense", &json!({})),
        json!({"name": "call_tool", "arguments": {}}),
    ] {
        let told = client.answer(9, "tools/call", as_task(wrong.clone())).await;
        assert_eq!(told["error"]["code"], -32602, "{wrong} {told}");
    }
    let find = as_task(json!({"name": "find_tools", "arguments": {}}));
    let told = client.answer(10, "tools/call", find).await;
    assert_eq!(told["error"]["code"], -32601, "{told}");
    bridge.stop().await;
}
