//! Tasks of both kinds: the core's of 2025-11-25, the extension's of 2026-07-28. Neither is shown to the other's
//! clients; towards an older server the bridge itself has those of the extension.

use serde_json::{Value, json};

use crate::client::{Legacy, Modern, servers, text};
use crate::kit::{Bridge, eventually};
use crate::upstream::{Era, Upstream};

const TASKS: &str = "io.modelcontextprotocol/tasks";

async fn bridge(era: Era) -> (Upstream, Bridge) {
    let upstream = Upstream::start(era).await;
    let both = ["fake", "other"].map(|name| (name, upstream.definition("")));
    let bridge = Bridge::start(&servers(&both)).await;
    (upstream, bridge)
}

#[tokio::test]
async fn a_legacy_task_is_begun_followed_and_fetched() {
    let (upstream, bridge) = bridge(Era::Legacy).await;
    let client = Legacy::open(&bridge, "/mcp/fake", json!({})).await;
    assert!(client.greeting["result"]["capabilities"]["tasks"].is_object());
    let job = json!({"name": "job", "arguments": {}, "task": {"ttl": 60000}});
    let begun = client.answer(1, "tools/call", job).await;
    let expected = json!({"taskId": "t1", "status": "working", "x": 1.0, "ttl": 60000});
    assert_eq!(begun["result"]["task"], expected, "{begun}");
    assert_eq!(
        upstream.last("tools/call").unwrap()["task"],
        json!({"ttl": 60000})
    );
    let id = json!({"taskId": "t1"});
    let told = client.answer(2, "tasks/get", id.clone()).await;
    assert_eq!(told["result"]["status"], "completed", "{told}");
    assert_eq!(
        text(&client.answer(3, "tasks/result", id.clone()).await),
        "the result"
    );
    assert_eq!(
        client.answer(4, "tasks/cancel", id).await["result"]["status"],
        "cancelled"
    );
    bridge.stop().await;
}

#[tokio::test]
async fn a_modern_task_is_begun_for_a_client_that_knows_tasks() {
    let (upstream, bridge) = bridge(Era::Modern).await;
    let client = Modern::new(&bridge, "/mcp/fake", json!({"extensions": {TASKS: {}}}));
    let told = client.answer(0, "server/discover", json!({})).await;
    assert!(
        told["result"]["capabilities"]["extensions"][TASKS].is_object(),
        "{told}"
    );
    let job = json!({"name": "job", "arguments": {}});
    let begun = client.answer(1, "tools/call", job.clone()).await;
    assert_eq!(begun["result"]["resultType"], "task", "{begun}");
    assert_eq!(begun["result"]["taskId"], "t1");
    let told = client.answer(2, "tasks/get", json!({"taskId": "t1"})).await;
    assert_eq!(told["result"]["status"], "completed", "{told}");
    let mut unnamed = client
        .with(
            &[("mcp-name", "other")],
            (3, "tasks/get", json!({"taskId": "t1"})),
        )
        .await;
    assert_eq!(unnamed.status, 400);
    assert_eq!(unnamed.json().await["error"]["code"], -32020);
    // At the deferred face the tasks are the bridge's, which waits for the server's own.
    let deferred = Modern::new(&bridge, "/mcp", json!({"extensions": {TASKS: {}}}));
    let job = json!({"name": "call_tool", "arguments": {"ref": "fake.job"}});
    assert_eq!(
        text(&deferred.answer(4, "tools/call", job).await),
        "the result"
    );
    assert_eq!(upstream.count("tasks/get"), 2);
    bridge.stop().await;
}

fn knows_tasks() -> Value {
    json!({"elicitation": {}, "extensions": {TASKS: {}}})
}

/// Asks after a task until it stands so.
async fn until(client: &Modern<'_>, task: &Value, status: &str) -> Value {
    eventually(status, || async {
        let told = client
            .answer(90, "tasks/get", json!({"taskId": task}))
            .await;
        (told["result"]["status"] == status).then(|| told["result"].clone())
    })
    .await
}

