//! A server behind an agent, as a connection like any other.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokio::sync::mpsc;
use transports::tunnel::frame::{Lists, ServerTools, Tools};
use transports::tunnel::{Kind, Payload};
use transports::{
    CloseReason, ConnectError, ConnectOptions, Connection, Endpoint, Era, EraChoice, Inbound,
    Params, Request, RequestError, ServerName, ServerSpec, Timeouts, TunnelSpec, WireLimits,
    connect,
};

use crate::played::{Bridge, Played, raw};

fn offers(server: &str, tool: &str) -> Payload {
    Payload::Tools(Tools {
        generation: 1,
        servers: vec![ServerTools {
            server: server.to_owned(),
            era: Era::Modern,
            lists: Lists::Known,
            tools: vec![raw(&json!({ "name": tool })), raw(&json!({"name": "b"}))],
            resources: Vec::new(),
            templates: Vec::new(),
            prompts: vec![raw(&json!({"name": "p"}))],
            capabilities: Some(raw(&json!({"tools": {"listChanged": true}}))),
            server_info: Some(raw(&json!({"name": "files", "version": "1"}))),
            instructions: Some("be kind".to_owned()),
            protocol_version: Some("2026-07-28".to_owned()),
            problem: None,
        }],
    })
}

fn spec(bridge: &Bridge) -> ServerSpec {
    ServerSpec {
        name: ServerName::new("laptop-files").unwrap(),
        endpoint: Endpoint::Tunnel(TunnelSpec {
            agent: bridge.agent.clone(),
            server: "files".to_owned(),
            isolation_key: "lane 1".to_owned(),
        }),
        era: EraChoice::Auto,
        timeouts: Timeouts::default(),
        limits: WireLimits::default(),
    }
}

async fn open(bridge: &Bridge) -> Result<(Arc<Connection>, mpsc::Receiver<Inbound>), ConnectError> {
    let (inbound, heard) = mpsc::channel(8);
    let options = ConnectOptions {
        known_era: None,
        inbound,
    };
    let connection = connect(&spec(bridge), options).await?;
    Ok((connection, heard))
}

/// An agent that offers the server, and a connection to it.
async fn opened() -> (Bridge, Played, Arc<Connection>, mpsc::Receiver<Inbound>) {
    let bridge = Bridge::new();
    let mut line = bridge.connect().await;
    let mut changes = bridge.agent.catalogue_changes();
    line.say(None, offers("files", "a")).await;
    changes.changed().await.unwrap();
    let (connection, heard) = open(&bridge).await.unwrap();
    (bridge, line, connection, heard)
}

fn request(method: &'static str) -> Request {
    Request::new(method, Duration::from_secs(5))
}

#[tokio::test(start_paused = true)]
async fn the_handshake_and_the_lists_are_what_the_agent_told() {
    let (_bridge, mut line, connection, _heard) = opened().await;
    let info = connection.info();
    assert_eq!((info.era, info.transport), (Era::Modern, "tunnel"));
    assert_eq!(info.protocol_version, "2026-07-28");
    assert_eq!(info.instructions.as_deref(), Some("be kind"));
    let mut answers = Vec::new();
    for method in [
        "tools/list",
        "resources/list",
        "resources/templates/list",
        "prompts/list",
    ] {
        let answer = connection.request(request(method)).await.unwrap();
        answers.push(answer.get().to_owned());
    }
    assert_eq!(
        answers,
        [
            r#"{"tools":[{"name":"a"},{"name":"b"}]}"#,
            r#"{"resources":[]}"#,
            r#"{"resourceTemplates":[]}"#,
            r#"{"prompts":[{"name":"p"}]}"#,
        ]
    );
    connection.ping(Duration::from_secs(1)).await.unwrap();
    let unknown = connection.request(request("tasks/get")).await;
    assert!(matches!(
        unknown,
        Err(RequestError::Rpc { code: -32601, .. })
    ));
    line.hears_nothing().await;
}

