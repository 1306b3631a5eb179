//! Tasks of 2025-11-25 that the bridge has in front of servers without any of that kind.

use serde_json::{Value, json};

use crate::client::{Exchange, Legacy, Modern, servers, text};
use crate::kit::{self, Bridge, eventually};
use crate::upstream::{Era, Upstream};

const RELATED: &str = "io.modelcontextprotocol/related-task";
const TASKS: &str = "io.modelcontextprotocol/tasks";

async fn bridge(era: Era) -> (Upstream, Bridge) {
    let upstream = Upstream::start(era).await;
    let bridge = Bridge::start(&servers(&[("fake", upstream.definition(""))])).await;
    (upstream, bridge)
}

fn job(how: &str) -> Value {
    json!({"name": "job", "arguments": {"how": how}, "task": {"ttl": 60000}})
}

/// Begins a task; its id as the parameters of the requests about it.
async fn begin(client: &Legacy<'_>, id: u64, call: Value) -> Value {
    let begun = client.answer(id, "tools/call", call).await;
    assert_eq!(begun["result"]["task"]["status"], "working", "{begun}");
    json!({"taskId": begun["result"]["task"]["taskId"]})
}

/// Asks after a task until it stands so.
async fn until(client: &Legacy<'_>, task: &Value, status: &str) -> Value {
    eventually(status, || async {
        let told = client.answer(90, "tasks/get", task.clone()).await;
        (told["result"]["status"] == status).then(|| told["result"].clone())
    })
    .await
}

/// Asks for something and takes a stream for it at once.
async fn streamed(client: &Legacy<'_>, (id, method): (u64, &str), params: &Value) -> Exchange {
    let body = json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params});
    let events = [("accept", "text/event-stream")];
    client.with(&events, &body.to_string()).await
}

#[tokio::test]
async fn a_tool_of_a_modern_server_is_run_as_a_task_by_a_legacy_client() {
    let (upstream, bridge) = bridge(Era::Modern).await;
    let client = Legacy::open(&bridge, "/mcp/fake", json!({})).await;
    let capabilities = &client.greeting["result"]["capabilities"];
    let tasks = json!({"list": {}, "cancel": {}, "requests": {"tools": {"call": {}}}});
    assert_eq!(capabilities["tasks"], tasks, "{capabilities}");
    assert!(capabilities["extensions"].get(TASKS).is_none());
    let listed = client.answer(1, "tools/list", json!({})).await;
    for tool in listed["result"]["tools"].as_array().unwrap() {
        assert_eq!(tool["execution"]["taskSupport"], "optional", "{tool}");
    }
    let echo = &listed["result"]["tools"][0];
    assert_eq!(echo["x-unknown"], json!({"kept": 1.50}), "{echo}");

    let call = json!({"name": "echo", "arguments": {"message": "hi"}, "task": {"ttl": 60000}});
    let begun = client.answer(2, "tools/call", call).await["result"].clone();
    let members: Vec<_> = begun["task"].as_object().unwrap().keys().collect();
    let wanted = [
        "createdAt",
        "lastUpdatedAt",
        "pollInterval",
        "status",
        "taskId",
        "ttl",
    ];
    assert_eq!(members, wanted, "{begun}");
    assert_eq!(begun.as_object().unwrap().len(), 1, "{begun}");
    assert!(begun["task"]["ttl"].as_u64() > Some(0) && begun["task"]["pollInterval"].is_u64());
    let task = json!({"taskId": begun["task"]["taskId"]});
    assert!(
        begun["task"]["taskId"]
            .as_str()
            .unwrap()
            .starts_with("call_")
    );
    let told = until(&client, &task, "completed").await;
    assert_eq!(told["createdAt"], begun["task"]["createdAt"]);
    assert!(told.get("_meta").is_none() && told.get("resultType").is_none());
    let told = client.answer(3, "tasks/result", task.clone()).await;
    assert_eq!(text(&told), "hi", "{told}");
    assert_eq!(told["result"]["unknown"], json!({"kept": 2.0}));
    assert_eq!(told["result"]["_meta"][RELATED], task);
    assert!(upstream.last("tools/call").unwrap().get("task").is_none());
    let listed = client.answer(4, "tasks/list", json!({})).await;
    let tasks = listed["result"]["tasks"].as_array().unwrap();
    assert_eq!(tasks.len(), 1, "{listed}");
    assert_eq!(tasks[0]["taskId"], task["taskId"]);
    assert_eq!(tasks[0]["status"], "completed");
    // Without the wish for a task the tool simply runs.
    let call = json!({"name": "echo", "arguments": {"message": "at once"}});
    assert_eq!(text(&client.answer(5, "tools/call", call).await), "at once");
    assert_eq!(
        client.answer(6, "tasks/list", json!({})).await["result"],
        listed["result"]
    );
    bridge.stop().await;
}