#[tokio::test]
async fn a_long_call_of_a_legacy_server_becomes_a_task_for_a_client_that_knows_tasks() {
    let (upstream, bridge) = bridge(Era::Legacy).await;
    let client = Modern::new(&bridge, "/mcp/fake", knows_tasks());
    let told = client.answer(0, "server/discover", json!({})).await;
    let capabilities = &told["result"]["capabilities"];
    assert!(capabilities.get("tasks").is_none(), "{told}");
    assert!(capabilities["extensions"][TASKS].is_object(), "{told}");
    // What is quick is answered at once; the tasks of the core are another protocol, and not begun.
    let job = json!({"name": "job", "arguments": {}, "task": {"ttl": 1000}});
    assert_eq!(text(&client.answer(1, "tools/call", job).await), "at once");
    assert!(upstream.last("tools/call").unwrap().get("task").is_none());

    let late = json!({"name": "ask", "arguments": {"how": "late"}});
    let begun = client.answer(2, "tools/call", late).await["result"].clone();
    assert_eq!(begun["resultType"], "task", "{begun}");
    assert!(begun.get("requestState").is_none() && begun["ttlMs"].is_u64());
    let task = &begun["taskId"];
    until(&client, task, "working").await;
    upstream.release();
    let asked = until(&client, task, "input_required").await;
    let questions = asked["inputRequests"].as_object().unwrap();
    assert_eq!(questions["user_name"]["method"], "elicitation/create");
    let answers = json!({"taskId": task, "inputResponses": {
        "unknown": {}, "user_name": {"action": "accept", "content": {"name": "Ann"}}}});
    let told = client.answer(3, "tasks/update", answers).await;
    assert_eq!(told["result"], json!({"resultType": "complete"}), "{told}");
    let done = until(&client, task, "completed").await;
    assert_eq!(done["result"]["content"][0]["text"], "accept Ann", "{done}");
    assert_eq!(done["createdAt"], begun["createdAt"]);
    // One that has ended is acknowledged, and stays as it is.
    let told = client
        .answer(4, "tasks/cancel", json!({"taskId": task}))
        .await;
    assert_eq!(told["result"], json!({"resultType": "complete"}), "{told}");
    until(&client, task, "completed").await;
    assert_eq!(upstream.count("tasks/get"), 0);
    bridge.stop().await;
}

#[tokio::test]
async fn a_task_of_the_bridge_is_cancelled_upstream_and_belongs_to_its_owner() {
    let (upstream, bridge) = bridge(Era::Legacy).await;
    let client = Modern::new(&bridge, "/mcp/fake", knows_tasks());
    let slow = json!({"name": "slow", "arguments": {}});
    let begun = client.answer(1, "tools/call", slow.clone()).await;
    let task = json!({"taskId": begun["result"]["taskId"]});
    assert_eq!(begun["result"]["status"], "working", "{begun}");
    let ann = format!("Bearer {}", bridge.key_of("ann", "operator").await);
    for (path, headers, params) in [
        (
            "/mcp/fake",
            vec![("authorization", ann.as_str())],
            task.clone(),
        ),
        ("/mcp/other", Vec::new(), task.clone()),
        ("/mcp/fake", Vec::new(), json!({"taskId": "call_nonsense"})),
    ] {
        let stranger = Modern::new(&bridge, path, knows_tasks());
        let told = stranger.with(&headers, (2, "tasks/get", params)).await;
        assert_eq!(told.status, 200);
        let mut told = told;
        assert_eq!(told.json().await["error"]["code"], -32602, "{path}");
    }
    let ignorant = Modern::new(&bridge, "/mcp/fake", json!({}));
    let mut told = ignorant.ask(3, "tasks/get", task.clone()).await;
    assert_eq!(told.status, 400);
    assert_eq!(told.json().await["error"]["code"], -32021);
    let told = client.answer(4, "tasks/cancel", task.clone()).await;
    assert_eq!(told["result"], json!({"resultType": "complete"}), "{told}");
    until(&client, &begun["result"]["taskId"], "cancelled").await;
    eventually("the server hears of it", || async {
        (upstream.cancelled() == 1).then_some(())
    })
    .await;
    bridge.stop().await;
}

#[tokio::test]
async fn a_tool_that_demands_a_task_is_waited_for() {
    let upstream = Upstream::start(Era::Legacy).await;
    upstream.demand_task();
    let bridge = Bridge::start(&servers(&[("fake", upstream.definition(""))])).await;
    let job = json!({"ref": "fake.job", "arguments": {}});
    let told = bridge.post("/v1/calls", &job).await;
    assert_eq!(told.status, 200, "{}", told.text());
    assert_eq!(told.json()["content"][0]["text"], "the result");
    assert_eq!(upstream.last("tools/call").unwrap()["task"], json!({}));
    assert_eq!(upstream.last("tasks/result").unwrap()["taskId"], "t1");

    let named = json!({"name": "job", "arguments": {}});
    let modern = Modern::new(&bridge, "/mcp/fake", knows_tasks());
    let told = modern.answer(1, "tools/call", named.clone()).await;
    assert_eq!(text(&told), "the result", "{told}");
    let ignorant = Modern::new(&bridge, "/mcp/fake", json!({}));
    let told = ignorant.answer(2, "tools/call", named.clone()).await;
    assert_eq!(told["error"]["code"], -32021, "{told}");
    // A client of the server's own revision begins the task itself, or not.
    let legacy = Legacy::open(&bridge, "/mcp/fake", json!({})).await;
    let told = legacy.answer(3, "tools/call", named).await;
    assert_eq!(text(&told), "at once", "{told}");
    bridge.stop().await;
}