#[tokio::test(start_paused = true)]
async fn a_call_crosses_with_the_ledgers_name_and_waits_to_be_settled() {
    let (bridge, mut line, connection, _heard) = opened().await;
    let call = Request {
        params: Params::default().with_text("name", "a"),
        meta: Params::default()
            .with_text("traceparent", "00-1")
            .with("progressToken", raw(&json!(7))),
        call_id: Some("call_9".into()),
        ..request("tools/call")
    };
    let caller = Arc::clone(&connection);
    let call = tokio::spawn(async move { caller.request(call).await });
    let frame = line.takes("call_9").await;
    let Payload::Invoke(invoke) = frame.payload else {
        unreachable!()
    };
    assert_eq!(
        (&*invoke.server, &*invoke.isolation_key),
        ("files", "lane 1")
    );
    assert_eq!(
        invoke.params.get(),
        r#"{"name":"a","_meta":{"traceparent":"00-1"}}"#
    );
    line.result("call_9", &json!({"content": []})).await;
    assert!(call.await.unwrap().is_ok());
    line.hears_nothing().await;
    bridge.agent.settled("call_9");
    line.hears(Kind::ResultAck).await;
    // Without a name of the ledger the carrier makes one, and acknowledges.
    let caller = Arc::clone(&connection);
    let call = tokio::spawn(async move { caller.request(request("prompts/get")).await });
    let frame = line.hears(Kind::Invoke).await;
    let name = frame.req_id.unwrap();
    line.result(&name, &json!({})).await;
    line.hears(Kind::ResultAck).await;
    assert!(call.await.unwrap().is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_changed_list_is_told() {
    let (_bridge, mut line, connection, mut heard) = opened().await;
    line.say(None, offers("files", "c")).await;
    let Some(Inbound::Notification(news)) = heard.recv().await else {
        panic!("nothing was told")
    };
    assert_eq!(news.method, "notifications/tools/list_changed");
    let tools = connection.request(request("tools/list")).await.unwrap();
    assert_eq!(tools.get(), r#"{"tools":[{"name":"c"},{"name":"b"}]}"#);
    line.say(None, offers("other", "c")).await;
    let reason = connection.closed().await;
    assert_eq!(
        reason,
        CloseReason::Lost("the agent no longer offers the server".to_owned())
    );
    assert!(heard.try_recv().is_err());
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_is_away_for_a_while_ends_nothing() {
    let (bridge, line, connection, _heard) = opened().await;
    line.cut().await;
    let offline = connection.request(request("tools/call")).await.unwrap_err();
    assert!(
        matches!(offline, RequestError::AgentOffline { .. }),
        "{offline:?}"
    );
    connection.ping(Duration::from_secs(1)).await.unwrap();
    tokio::time::sleep(Duration::from_secs(100)).await;
    let line = bridge.connect().await;
    tokio::time::sleep(Duration::from_secs(10)).await;
    line.cut().await;
    let began = tokio::time::Instant::now();
    let reason = connection.closed().await;
    assert_eq!(reason, CloseReason::Lost("the agent is offline".to_owned()));
    assert_eq!(began.elapsed().as_secs(), 120);
    let closed = connection.request(request("tools/list")).await;
    assert!(matches!(closed, Err(RequestError::Closed { .. })));
    let refused = open(&bridge).await;
    assert!(matches!(refused, Err(ConnectError::AgentOffline { agent }) if agent == "laptop"));
}

#[tokio::test(start_paused = true)]
async fn closing_cancels_what_is_in_flight() {
    let (_bridge, mut line, connection, _heard) = opened().await;
    let caller = Arc::clone(&connection);
    let call = tokio::spawn(async move { caller.request(request("tools/call")).await });
    let frame = line.hears(Kind::Invoke).await;
    connection.close().await;
    assert!(matches!(
        call.await.unwrap(),
        Err(RequestError::Closed { .. })
    ));
    let cancel = line.hears(Kind::Cancel).await;
    assert_eq!(cancel.req_id, frame.req_id);
    assert_eq!(connection.closed().await, CloseReason::Asked);
}
