//! Bad input about tasks: each refused by the code its revision has for it, and nothing sent.

use serde_json::{Value, json};

use crate::client::{Legacy, Wish, send, servers, text};
use crate::kit::Bridge;
use crate::upstream::{Era, Upstream};

async fn bridge() -> (Upstream, Bridge) {
    let upstream = Upstream::start(Era::Modern).await;
    let both = ["fake", "other"].map(|name| (name, upstream.definition("")));
    let bridge = Bridge::start(&servers(&both)).await;
    (upstream, bridge)
}

fn echo(task: &Value) -> Value {
    json!({"name": "echo", "arguments": {"message": "hi"}, "task": task})
}

/// Begins a task that ends soon, and waits for its end.
async fn ended(client: &Legacy<'_>) -> Value {
    let begun = client.answer(1, "tools/call", echo(&json!({}))).await;
    let task = json!({"taskId": begun["result"]["task"]["taskId"]});
    let told = client.answer(2, "tasks/result", task.clone()).await;
    assert_eq!(text(&told), "hi", "{told}");
    task
}

/// Another user's session.
async fn opened_by(bridge: &Bridge, authorization: &str) -> String {
    let greeting = json!({"jsonrpc": "2.0", "id": 0, "method": "initialize",
        "params": {"protocolVersion": "2025-11-25", "capabilities": {}}});
    let wish = Wish {
        verb: "POST",
        path: "/mcp/fake",
        headers: &[("authorization", authorization)],
        body: greeting.to_string(),
    };
    let opened = send(bridge, wish).await;
    opened.header("mcp-session-id").unwrap().to_owned()
}

#[tokio::test]
async fn a_task_that_is_not_there_for_this_client_is_unknown() {
    let (_upstream, bridge) = bridge().await;
    let client = Legacy::open(&bridge, "/mcp/fake", json!({})).await;
    let task = ended(&client).await;
    let ann = format!("Bearer {}", bridge.key_of("ann", "operator").await);
    let session = opened_by(&bridge, &ann).await;
    let other = Legacy::open(&bridge, "/mcp/other", json!({})).await;
    // A call nobody asked to be kept is no task.
    let ran = bridge
        .post("/v1/calls", &json!({"ref": "fake.echo", "arguments": {}}))
        .await;
    let call = json!({"taskId": ran.json()["call_id"]});
    assert!(call["taskId"].is_string(), "{}", ran.text());
    for method in ["tasks/get", "tasks/result", "tasks/cancel"] {
        let body = json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": task});
        let wish = Wish {
            verb: "POST",
            path: "/mcp/fake",
            headers: &[("authorization", &ann), ("mcp-session-id", &session)],
            body: body.to_string(),
        };
        let foreign = send(&bridge, wish).await.answer().await;
        assert_eq!(foreign["error"]["code"], -32602, "{method} {foreign}");
        let elsewhere = other.answer(2, method, task.clone()).await;
        assert_eq!(elsewhere["error"], foreign["error"], "{method}");
        for wrong in [
            call.clone(),
            json!({"taskId": "call_0190f3a2-7c1e-7000-8000-000000000000"}),
            json!({"taskId": "t1"}),
            json!({"taskId": ""}),
        ] {
            let told = client.answer(3, method, wrong.clone()).await;
            assert_eq!(told["error"], foreign["error"], "{method} {wrong}");
        }
        for wrong in [json!({"taskId": 7}), json!({}), json!({"taskId": null})] {
            let told = client.answer(4, method, wrong.clone()).await;
            assert_eq!(told["error"]["code"], -32602, "{method} {wrong} {told}");
        }
    }
    let body = json!({"jsonrpc": "2.0", "id": 1, "method": "tasks/list"});
    let wish = Wish {
        verb: "POST",
        path: "/mcp/fake",
        headers: &[("authorization", &ann), ("mcp-session-id", &session)],
        body: body.to_string(),
    };
    let told = send(&bridge, wish).await.answer().await;
    assert_eq!(told["result"], json!({"tasks": []}), "{told}");
    // One that has ended cannot be cancelled, and stays as it is.
    let told = client.answer(5, "tasks/cancel", task.clone()).await;
    assert_eq!(told["error"]["code"], -32602, "{told}");
    assert_ne!(told["error"]["message"], "there is no such task");
    let told = client.answer(6, "tasks/get", task).await;
    assert_eq!(told["result"]["status"], "completed", "{told}");
    // Methods of the other kind of tasks do not exist here.
    let told = client
        .answer(7, "tasks/update", json!({"taskId": "x"}))
        .await;
    assert_eq!(told["error"]["code"], -32601, "{told}");
    bridge.stop().await;
}