#[tokio::test]
async fn what_a_task_asks_is_asked_on_the_stream_that_waits_for_its_result() {
    let (upstream, bridge) = bridge(Era::Modern).await;
    let client = Legacy::open(&bridge, "/mcp/fake", json!({"elicitation": {}})).await;
    let call = json!({"name": "ask", "arguments": {"how": "late"}, "task": {}});
    let task = begin(&client, 1, call).await;
    until(&client, &task, "working").await;
    upstream.release();
    until(&client, &task, "input_required").await;
    let mut stream = streamed(&client, (2, "tasks/result"), &task).await;
    let question = stream.message().await.unwrap();
    assert_eq!(question["method"], "elicitation/create", "{question}");
    assert_eq!(question["params"]["message"], "Who?");
    assert_eq!(question["params"]["_meta"][RELATED], task);
    let answer = json!({"jsonrpc": "2.0", "id": question["id"],
        "result": {"action": "accept", "content": {"name": "Ann"}}});
    assert_eq!(client.raw(&answer.to_string()).await.status, 202);
    let told = stream.answer().await;
    assert_eq!(text(&told), "accept Ann", "{told}");
    assert_eq!(told["result"]["_meta"][RELATED], task);
    until(&client, &task, "completed").await;

    // A client that declared nothing is not asked, and the task goes on.
    let silent = Legacy::open(&bridge, "/mcp/fake", json!({})).await;
    let task = begin(
        &silent,
        1,
        json!({"name": "ask", "arguments": {}, "task": {}}),
    )
    .await;
    until(&silent, &task, "completed").await;
    bridge.stop().await;
}

#[tokio::test]
async fn progress_is_told_while_the_result_is_waited_for_and_before() {
    let (upstream, bridge) = bridge(Era::Modern).await;
    let client = Legacy::open(&bridge, "/mcp/fake", json!({})).await;
    let mut listening = client.get(&[]).await;
    let late = |token: &str| {
        json!({"name": "progress", "arguments": {"how": "late"}, "task": {},
            "_meta": {"progressToken": token}})
    };
    let heard = |told: &Value, token: &str, task: &Value| {
        assert_eq!(told["method"], "notifications/progress", "{told}");
        assert_eq!(told["params"]["progressToken"], token, "{told}");
        assert_eq!(told["params"]["x"], 1.0);
        assert_eq!(told["params"]["_meta"][RELATED], *task);
    };
    let task = begin(&client, 1, late("first")).await;
    upstream.release();
    for step in 1..=3 {
        let told = listening.message().await.unwrap();
        heard(&told, "first", &task);
        assert_eq!(told["params"]["progress"], step);
    }
    let told = client.answer(2, "tasks/result", task).await;
    assert_eq!(text(&told), "done", "{told}");

    let task = begin(&client, 3, late("second")).await;
    let mut waiting = streamed(&client, (4, "tasks/result"), &task).await;
    upstream.release();
    heard(&waiting.message().await.unwrap(), "second", &task);
    assert_eq!(text(&waiting.answer().await), "done");
    bridge.stop().await;
}

