//! HTTP+SSE of 2024-11-05: one stream, and a place to post to that is there before the client is told of it.

use serde_json::{Value, json};

use crate::client::{Exchange, Wish, send, servers, text};
use crate::kit::{Bridge, eventually};
use crate::upstream::{Era, Upstream};

async fn open(bridge: &Bridge, path: &str) -> (Exchange, String) {
    let wish = Wish {
        verb: "GET",
        path,
        headers: &[],
        body: String::new(),
    };
    let mut stream = send(bridge, wish).await;
    assert!(stream.is_stream(), "{}", stream.status);
    let (_, endpoint) = stream.event().await.unwrap();
    assert!(endpoint.starts_with("/message?sessionId="), "{endpoint}");
    (stream, endpoint)
}

async fn post(bridge: &Bridge, endpoint: &str, (key, message): (Option<&str>, &Value)) -> u16 {
    let authorization = format!("Bearer {}", key.unwrap_or(&bridge.key));
    let wish = Wish {
        verb: "POST",
        path: endpoint,
        headers: &[("authorization", &authorization)],
        body: message.to_string(),
    };
    send(bridge, wish).await.status
}

fn request(id: u64, method: &str, params: &Value) -> Value {
    json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params})
}

#[tokio::test]
async fn the_oldest_clients_reach_the_newest_servers() {
    for era in [Era::Legacy, Era::Modern] {
        let upstream = Upstream::start(era).await;
        let bridge = Bridge::start(&servers(&[("fake", upstream.definition(""))])).await;
        for path in ["/sse/fake", "/mcp/fake"] {
            let (mut stream, endpoint) = open(&bridge, path).await;
            let greeting = request(
                1,
                "initialize",
                &json!({"protocolVersion": "2024-11-05",
                "capabilities": {"elicitation": {}}, "clientInfo": {"name": "t", "version": "1"}}),
            );
            assert_eq!(post(&bridge, &endpoint, (None, &greeting)).await, 202);
            let told = stream.message().await.unwrap();
            assert_eq!(told["result"]["protocolVersion"], "2024-11-05", "{told}");
            assert_eq!(told["result"]["serverInfo"]["name"], "fake");
            let call = json!({"name": "echo", "arguments": {"message": "hi"}});
            assert_eq!(
                post(&bridge, &endpoint, (None, &request(2, "tools/call", &call))).await,
                202
            );
            assert_eq!(text(&stream.message().await.unwrap()), "hi");
            let ask = request(3, "tools/call", &json!({"name": "ask", "arguments": {}}));
            assert_eq!(post(&bridge, &endpoint, (None, &ask)).await, 202);
            let question = stream.message().await.unwrap();
            assert_eq!(question["method"], "elicitation/create");
            let answer = json!({"jsonrpc": "2.0", "id": question["id"],
                "result": {"action": "accept", "content": {"name": "Ann"}}});
            assert_eq!(post(&bridge, &endpoint, (None, &answer)).await, 202);
            assert_eq!(text(&stream.message().await.unwrap()), "accept Ann");
        }
        bridge.stop().await;
    }
}

#[tokio::test]
async fn a_session_is_its_owners_alone_and_ends_with_its_stream() {
    let upstream = Upstream::start(Era::Legacy).await;
    let bridge = Bridge::start(&servers(&[("fake", upstream.definition(""))])).await;
    let ann = bridge.key_of("ann", "operator").await;
    let (stream, endpoint) = open(&bridge, "/sse").await;
    let ping = request(1, "ping", &json!({}));
    assert_eq!(post(&bridge, &endpoint, (Some(&ann), &ping)).await, 404);
    assert_eq!(post(&bridge, "/message", (None, &ping)).await, 400);
    assert_eq!(
        post(&bridge, "/message?sessionId=x", (None, &ping)).await,
        404
    );
    let wish = Wish {
        verb: "POST",
        path: &endpoint,
        headers: &[],
        body: "{".to_owned(),
    };
    assert_eq!(send(&bridge, wish).await.status, 400);
    assert_eq!(post(&bridge, &endpoint, (None, &ping)).await, 202);
    drop(stream);
    eventually("the session ends with its stream", || async {
        (post(&bridge, &endpoint, (None, &ping)).await == 404).then_some(())
    })
    .await;
    bridge.stop().await;
}

#[tokio::test]
async fn a_client_that_leaves_cancels_what_it_waited_for() {
    let upstream = Upstream::start(Era::Legacy).await;
    let bridge = Bridge::start(&servers(&[("fake", upstream.definition(""))])).await;
    let (stream, endpoint) = open(&bridge, "/sse/fake").await;
    let slow = request(1, "tools/call", &json!({"name": "slow", "arguments": {}}));
    assert_eq!(post(&bridge, &endpoint, (None, &slow)).await, 202);
    eventually("the call arrives", || async {
        (upstream.calls() == 1).then_some(())
    })
    .await;
    drop(stream);
    eventually("it is cancelled", || async {
        (upstream.cancelled() == 1).then_some(())
    })
    .await;
    bridge.stop().await;
}