#[tokio::test]
async fn a_wish_for_a_task_that_cannot_be_read_is_refused_before_anything_is_sent() {
    let (upstream, bridge) = bridge().await;
    for path in ["/mcp/fake", "/mcp"] {
        let client = Legacy::open(&bridge, path, json!({})).await;
        let wanted = |task: &Value| match path {
            "/mcp" => json!({"name": "call_tool", "task": task,
                "arguments": {"ref": "fake.echo", "arguments": {"message": "hi"}}}),
            _ => echo(task),
        };
        for wrong in [
            json!(null),
            json!(7),
            json!([]),
            json!("x"),
            json!({"ttl": -1}),
            json!({"ttl": "60000"}),
            json!({"ttl": null}),
            json!({"ttl": {}}),
        ] {
            let told = client.answer(1, "tools/call", wanted(&wrong)).await;
            assert_eq!(told["error"]["code"], -32602, "{path} {wrong} {told}");
        }
        assert_eq!(upstream.count("tools/call"), 0);
        // How long a task is kept, the bridge says.
        let mut told = Vec::new();
        for ttl in [json!(0), json!(1.5), json!(u64::MAX)] {
            let wanted = wanted(&json!({"ttl": ttl}));
            let begun = client.answer(2, "tools/call", wanted).await;
            told.push(begun["result"]["task"]["ttl"].as_u64().unwrap());
        }
        assert!(told.windows(2).all(|two| two[0] == two[1]), "{told:?}");
        // What cannot be begun is an error: any result would be taken for a task.
        let wrong = json!({"name": "add", "arguments": {"a": "x"}, "task": {}});
        let told = client.answer(3, "tools/call", wrong).await;
        assert_eq!(told["error"]["code"], -32602, "{path} {told}");
        let unknown = json!({"name": "nothing", "arguments": {}, "task": {}});
        let told = client.answer(4, "tools/call", unknown).await;
        assert_eq!(told["error"]["code"], -32602, "{path} {told}");
        upstream.forget_calls();
    }
    bridge.stop().await;
}

#[tokio::test]
async fn a_revision_without_tasks_means_nothing_by_the_word() {
    for era in [Era::Modern, Era::Legacy] {
        let upstream = Upstream::start(era).await;
        let bridge = Bridge::start(&servers(&[("fake", upstream.definition(""))])).await;
        let older = ("2025-06-18", json!({}));
        let client = Legacy::speaking(&bridge, "/mcp/fake", older.clone()).await;
        let listed = client.answer(1, "tools/list", json!({})).await;
        assert!(!listed.to_string().contains("taskSupport"), "{listed}");
        for task in [json!({"ttl": 1000}), json!({"ttl": -1}), json!(7)] {
            let told = client.answer(2, "tools/call", echo(&task)).await;
            assert_eq!(text(&told), "hi", "{era:?} {told}");
            assert!(upstream.last("tools/call").unwrap().get("task").is_none());
        }
        let deferred = Legacy::speaking(&bridge, "/mcp", older).await;
        let capabilities = &deferred.greeting["result"]["capabilities"];
        assert!(capabilities.get("tasks").is_none(), "{capabilities}");
        let wanted = json!({"name": "call_tool", "task": {"ttl": -1},
            "arguments": {"ref": "fake.echo", "arguments": {"message": "hi"}}});
        let told = deferred.answer(3, "tools/call", wanted).await;
        assert_eq!(text(&told), "hi", "{told}");
        assert!(upstream.last("tools/call").unwrap().get("task").is_none());
        let find = json!({"name": "find_tools", "arguments": {}, "task": {}});
        let told = deferred.answer(4, "tools/call", find).await;
        assert!(told["result"]["content"].is_array(), "{told}");
        if era == Era::Modern {
            let capabilities = &client.greeting["result"]["capabilities"];
            assert!(capabilities.get("tasks").is_none(), "{capabilities}");
        }
        for client in [&client, &deferred] {
            if era == Era::Legacy && client.path != "/mcp" {
                continue; // Its server's own affair.
            }
            for method in ["tasks/get", "tasks/result", "tasks/cancel", "tasks/list"] {
                let told = client.answer(5, method, json!({"taskId": "x"})).await;
                assert_eq!(told["error"]["code"], -32601, "{era:?} {method} {told}");
            }
        }
        bridge.stop().await;
    }
}

#[tokio::test]
async fn tasks_are_listed_page_by_page_and_a_foreign_cursor_is_void() {
    let (_upstream, bridge) = bridge().await;
    let client = Legacy::open(&bridge, "/mcp/fake", json!({})).await;
    let mut begun = Vec::new();
    for _ in 0..45 {
        begun.push(ended(&client).await["taskId"].clone());
    }
    begun.reverse();
    let (mut listed, mut sizes, mut params) = (Vec::new(), Vec::new(), json!({}));
    loop {
        let told = client.answer(3, "tasks/list", params.clone()).await["result"].clone();
        let tasks = told["tasks"].as_array().unwrap();
        sizes.push(tasks.len());
        listed.extend(tasks.iter().map(|task| task["taskId"].clone()));
        match told.get("nextCursor") {
            Some(cursor) => params = json!({"cursor": cursor}),
            None => break,
        }
    }
    assert_eq!(sizes, [20, 20, 5]);
    assert_eq!(listed, begun);
    // Methods of the other kind of tasks do not exist here.
    let update = json!({"taskId": begun[0]});
    let told = client.answer(6, "tasks/update", update).await;
    assert_eq!(told["error"]["code"], -32601, "{told}");
    for wrong in [json!("x"), json!(7), json!(""), json!(null)] {
        let told = client
            .answer(4, "tasks/list", json!({"cursor": wrong}))
            .await;
        assert_eq!(told["error"]["code"], -32602, "{wrong} {told}");
    }
    bridge.stop().await;
}