#[tokio::test]
async fn a_task_is_cancelled_by_its_own_request_alone() {
    let (upstream, bridge) = bridge(Era::Modern).await;
    let client = Legacy::open(&bridge, "/mcp/fake", json!({})).await;
    let call = json!({"name": "progress", "arguments": {"how": "late"}, "task": {}});
    let task = begin(&client, 1, call).await;
    // Whoever gives up waiting, or ends the session, has cancelled nothing.
    let waiting = streamed(&client, (2, "tasks/result"), &task).await;
    let given_up = json!({"jsonrpc": "2.0", "method": "notifications/cancelled",
        "params": {"requestId": 2}});
    assert_eq!(client.raw(&given_up.to_string()).await.status, 202);
    drop(waiting);
    assert_eq!(client.delete().await, 204);
    let client = Legacy::open(&bridge, "/mcp/fake", json!({})).await;
    until(&client, &task, "working").await;
    upstream.release();
    until(&client, &task, "completed").await;

    let slow = json!({"name": "slow", "arguments": {}, "task": {}});
    let task = begin(&client, 3, slow).await;
    let mut waiting = streamed(&client, (4, "tasks/result"), &task).await;
    let told = client.answer(5, "tasks/cancel", task.clone()).await;
    assert_eq!(told["result"]["status"], "cancelled", "{told}");
    assert_eq!(told["result"]["taskId"], task["taskId"]);
    let ended = waiting.answer().await;
    assert!(ended["error"]["code"].is_i64(), "{ended}");
    assert_eq!(ended["error"]["data"]["code"], "cancelled", "{ended}");
    let again = client.answer(6, "tasks/result", task.clone()).await;
    assert_eq!(again["error"]["code"], ended["error"]["code"], "{again}");
    assert_eq!(again["error"]["data"]["code"], "cancelled", "{again}");
    let told = client.answer(7, "tasks/cancel", task).await;
    assert_eq!(told["error"]["code"], -32602, "{told}");
    bridge.stop().await;
}

#[tokio::test]
async fn a_task_the_server_makes_of_the_call_is_waited_for() {
    let (upstream, bridge) = bridge(Era::Modern).await;
    let client = Legacy::open(&bridge, "/mcp/fake", json!({"elicitation": {}})).await;
    let task = begin(&client, 1, job("soon")).await;
    let told = client.answer(2, "tasks/result", task.clone()).await;
    assert_eq!(text(&told), "the result", "{told}");
    assert_eq!(told["result"]["y"], 1.0);
    assert_eq!(upstream.last("tasks/get").unwrap()["taskId"], "soon");

    let task = begin(&client, 3, job("asks")).await;
    let mut stream = streamed(&client, (4, "tasks/result"), &task).await;
    let question = stream.message().await.unwrap();
    assert_eq!(question["params"]["message"], "Who?", "{question}");
    let answer = json!({"jsonrpc": "2.0", "id": question["id"],
        "result": {"action": "accept", "content": {"name": "Ann"}}});
    assert_eq!(client.raw(&answer.to_string()).await.status, 202);
    assert_eq!(text(&stream.answer().await), "Ann");
    assert_eq!(upstream.count("tasks/update"), 1);

    for (how, status, code) in [("fails", "failed", -32050), ("ends", "cancelled", 409)] {
        let task = begin(&client, 5, job(how)).await;
        until(&client, &task, status).await;
        let told = client.answer(6, "tasks/result", task).await;
        assert_eq!(told["error"]["code"], code, "{told}");
    }
    let told = client.answer(7, "tasks/list", json!({})).await;
    let tasks = told["result"]["tasks"].as_array().unwrap();
    let statuses: Vec<_> = tasks.iter().map(|task| &task["status"]).collect();
    assert_eq!(statuses, ["cancelled", "failed", "completed", "completed"]);

    let task = begin(&client, 8, job("late")).await;
    eventually("the server is asked", || async {
        let last = upstream.last("tasks/get").unwrap();
        (last["taskId"] == "late").then_some(())
    })
    .await;
    let told = client.answer(9, "tasks/cancel", task).await;
    assert_eq!(told["result"]["status"], "cancelled", "{told}");
    eventually("the server hears of it", || async {
        let last = upstream.last("tasks/cancel")?;
        (last["taskId"] == "late").then_some(())
    })
    .await;
    bridge.stop().await;
}

#[tokio::test]
async fn a_tool_that_says_it_failed_has_failed_and_says_how() {
    let (_upstream, bridge) = bridge(Era::Modern).await;
    let client = Legacy::open(&bridge, "/mcp/fake", json!({})).await;
    let task = begin(&client, 1, job("badly")).await;
    until(&client, &task, "failed").await;
    let told = client.answer(2, "tasks/result", task.clone()).await;
    assert_eq!(text(&told), "broken", "{told}");
    assert_eq!(told["result"]["isError"], true);
    assert_eq!(told["result"]["_meta"][RELATED], task);
    bridge.stop().await;
}

