//! Connections: the newest wins, the silent ends, and what an agent offers is kept.

use std::time::Duration;

use serde_json::json;
use transports::Era;
use transports::tunnel::frame::{Configure, Goodbye, Lists, ServerTools, Tools};
use transports::tunnel::{Kind, Payload};

use crate::played::{Bridge, invocation, raw};

fn tools(generation: u64, name: &str) -> Payload {
    Payload::Tools(Tools {
        generation,
        servers: vec![ServerTools {
            server: "files".into(),
            era: Era::Legacy,
            lists: Lists::Known,
            tools: vec![raw(&json!({ "name": name }))],
            resources: Vec::new(),
            templates: Vec::new(),
            prompts: Vec::new(),
            capabilities: None,
            server_info: None,
            instructions: None,
            protocol_version: None,
            problem: None,
        }],
    })
}

#[tokio::test(start_paused = true)]
async fn the_newest_connection_wins() {
    let bridge = Bridge::new();
    let first = bridge.connect().await;
    let mut second = bridge.connect().await;
    assert_eq!(
        first.end().await,
        (Some(4409), "a newer connection of this agent".to_owned())
    );
    let call = bridge.calls(invocation("call_1"));
    second.takes("call_1").await;
    second.result("call_1", &json!({})).await;
    call.await.unwrap().unwrap();
    assert_eq!(bridge.owner.told(), ["online 1", "online 2"]);
    assert!(bridge.agent.facts().online);
}

#[tokio::test(start_paused = true)]
async fn what_is_offered_is_kept_while_the_agent_is_away() {
    let bridge = Bridge::new();
    let mut changes = bridge.agent.catalogue_changes();
    let mut line = bridge.connect().await;
    line.say(None, tools(1, "a")).await;
    changes.changed().await.unwrap();
    let first = bridge.agent.catalogue();
    // The same again is no change.
    line.say(None, tools(2, "a")).await;
    line.say(None, tools(3, "b")).await;
    changes.changed().await.unwrap();
    line.cut().await;
    let second = bridge.agent.catalogue();
    assert_ne!(first.digest, second.digest);
    let server = second.server("files").unwrap();
    assert_eq!(server.told.tools[0].get(), r#"{"name":"b"}"#);
    assert_eq!(
        bridge.owner.told()[..3],
        ["online 1", "catalogue 1", "catalogue 3"]
    );
    // What the store kept does not replace what the agent said, and comes back as it was.
    bridge.agent.restore_catalogue((*first).clone());
    assert_eq!(bridge.agent.catalogue().digest, second.digest);
    let kept = serde_json::to_string(&*second).unwrap();
    let other = Bridge::new();
    other
        .agent
        .restore_catalogue(serde_json::from_str(&kept).unwrap());
    let back = other.agent.catalogue();
    assert_eq!(
        back.server("files").unwrap().told.tools[0].get(),
        r#"{"name":"b"}"#
    );
    assert_eq!(back.digest, second.digest);
}

#[tokio::test(start_paused = true)]
async fn each_side_is_pinged_and_a_silent_agent_is_dropped() {
    let bridge = Bridge::new();
    let mut line = bridge.connect().await;
    let began = tokio::time::Instant::now();
    line.hears(Kind::Ping).await;
    assert_eq!(began.elapsed(), Duration::from_secs(20));
    line.say(None, Payload::Ping).await;
    line.hears(Kind::Pong).await;
    let (code, _) = line.end().await;
    assert_eq!(code, Some(4408));
    assert_eq!(began.elapsed(), Duration::from_secs(80));
    assert_eq!(
        bridge.owner.told(),
        ["online 1", "offline: nothing was heard for too long"]
    );
    assert!(bridge.agent.facts().last_seen_unix_s > 0);
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_says_goodbye_finishes_and_takes_nothing_new() {
    let bridge = Bridge::new();
    let mut line = bridge.connect().await;
    let call = bridge.calls(invocation("call_1"));
    line.takes("call_1").await;
    line.say(None, Payload::Goodbye(Goodbye::default())).await;
    line.say(None, Payload::Ping).await;
    line.hears(Kind::Pong).await;
    assert!(bridge.agent.invoke(invocation("call_2")).await.is_err());
    line.result("call_1", &json!({})).await;
    call.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_bridge_that_goes_says_so_and_closes() {
    let bridge = Bridge::new();
    let mut line = bridge.connect().await;
    bridge.agent.disconnect(1001, "the bridge goes");
    line.hears(Kind::Goodbye).await;
    assert_eq!(line.end().await, (Some(1001), "the bridge goes".to_owned()));
    assert!(!bridge.agent.facts().online);
}

#[tokio::test(start_paused = true)]
async fn only_a_local_agent_is_told_definitions() {
    let bridge = Bridge::new();
    let configure = |generation| Configure {
        generation,
        servers: raw(&json!([])),
    };
    bridge.agent.configure(configure(1));
    let mut far = bridge.connect().await;
    far.hears_nothing().await;
    let mut near = bridge.connect_local().await;
    near.hears(Kind::Configure).await;
    bridge.agent.configure(configure(2));
    let frame = near.hears(Kind::Configure).await;
    assert!(matches!(frame.payload, Payload::Configure(told) if told.generation == 2));
}
