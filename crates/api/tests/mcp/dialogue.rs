//! A server asks back: any client is asked in its own way, whatever the server's.

use serde_json::{Value, json};

use crate::client::{Legacy, Modern, servers, text};
use crate::kit::{Bridge, eventually};
use crate::upstream::{Era, Upstream};

async fn bridge(era: Era) -> (Upstream, Bridge) {
    let upstream = Upstream::start(era).await;
    let bridge = Bridge::start(&servers(&[("fake", upstream.definition(""))])).await;
    (upstream, bridge)
}

fn ask() -> Value {
    json!({"name": "ask", "arguments": {}})
}

#[tokio::test]
async fn a_legacy_client_is_asked_on_the_stream_of_its_call() {
    for era in [Era::Legacy, Era::Modern] {
        let (_upstream, bridge) = bridge(era).await;
        let client = Legacy::open(&bridge, "/mcp/fake", json!({"elicitation": {}})).await;
        let mut stream = client.ask(1, "tools/call", ask()).await;
        let question = stream.message().await.unwrap();
        assert_eq!(question["method"], "elicitation/create", "{question}");
        assert_eq!(question["params"]["message"], "Who?");
        let answer = json!({"jsonrpc": "2.0", "id": question["id"],
            "result": {"action": "accept", "content": {"name": "Ann"}}});
        assert_eq!(client.raw(&answer.to_string()).await.status, 202);
        assert_eq!(text(&stream.answer().await), "accept Ann", "{era:?}");
        // The same answer twice, or to a question nobody asked, does no harm.
        assert_eq!(client.raw(&answer.to_string()).await.status, 202);
        bridge.stop().await;
    }
}

#[tokio::test]
async fn a_modern_client_is_asked_by_the_result_and_comes_back_with_the_answer() {
    for era in [Era::Legacy, Era::Modern] {
        let (upstream, bridge) = bridge(era).await;
        let client = Modern::new(&bridge, "/mcp/fake", json!({"elicitation": {}}));
        let asked = client.answer(1, "tools/call", ask()).await;
        let result = &asked["result"];
        assert_eq!(result["resultType"], "input_required", "{asked}");
        let (key, question) = result["inputRequests"]
            .as_object()
            .unwrap()
            .iter()
            .next()
            .unwrap();
        assert_eq!(question["method"], "elicitation/create");
        assert_eq!(question["params"]["message"], "Who?");
        let mut again = ask();
        again["requestState"] = result["requestState"].clone();
        again["inputResponses"] = json!({key: {"action": "accept", "content": {"name": "Ann"}}});
        let told = client.answer(2, "tools/call", again.clone()).await;
        assert_eq!(text(&told), "accept Ann", "{told}");
        assert_eq!(told["result"]["resultType"], "complete");
        let calls = if era == Era::Legacy { 1 } else { 2 };
        assert_eq!(upstream.count("tools/call"), calls);
        if era == Era::Legacy {
            // The retry once more: its answer is still at hand, or was not kept since the tool only reads.
            // Either way nothing runs twice.
            let told = client.answer(3, "tools/call", again).await;
            let kept = told["result"]["content"][0]["text"] == "accept Ann";
            assert!(kept || told["error"]["code"] == -32602, "{told}");
            assert_eq!(upstream.count("tools/call"), 1);
        }
        bridge.stop().await;
    }
}

