//! Calls through the door: plain, asynchronous, streamed, dry; and the catalogue they are found in.

mod kit;

use kit::{Bridge, demo, events, eventually};
use serde_json::json;

async fn ready() -> Bridge {
    let bridge = Bridge::start(&demo()).await;
    eventually("the demo server is listed", || async {
        let page = bridge.get("/v1/catalog?server=demo").await.json();
        (page["items"].as_array()?.len() >= 5).then_some(())
    })
    .await;
    bridge
}

#[tokio::test]
async fn a_tool_is_found_explained_and_called() {
    let bridge = ready().await;
    let found = bridge
        .get("/v1/catalog?q=sum+of+two+numbers&q=add&limit=3&kind=tool")
        .await
        .json();
    assert_eq!(found["items"][0]["ref"], "demo.add", "{found}");
    assert_eq!(found["items"][0]["hints"]["read_only"], true);
    let help = bridge.get("/v1/tools/help?ref=demo.add").await.json();
    let hash = help["items"][0]["hash"].as_str().unwrap().to_owned();
    assert_eq!(
        help["items"][0]["input_schema"]["properties"]["a"]["type"],
        "number"
    );
    let unchanged = bridge
        .get(&format!("/v1/tools/help?ref=demo.add&if_hash={hash}"))
        .await
        .json();
    assert_eq!(
        unchanged["items"][0],
        json!({"ref": "demo.add", "unchanged": true, "hash": hash})
    );

    let reply = bridge
        .post(
            "/v1/calls",
            &json!({"ref": "demo.add", "arguments": {"a": 19, "b": 23}}),
        )
        .await;
    let done = reply.json();
    assert_eq!(done["structured_content"], json!({"sum": 42.0}), "{done}");
    assert_eq!(done["is_error"], false);
    assert_eq!(done["replayed"], false);
    assert_eq!(done["trace_id"], reply.header("x-trace-id").unwrap());

    let refused = bridge
        .post(
            "/v1/calls",
            &json!({"ref": "demo.add", "arguments": {"a": 19, "b": "x"}}),
        )
        .await;
    assert_eq!(
        (refused.status, refused.code().as_str()),
        (422, "invalid_arguments")
    );
    assert_eq!(
        refused.json()["errors"][0]["pointer"],
        "/arguments/b",
        "{}",
        refused.text()
    );
    assert!(
        refused.json()["hint"].as_str().unwrap().contains("add("),
        "{}",
        refused.text()
    );
    bridge.stop().await;
}

#[tokio::test]
async fn an_unchanged_catalogue_costs_304_and_names_alone_are_short() {
    let bridge = ready().await;
    let page = bridge.get("/v1/catalog?fields=names").await;
    let tag = page.header("etag").unwrap();
    assert_eq!(tag.trim_matches('"'), page.json()["catalog_hash"]);
    let first = page.json()["items"][0].clone();
    let mut members: Vec<_> = first.as_object().unwrap().keys().cloned().collect();
    members.sort();
    assert_eq!(members, ["kind", "ref"]);
    let same = bridge
        .send("GET /v1/catalog", &[&format!("if-none-match: {tag}")], "")
        .await;
    assert_eq!((same.status, same.body.len()), (304, 0));
    let hash = tag.trim_matches('"');
    let delta = bridge
        .get(&format!("/v1/catalog?since={hash}"))
        .await
        .json();
    assert_eq!(
        (delta["added"].clone(), delta["removed"].clone()),
        (json!([]), json!([]))
    );
    assert!(delta.get("items").is_none(), "{delta}");
    bridge.stop().await;
}

#[tokio::test]
async fn an_asynchronous_call_is_answered_at_once_and_waited_for() {
    let bridge = ready().await;
    let body = json!({"ref": "demo.slow", "arguments": {"steps": 2}}).to_string();
    let reply = bridge
        .send("POST /v1/calls", &["prefer: respond-async"], &body)
        .await;
    assert_eq!(reply.status, 202, "{}", reply.text());
    let location = reply.header("location").unwrap();
    assert_eq!(
        location,
        format!("/v1/calls/{}", reply.json()["call_id"].as_str().unwrap())
    );
    let end = bridge
        .get(&format!("{location}?wait_ms=30000"))
        .await
        .json();
    assert_eq!(
        (end["state"].clone(), end["result"]["is_error"].clone()),
        (json!("succeeded"), json!(false))
    );
    bridge.stop().await;
}

#[tokio::test]
async fn a_streamed_call_tells_its_progress_and_ends_with_its_result() {
    let bridge = ready().await;
    let body = json!({"ref": "demo.slow", "arguments": {"steps": 3}}).to_string();
    let reply = bridge
        .send("POST /v1/calls", &["accept: text/event-stream"], &body)
        .await;
    assert_eq!(
        reply.header("content-type").as_deref(),
        Some("text/event-stream"),
        "{}",
        reply.text()
    );
    let told = events(&reply.text());
    let kinds: Vec<_> = told
        .iter()
        .map(|event| event["type"].as_str().unwrap())
        .collect();
    assert_eq!(kinds.last(), Some(&"tool_result"), "{kinds:?}");
    assert_eq!(
        kinds.iter().filter(|kind| **kind == "tool_result").count(),
        1
    );
    assert!(
        kinds.contains(&"tool_status") && kinds.contains(&"tool_log"),
        "{kinds:?}"
    );
    let call_id = told[0]["call_id"].as_str().unwrap();
    assert!(
        told.iter().all(|event| event["req_id"] == call_id),
        "{told:?}"
    );

    // The same again, later: a call's events are replayed from its start, and from the middle.
    let later = bridge.get(&format!("/v1/calls/{call_id}/events")).await;
    assert_eq!(events(&later.text()), told);
    let from = format!("last-event-id: {}", told[0]["id"].as_str().unwrap());
    let rest = bridge
        .send(&format!("GET /v1/calls/{call_id}/events"), &[&from], "")
        .await;
    assert_eq!(events(&rest.text()), told[1..]);
    bridge.stop().await;
}

