//! What a server is asked to tell, in either era: lists that change, resources that are watched, log lines.

#![expect(clippy::unwrap_used, reason = "a step that fails is the test failing")]

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::time::Instant;
use transports::testing::{Behaviour, FakeServer};
use transports::{
    ConnectOptions, Connection, Inbound, LogLevel, Params, Request, RequestError, connect,
};

const MINUTE: Duration = Duration::from_mins(1);

async fn open(server: &FakeServer) -> (Arc<Connection>, mpsc::Receiver<Inbound>) {
    let (inbound, messages) = mpsc::channel(16);
    let options = ConnectOptions {
        known_era: None,
        inbound,
    };
    let spec = server.spec("fake").unwrap();
    (connect(&spec, options).await.unwrap(), messages)
}

fn call() -> Request {
    Request {
        params: Params::default().with_text("name", "echo"),
        ..Request::new("tools/call", MINUTE)
    }
}

/// Lets everything happen that needs no time, or a moment's.
async fn settle() {
    tokio::time::sleep(Duration::from_millis(300)).await;
}

/// The filters of every `subscriptions/listen` so far.
fn filters(server: &FakeServer) -> Vec<Value> {
    let asked = server.heard("subscriptions/listen");
    asked
        .iter()
        .map(|message| message["params"]["notifications"].clone())
        .collect()
}

fn updated(uri: &str) -> Value {
    json!({"jsonrpc": "2.0", "method": "notifications/resources/updated", "params": {"uri": uri}})
}

#[tokio::test(start_paused = true)]
async fn a_modern_server_on_a_stream_is_listened_to_and_no_call_waits_for_it() {
    let server = FakeServer::modern();
    let (connection, mut messages) = open(&server).await;
    settle().await;
    assert_eq!(filters(&server), [json!({"toolsListChanged": true})]);
    assert!(messages.try_recv().is_err(), "the acknowledgement is ours");
    server.set_tools(Vec::new());
    assert!(matches!(
        messages.recv().await,
        Some(Inbound::Notification(told)) if told.method == "notifications/tools/list_changed"
    ));
    // A stray answer still fails the only call there is: what stays open is no call.
    server.behave(Behaviour::Line(
        "{\"jsonrpc\":\"2.0\",\"id\":99999,\"result\":{}}".into(),
    ));
    let before = Instant::now();
    let error = connection.request(call()).await.unwrap_err();
    assert!(matches!(error, RequestError::Protocol { .. }), "{error:?}");
    assert!(before.elapsed() < Duration::from_secs(2));
    connection.close().await;
    assert_eq!(server.cancelled(), 0);
}