#[tokio::test]
async fn who_has_no_tasks_of_its_clients_kind_gets_the_bridges() {
    for era in [Era::Legacy, Era::Modern] {
        let upstream = Upstream::start(era).await;
        upstream.forget_tasks();
        let bridge = Bridge::start(&servers(&[("fake", upstream.definition(""))])).await;
        let legacy = Legacy::open(&bridge, "/mcp/fake", json!({})).await;
        assert!(legacy.greeting["result"]["capabilities"]["tasks"]["list"].is_object());
        let task = begin(&legacy, 1, job("soon")).await;
        let told = legacy.answer(2, "tasks/result", task).await;
        assert_eq!(text(&told), "at once", "{era:?} {told}");
        assert!(upstream.last("tools/call").unwrap().get("task").is_none());

        let knows = json!({"elicitation": {}, "extensions": {TASKS: {}}});
        let modern = Modern::new(&bridge, "/mcp/fake", knows);
        let told = modern.answer(0, "server/discover", json!({})).await;
        let extensions = &told["result"]["capabilities"]["extensions"];
        assert!(extensions[TASKS].is_object(), "{era:?} {told}");
        // What is asked soon is the result, whoever puts the question.
        let ask = json!({"name": "ask", "arguments": {}});
        let asked = modern.answer(1, "tools/call", ask.clone()).await["result"].clone();
        assert_eq!(asked["resultType"], "input_required", "{era:?} {asked}");
        let (key, _) = asked["inputRequests"]
            .as_object()
            .unwrap()
            .iter()
            .next()
            .unwrap();
        let mut again = ask;
        again["requestState"] = asked["requestState"].clone();
        again["inputResponses"] = json!({key: {"action": "accept", "content": {"name": "Ann"}}});
        let told = modern.answer(2, "tools/call", again).await;
        assert_eq!(text(&told), "accept Ann", "{era:?} {told}");
        // And what is asked late is a question of the task.
        let late = json!({"name": "ask", "arguments": {"how": "late"}});
        let begun = modern.answer(3, "tools/call", late).await["result"].clone();
        assert_eq!(begun["resultType"], "task", "{era:?} {begun}");
        let task = json!({"taskId": begun["taskId"]});
        upstream.release();
        let key = eventually("it asks", || async {
            let told = modern.answer(4, "tasks/get", task.clone()).await;
            let asked = told["result"]["inputRequests"].as_object()?;
            asked.keys().next().cloned()
        })
        .await;
        let answers = json!({"taskId": begun["taskId"], "inputResponses":
            {key: {"action": "accept", "content": {"name": "Ann"}}}});
        modern.answer(5, "tasks/update", answers).await;
        let done = eventually("it ends", || async {
            let told = modern.answer(6, "tasks/get", task.clone()).await;
            (told["result"]["status"] == "completed").then(|| told["result"].clone())
        })
        .await;
        assert_eq!(
            done["result"]["content"][0]["text"], "accept Ann",
            "{era:?} {done}"
        );
        assert_eq!(upstream.count("tasks/get"), 0);
        bridge.stop().await;
    }
}

#[tokio::test]
async fn the_end_of_a_task_outlives_the_bridge() {
    let upstream = Upstream::start(Era::Modern).await;
    let yaml = servers(&[("fake", upstream.definition(""))]);
    let bridge = Bridge::start(&yaml).await;
    let task = {
        let client = Legacy::open(&bridge, "/mcp/fake", json!({})).await;
        let call = json!({"name": "echo", "arguments": {"message": "kept"}, "task": {}});
        let task = begin(&client, 1, call).await;
        until(&client, &task, "completed").await;
        task
    };
    let Bridge {
        home, daemon, key, ..
    } = bridge;
    daemon.shutdown().await;
    let daemon = kit::start(home.path(), &yaml).await.unwrap();
    let bridge = Bridge {
        address: daemon.address(),
        home,
        daemon,
        key,
    };
    let client = Legacy::open(&bridge, "/mcp/fake", json!({})).await;
    let told = client.answer(2, "tasks/result", task.clone()).await;
    assert_eq!(text(&told), "kept", "{told}");
    assert_eq!(told["result"]["_meta"][RELATED], task);
    let told = client.answer(3, "tasks/list", json!({})).await;
    let first = &told["result"]["tasks"][0];
    assert_eq!(first["taskId"], task["taskId"], "{told}");
    bridge.stop().await;
}