#[tokio::test]
async fn a_task_a_modern_server_begins_unasked_is_waited_for() {
    let (upstream, bridge) = bridge(Era::Modern).await;
    let job = json!({"ref": "fake.job", "arguments": {"how": "unasked"}});
    let told = bridge.post("/v1/calls", &job).await;
    assert_eq!(told.status, 200, "{}", told.text());
    assert_eq!(told.json()["content"][0]["text"], "the result");
    assert_eq!(upstream.last("tasks/get").unwrap()["taskId"], "unasked");
    let legacy = Legacy::open(&bridge, "/mcp/fake", json!({})).await;
    let job = json!({"name": "job", "arguments": {"how": "unasked"}});
    let told = legacy.answer(1, "tools/call", job).await;
    assert_eq!(text(&told), "the result", "{told}");
    bridge.stop().await;
}

#[tokio::test]
async fn a_task_nobody_waits_for_is_cancelled() {
    let upstream = Upstream::start(Era::Legacy).await;
    upstream.demand_task();
    let bridge = Bridge::start(&servers(&[("fake", upstream.definition(""))])).await;
    let body = json!({"ref": "fake.job", "arguments": {"how": "late"}}).to_string();
    let begun = bridge
        .send("POST /v1/calls", &["prefer: respond-async"], &body)
        .await;
    let call = begun.json()["call_id"].as_str().unwrap().to_owned();
    eventually("its result is waited for", || async {
        (upstream.count("tasks/result") == 1).then_some(())
    })
    .await;
    let path = format!("/v1/calls/{call}/cancel");
    let told = bridge.post(&path, &json!({})).await;
    assert_eq!(told.json()["state"], "cancelled", "{}", told.text());
    eventually("the task is cancelled", || async {
        (upstream.count("tasks/cancel") == 1).then_some(())
    })
    .await;
    assert_eq!(upstream.last("tasks/cancel").unwrap()["taskId"], "late");
    bridge.stop().await;
}

#[tokio::test]
async fn a_client_that_knows_no_tasks_cannot_subscribe_to_them() {
    let (_upstream, bridge) = bridge(Era::Modern).await;
    let client = Modern::new(&bridge, "/mcp/fake", json!({}));
    let filter = json!({"notifications": {"taskIds": ["t1"]}});
    let mut told = client.ask(1, "subscriptions/listen", filter).await;
    assert_eq!(told.status, 400);
    let told = told.json().await;
    assert_eq!(told["error"]["code"], -32021);
    let required = &told["error"]["data"]["requiredCapabilities"];
    assert!(required["extensions"][TASKS].is_object(), "{told}");
    bridge.stop().await;
}

#[tokio::test]
async fn a_task_is_its_owners_alone_where_a_session_is_shared() {
    let upstream = Upstream::start(Era::Legacy).await;
    let shared = upstream.definition(", isolation: shared");
    let bridge = Bridge::start(&servers(&[("fake", shared)])).await;
    let client = Legacy::open(&bridge, "/mcp/fake", json!({})).await;
    let job = json!({"name": "job", "arguments": {}, "task": {}});
    assert!(client.answer(1, "tools/call", job).await["result"]["task"].is_object());
    let ann = format!("Bearer {}", bridge.key_of("ann", "operator").await);
    let other = Modern::new(&bridge, "/mcp/fake", json!({}));
    let greeting = json!({"jsonrpc": "2.0", "id": 0, "method": "initialize",
        "params": {"protocolVersion": "2025-11-25", "capabilities": {}}});
    let wish = crate::client::Wish {
        verb: "POST",
        path: &other.path,
        headers: &[("authorization", &ann)],
        body: greeting.to_string(),
    };
    let opened = crate::client::send(&bridge, wish).await;
    let session = opened.header("mcp-session-id").unwrap().to_owned();
    let wish = crate::client::Wish {
        verb: "POST",
        path: &other.path,
        headers: &[("authorization", &ann), ("mcp-session-id", &session)],
        body: json!({"jsonrpc": "2.0", "id": 1, "method": "tasks/get", "params": {"taskId": "t1"}})
            .to_string(),
    };
    let told = crate::client::send(&bridge, wish).await.answer().await;
    assert_eq!(told["error"]["code"], -32602, "{told}");
    assert_eq!(upstream.count("tasks/get"), 0);
    bridge.stop().await;
}