#[tokio::test]
async fn a_state_that_was_bent_or_belongs_to_another_is_refused() {
    let (upstream, bridge) = bridge(Era::Legacy).await;
    let client = Modern::new(&bridge, "/mcp/fake", json!({"elicitation": {}}));
    let asked = client.answer(1, "tools/call", ask()).await;
    let state = asked["result"]["requestState"].as_str().unwrap().to_owned();
    let key = asked["result"]["inputRequests"]
        .as_object()
        .unwrap()
        .keys()
        .next()
        .unwrap()
        .clone();
    let retry = |name: &str, state: &str| {
        json!({"name": name, "arguments": {}, "requestState": state,
            "inputResponses": {key.clone(): {"action": "accept", "content": {"name": "Eve"}}}})
    };
    for params in [
        retry("ask", &format!("{state}-TAMPERED")),
        retry("ask", "x"),
        retry("echo", &state),
    ] {
        let told = client.answer(2, "tools/call", params).await;
        assert_eq!(told["error"]["code"], -32602, "{told}");
    }
    let ann = bridge.key_of("ann", "operator").await;
    let authorization = format!("Bearer {ann}");
    let mut told = client
        .with(
            &[("authorization", &authorization)],
            (3, "tools/call", retry("ask", &state)),
        )
        .await;
    assert_eq!(told.answer().await["error"]["code"], -32602);
    for responses in [json!(null), json!(7), json!({key.clone(): 12345})] {
        let mut params = retry("ask", &state);
        params["inputResponses"] = responses;
        let told = client.answer(4, "tools/call", params).await;
        assert_eq!(told["error"]["code"], -32602, "{told}");
    }
    // Answers nobody asked for are ignored, and what is still open is asked again.
    let mut params = retry("ask", &state);
    params["inputResponses"] = json!({"unknown": {"action": "accept"}});
    let told = client.answer(5, "tools/call", params).await;
    assert_eq!(told["result"]["resultType"], "input_required", "{told}");
    assert_ne!(
        told["result"]["requestState"],
        json!(state),
        "another round, another state"
    );
    let told = client.answer(6, "tools/call", retry("ask", &state)).await;
    assert_eq!(text(&told), "accept Eve");
    assert_eq!(upstream.count("tools/call"), 1);
    bridge.stop().await;
}

#[tokio::test]
async fn a_client_that_cannot_be_asked_is_not_asked() {
    let (_upstream, bridge) = bridge(Era::Legacy).await;
    let modern = Modern::new(&bridge, "/mcp/fake", json!({"sampling": {}}));
    assert_eq!(
        text(&modern.answer(1, "tools/call", ask()).await),
        "decline nobody"
    );
    let legacy = Legacy::open(&bridge, "/mcp/fake", json!({})).await;
    assert_eq!(
        text(&legacy.answer(1, "tools/call", ask()).await),
        "decline nobody"
    );
    bridge.stop().await;
}

#[tokio::test]
async fn what_a_legacy_server_asks_at_once_is_put_together() {
    let (upstream, bridge) = bridge(Era::Legacy).await;
    let client = Modern::new(
        &bridge,
        "/mcp/fake",
        json!({"elicitation": {}, "roots": {}}),
    );
    let pair = json!({"name": "ask", "arguments": {"how": "together"}});
    let asked = client.answer(1, "tools/call", pair.clone()).await["result"].clone();
    let questions = asked["inputRequests"].as_object().unwrap();
    let keys: Vec<_> = questions.keys().collect();
    assert_eq!(keys, ["client_roots", "user_sure"], "{asked}");
    // One answer alone leaves the other open, under its name and another state.
    let sure = json!({"action": "accept", "content": {"sure": true}});
    let mut again = pair.clone();
    again["requestState"] = asked["requestState"].clone();
    again["inputResponses"] = json!({"user_sure": sure});
    let asked = client.answer(2, "tools/call", again).await["result"].clone();
    let questions = asked["inputRequests"].as_object().unwrap();
    assert_eq!(questions.keys().collect::<Vec<_>>(), ["client_roots"]);
    let mut again = pair;
    again["requestState"] = asked["requestState"].clone();
    again["inputResponses"] = json!({"client_roots": {"roots": []}});
    let told = client.answer(3, "tools/call", again).await;
    assert_eq!(text(&told), "true []", "{told}");
    assert_eq!(upstream.count("tools/call"), 1);
    bridge.stop().await;
}