#[tokio::test(start_paused = true)]
async fn what_stays_open_takes_no_place_of_a_call() {
    let server = FakeServer::modern();
    let mut spec = server.spec("fake").unwrap();
    spec.limits.in_flight = 1;
    let (inbound, _messages) = mpsc::channel(1);
    let options = ConnectOptions {
        known_era: None,
        inbound,
    };
    let connection = connect(&spec, options).await.unwrap();
    settle().await;
    assert_eq!(filters(&server).len(), 1);
    connection.request(call()).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_watched_resource_is_asked_for_in_the_words_of_the_era() {
    let server = FakeServer::legacy();
    let (connection, mut messages) = open(&server).await;
    connection
        .subscribe_resource("file:///a", MINUTE)
        .await
        .unwrap();
    connection
        .unsubscribe_resource("file:///a", MINUTE)
        .await
        .unwrap();
    for method in ["resources/subscribe", "resources/unsubscribe"] {
        let said = server.heard(method);
        assert_eq!(said.len(), 1);
        assert_eq!(said[0]["params"], json!({"uri": "file:///a"}));
    }
    server.push(&updated("file:///a"));
    assert!(matches!(
        messages.recv().await,
        Some(Inbound::Notification(_))
    ));

    let server = FakeServer::modern();
    let (connection, mut messages) = open(&server).await;
    settle().await;
    for uri in ["file:///a", "file:///b", "file:///a"] {
        connection.subscribe_resource(uri, MINUTE).await.unwrap();
    }
    connection
        .unsubscribe_resource("file:///a", MINUTE)
        .await
        .unwrap();
    settle().await;
    let with = |uris: Value| json!({"toolsListChanged": true, "resourceSubscriptions": uris});
    assert_eq!(
        filters(&server),
        [
            json!({"toolsListChanged": true}),
            with(json!(["file:///a"])),
            with(json!(["file:///a", "file:///b"])),
            with(json!(["file:///b"])),
        ]
    );
    // Each stream was let go once the next one stood.
    settle().await;
    assert_eq!(server.heard("notifications/cancelled").len(), 3);
    server.push(&updated("file:///b"));
    assert!(matches!(
        messages.recv().await,
        Some(Inbound::Notification(_))
    ));
}

#[tokio::test(start_paused = true)]
async fn many_resources_watched_at_once_cost_few_streams() {
    let server = FakeServer::modern();
    let (connection, _messages) = open(&server).await;
    let watching = (0..50).map(|number| {
        let connection = Arc::clone(&connection);
        async move {
            connection
                .subscribe_resource(&format!("r:{number}"), MINUTE)
                .await
        }
    });
    for watched in futures_util::future::join_all(watching).await {
        watched.unwrap();
    }
    assert!(filters(&server).len() <= 4, "{}", filters(&server).len());
}

#[tokio::test(start_paused = true)]
async fn a_resource_the_server_does_not_tell_of_is_refused_and_not_asked_for_again() {
    let server = FakeServer::modern();
    let (connection, _messages) = open(&server).await;
    let refused = connection.subscribe_resource("unknown:1", MINUTE).await;
    assert!(
        matches!(refused, Err(RequestError::Rpc { code: -32602, .. })),
        "{refused:?}"
    );
    connection
        .subscribe_resource("file:///a", MINUTE)
        .await
        .unwrap();
    let last = filters(&server).pop().unwrap();
    assert_eq!(last["resourceSubscriptions"], json!(["file:///a"]));

    let server = FakeServer::legacy();
    let (connection, _messages) = open(&server).await;
    server.go_deaf(true);
    let late = connection
        .subscribe_resource("file:///a", Duration::from_secs(1))
        .await;
    assert!(
        matches!(late, Err(RequestError::Timeout { .. })),
        "{late:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_stream_the_server_ends_is_opened_again_and_what_was_missed_is_looked_for() {
    for ended_by_answer in [true, false] {
        let server = FakeServer::modern();
        let (_connection, mut messages) = open(&server).await;
        settle().await;
        let id = server.heard("subscriptions/listen")[0]["id"].clone();
        server.push(&if ended_by_answer {
            json!({"jsonrpc": "2.0", "id": id, "result": {"resultType": "complete"}})
        } else {
            let params = json!({"requestId": id});
            json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": params})
        });
        let told = messages.recv().await;
        assert!(
            matches!(&told, Some(Inbound::Notification(told)) if told.method.ends_with("tools/list_changed")),
            "{told:?}"
        );
        assert_eq!(filters(&server).len(), 2);
    }
}

#[tokio::test(start_paused = true)]
async fn a_log_level_is_said_once_to_an_old_server_and_with_each_request_to_a_new_one() {
    let server = FakeServer::legacy();
    let (connection, _messages) = open(&server).await;
    connection
        .set_log_level(LogLevel::Warning, MINUTE)
        .await
        .unwrap();
    connection.request(call()).await.unwrap();
    assert_eq!(
        server.heard("logging/setLevel")[0]["params"],
        json!({"level": "warning"})
    );
    assert!(server.seen()[0]["params"].get("_meta").is_none());

    let server = FakeServer::modern();
    let (connection, _messages) = open(&server).await;
    connection.request(call()).await.unwrap();
    connection
        .set_log_level(LogLevel::Warning, MINUTE)
        .await
        .unwrap();
    connection.request(call()).await.unwrap();
    let louder = Request {
        log_level: Some(LogLevel::Debug),
        ..call()
    };
    connection.request(louder).await.unwrap();
    let levels: Vec<Value> = server
        .seen()
        .iter()
        .map(|call| call["params"]["_meta"]["io.modelcontextprotocol/logLevel"].clone())
        .collect();
    assert_eq!(levels, [Value::Null, json!("warning"), json!("debug")]);
    assert!(server.heard("logging/setLevel").is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_request_tells_a_modern_server_what_its_own_client_can_do() {
    let server = FakeServer::modern();
    let (connection, _messages) = open(&server).await;
    let declared = serde_json::value::to_raw_value(&json!({"elicitation": {"form": {}}})).unwrap();
    let able = Request {
        client_capabilities: Some(Arc::from(declared)),
        ..call()
    };
    connection.request(able).await.unwrap();
    connection.request(call()).await.unwrap();
    let name = "io.modelcontextprotocol/clientCapabilities";
    let told: Vec<Value> = server
        .seen()
        .iter()
        .map(|call| call["params"]["_meta"][name].clone())
        .collect();
    assert_eq!(told, [json!({"elicitation": {"form": {}}}), json!({})]);
}

#[tokio::test(start_paused = true)]
async fn results_of_every_type_pass_as_they_are() {
    for result in [
        r#"{"resultType":"input_required","inputRequests":{"a":{"method":"elicitation/create","params":{"x":1.0}}},"requestState":"s\u0041"}"#,
        r#"{"resultType":"task","task":{"taskId":"t","status":"working","ttlMs":1e3}}"#,
        r#"{"resultType":"of_tomorrow","content":[]}"#,
    ] {
        let server = FakeServer::modern();
        let (connection, _messages) = open(&server).await;
        server.behave(Behaviour::Line(format!(
            "{{\"jsonrpc\":\"2.0\",\"id\":@ID@,\"result\":{result}}}"
        )));
        assert_eq!(connection.request(call()).await.unwrap().get(), result);
    }
}

#[tokio::test(start_paused = true)]
async fn an_error_of_the_server_keeps_code_words_and_data() {
    let server = FakeServer::legacy();
    let (connection, _messages) = open(&server).await;
    server.behave(Behaviour::Line(
        r#"{"jsonrpc":"2.0","id":@ID@,"error":{"code":-32042,"message":"go \u0074here","data":{"elicitations":[ 1.0 ]}}}"#
            .into(),
    ));
    let error = connection.request(call()).await.unwrap_err();
    let RequestError::Rpc {
        code,
        message,
        data,
    } = error
    else {
        panic!("{error:?}")
    };
    assert_eq!((code, &*message), (-32042, "go there"));
    assert_eq!(data.unwrap().get(), r#"{"elicitations":[ 1.0 ]}"#);
}

#[tokio::test(start_paused = true)]
async fn the_client_may_say_that_its_roots_changed() {
    let server = FakeServer::legacy();
    let (connection, _messages) = open(&server).await;
    let method = "notifications/roots/list_changed";
    connection.notify(method, &Params::default()).await.unwrap();
    settle().await;
    assert_eq!(server.heard(method).len(), 1);
}