#[tokio::test]
async fn a_refused_streamed_call_is_a_problem_and_no_stream() {
    let bridge = ready().await;
    let body = json!({"ref": "demo.ad", "arguments": {}}).to_string();
    let reply = bridge
        .send("POST /v1/calls", &["accept: text/event-stream"], &body)
        .await;
    assert_eq!(
        (reply.status, reply.code().as_str()),
        (404, "tool_not_found")
    );
    assert!(
        reply.json()["hint"]
            .as_str()
            .unwrap_or_default()
            .contains("demo.add"),
        "{}",
        reply.text()
    );
    bridge.stop().await;
}

#[tokio::test]
async fn a_dry_run_sends_nothing() {
    let bridge = ready().await;
    let body = json!({"ref": "demo.echo", "arguments": {"message": "x"}, "dry_run": true});
    let told = bridge.post("/v1/calls", &body).await.json();
    assert_eq!(
        (told["dry_run"].clone(), told["read_only"].clone()),
        (json!(true), json!(true)),
        "{told}"
    );
    assert_eq!(told["decision"], "allow");
    assert_eq!(
        bridge.get("/v1/calls?ref=demo.echo").await.json()["items"],
        json!([])
    );
    bridge.stop().await;
}

#[tokio::test]
async fn resources_and_prompts_go_through_the_same_door() {
    let bridge = ready().await;
    let resources = bridge.get("/v1/resources?server=demo").await.json();
    assert_eq!(
        resources["items"][0]["uri"], "demo://welcome",
        "{resources}"
    );
    assert_eq!(resources["items"][0]["mime_type"], "text/plain");
    let read = bridge
        .get("/v1/resources/read?server=demo&uri=demo%3A%2F%2Fwelcome")
        .await
        .json();
    assert_eq!(read["contents"][0]["uri"], "demo://welcome", "{read}");
    let prompts = bridge.get("/v1/prompts").await.json();
    assert_eq!(prompts["items"][0]["ref"], "demo.greet", "{prompts}");
    let prompt = bridge
        .post(
            "/v1/prompts/get",
            &json!({"ref": "demo.greet", "arguments": {"who": "Ann"}}),
        )
        .await
        .json();
    assert!(
        prompt["messages"][0]["content"]["text"]
            .as_str()
            .unwrap()
            .contains("Ann"),
        "{prompt}"
    );
    bridge.stop().await;
}

#[tokio::test]
async fn a_session_is_opened_seen_refreshed_and_closed() {
    let bridge = ready().await;
    let session = bridge
        .post("/v1/sessions", &json!({"server": "demo"}))
        .await
        .json();
    let id = session["session_id"].as_str().unwrap().to_owned();
    let seen = bridge.get(&format!("/v1/sessions/{id}")).await.json();
    assert_eq!(
        (seen["isolation"].clone(), seen["state"].clone()),
        (json!("shared"), json!("ready")),
        "{seen}"
    );
    assert!(seen["process"]["pid"].as_u64().is_some(), "{seen}");
    assert_eq!(
        bridge.get("/v1/sessions").await.json()["items"]
            .as_array()
            .unwrap()
            .len(),
        1
    );
    assert_eq!(
        bridge
            .send(&format!("POST /v1/sessions/{id}/refresh"), &[], "")
            .await
            .status,
        200
    );
    assert_eq!(
        bridge
            .send(&format!("DELETE /v1/sessions/{id}"), &[], "")
            .await
            .status,
        204
    );
    assert_eq!(bridge.get(&format!("/v1/sessions/{id}")).await.status, 404);
    bridge.stop().await;
}

#[tokio::test]
async fn what_was_done_is_in_the_audit_and_in_its_trace() {
    let bridge = ready().await;
    let parent = "traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let body = json!({"ref": "demo.echo", "arguments": {"message": "hunter2"}}).to_string();
    let done = bridge.send("POST /v1/calls", &[parent], &body).await.json();
    let trace = eventually("the call is in its trace", || async {
        let trace = bridge
            .get("/v1/traces/4bf92f3577b34da6a3ce929d0e0e4736")
            .await
            .json();
        (!trace["calls"].as_array()?.is_empty()).then_some(trace)
    })
    .await;
    assert_eq!(trace["calls"][0]["call_id"], done["call_id"]);
    let audit = bridge.get("/v1/audit?ref=demo.echo").await.json();
    assert_eq!(audit["items"][0]["call_id"], done["call_id"], "{audit}");
    let lines = bridge
        .send("GET /v1/audit", &["accept: application/x-ndjson"], "")
        .await
        .text();
    assert!(lines.lines().count() >= 1);
    assert!(
        lines
            .lines()
            .all(|line| serde_json::from_str::<serde_json::Value>(line).is_ok()),
        "{lines}"
    );
    let metrics = bridge.get("/metrics").await.text();
    assert!(
        metrics.contains("paperbot_http_requests_total{status=\"2xx\"}"),
        "{metrics}"
    );
    assert!(
        metrics.contains("paperbot_store_rows_lost_total 0"),
        "{metrics}"
    );
    assert!(!metrics.contains("hunter2"));
    bridge.stop().await;
}