#[tokio::test]
async fn an_answer_may_come_along_before_it_is_asked_for() {
    let (upstream, bridge) = bridge(Era::Legacy).await;
    let client = Modern::new(&bridge, "/mcp/fake", json!({"elicitation": {}}));
    let mut early = ask();
    early["inputResponses"] = json!({"other": {"action": "decline"},
        "user_name": {"action": "accept", "content": {"name": "Ann"}}});
    let told = client.answer(1, "tools/call", early).await;
    assert_eq!(text(&told), "accept Ann", "{told}");
    // The server, which would not know what it is, was not told.
    let sent = upstream.last("tools/call").unwrap();
    assert!(sent.get("inputResponses").is_none(), "{sent}");
    bridge.stop().await;
}

#[tokio::test]
async fn an_answer_brought_for_a_later_question_waits_for_it() {
    let (upstream, bridge) = bridge(Era::Legacy).await;
    let client = Modern::new(
        &bridge,
        "/mcp/fake",
        json!({"elicitation": {}, "roots": {}}),
    );
    let call = json!({"name": "ask", "arguments": {"how": "in turn"},
        "inputResponses": {"user_sure": {"action": "accept", "content": {"sure": true}},
            "client_roots": {"roots": []}}});
    let told = client.answer(1, "tools/call", call).await;
    assert_eq!(text(&told), "true []", "{told}");
    assert_eq!(upstream.count("tools/call"), 1);
    bridge.stop().await;
}

#[tokio::test]
async fn a_modern_client_is_told_what_a_legacy_server_asked_for_in_vain() {
    let (_upstream, bridge) = bridge(Era::Legacy).await;
    let sample = json!({"name": "ask", "arguments": {"how": "the model"}});
    let modern = Modern::new(&bridge, "/mcp/fake", json!({"elicitation": {}}));
    let mut told = modern.ask(1, "tools/call", sample.clone()).await;
    assert_eq!(told.status, 400);
    let told = told.json().await;
    assert_eq!(told["error"]["code"], -32021, "{told}");
    let required = &told["error"]["data"]["requiredCapabilities"];
    assert_eq!(*required, json!({"sampling": {}}));
    // In the older protocol there is no such error: the server's own words.
    let legacy = Legacy::open(&bridge, "/mcp/fake", json!({})).await;
    let told = legacy.answer(2, "tools/call", sample).await;
    assert_eq!(told["error"]["message"], "nobody samples", "{told}");
    bridge.stop().await;
}

#[tokio::test]
async fn a_caller_by_rest_answers_by_the_calls_id() {
    for era in [Era::Legacy, Era::Modern] {
        let (_upstream, bridge) = bridge(era).await;
        let body = json!({"ref": "fake.ask", "arguments": {}}).to_string();
        let begun = bridge
            .send("POST /v1/calls", &["prefer: respond-async"], &body)
            .await;
        assert_eq!(begun.status, 202, "{}", begun.text());
        let path = format!("/v1/calls/{}", begun.json()["call_id"].as_str().unwrap());
        let asked = eventually("it asks", || async {
            let view = bridge.get(&path).await.json();
            (view["state"] == "input_required").then_some(view)
        })
        .await;
        let question = &asked["input_requests"][0];
        assert_eq!(question["method"], "elicitation/create", "{asked}");
        assert_eq!(question["params"]["message"], "Who?");
        let key = question["key"].as_str().unwrap();
        let input = format!("{path}/input");
        for (responses, status) in [
            (json!({"no such": {"action": "accept"}}), 422),
            (json!({key: 7}), 400),
            (json!({}), 422),
        ] {
            let told = bridge.post(&input, &json!({"responses": responses})).await;
            assert_eq!(told.status, status, "{}", told.text());
        }
        let answer = json!({key: {"action": "accept", "content": {"name": "Ann"}}});
        let told = bridge.post(&input, &json!({"responses": answer})).await;
        assert_eq!(told.status, 202, "{}", told.text());
        let done = bridge.get(&format!("{path}?wait_ms=10000")).await.json();
        assert_eq!(done["state"], "succeeded", "{done}");
        let late = bridge
            .post(&input, &json!({"responses": {key: {"action": "decline"}}}))
            .await;
        assert!([404, 409].contains(&late.status), "{}", late.text());
        bridge.stop().await;
    }
}
