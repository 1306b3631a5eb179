//! Calls through agents on a line inside this process: the bridge's own agent, isolation, rounds of questions, and
//! what a restart does to a call whose agent does not come back.

use std::collections::BTreeMap;

use secrecy::SecretString;
use sessions::Lane;
use transports::ServerName;
use transports::testing::tunnel::{MemorySocket, socket_pair};
use transports::tunnel::FrameSocket as _;
use transports::tunnel::bridge::{Door, serve};

use super::*;
use crate::call::CallId;
use crate::call_state::CallState;
use crate::definition::Definition;
use crate::operations::agents::AgentTokenWish;
use crate::operations::calls::CallView;

/// An agent made of JSON texts.
struct Played {
    socket: MemorySocket,
    id: String,
    connection: Value,
    seq: u64,
    welcome: Value,
}

impl Played {
    async fn connect<D: Door + 'static>(door: D, (id, token): (&str, &str), offer: Value) -> Self {
        let (ours, theirs) = socket_pair();
        tokio::spawn(async move { serve(theirs, &door).await });
        let mut played = Self {
            socket: ours,
            id: id.to_owned(),
            connection: Value::Null,
            seq: 0,
            welcome: Value::Null,
        };
        let hello = json!({"agent_meta": {"hostname": "h", "spool_id": "s"}, "resume": offer, "protocol": {"min": 1, "max": 1}});
        played.say("HELLO", None, hello).await;
        played.say("AUTH", None, json!({"token": token})).await;
        let welcome = played.expect("HELLO_ACK").await;
        played.connection = welcome["payload"]["conn_session_id"].clone();
        played.welcome = welcome["payload"].clone();
        played
    }

    async fn say(&mut self, kind: &str, req_id: Option<&str>, payload: Value) {
        self.seq += 1;
        let mut frame = json!({"v": 1, "type": kind, "agent_id": self.id, "seq": self.seq, "ts": 1, "payload": payload});
        if let Some(req_id) = req_id {
            frame["req_id"] = json!(req_id);
        }
        if !self.connection.is_null() {
            frame["conn_session_id"] = self.connection.clone();
        }
        self.socket.send(frame.to_string()).await.unwrap();
    }

    async fn expect(&mut self, kind: &str) -> Value {
        loop {
            let next = tokio::time::timeout(PATIENCE, self.socket.recv()).await;
            let text = next.unwrap().unwrap().unwrap();
            let frame: Value = serde_json::from_str(&text).unwrap();
            if frame["type"] != "PING" {
                assert_eq!(frame["type"], kind, "{frame}");
                return frame;
            }
        }
    }

    async fn tools(&mut self, servers: Value) {
        self.say("TOOLS", None, json!({"generation": 1, "servers": servers}))
            .await;
    }

    async fn invoked(&mut self) -> (String, Value) {
        let frame = self.expect("INVOKE").await;
        let req_id = frame["req_id"].as_str().unwrap().to_owned();
        self.say("INVOKE_ACK", Some(&req_id), json!({"accepted": true}))
            .await;
        (req_id, frame["payload"].clone())
    }

    async fn answer(&mut self, req_id: &str, result: Value) {
        let payload = json!({"ok": true, "exit_code": 0, "canceled": false, "result_json": result});
        self.say("RESULT", Some(req_id), payload).await;
    }
}

fn offered(server: &str, era: &str) -> Value {
    let tool = |name: &str, read_only: bool| json!({"name": name, "inputSchema": {"type": "object"}, "annotations": {"readOnlyHint": read_only}});
    json!({"server": server, "era": era, "tools": [tool("look", true), tool("act", false)], "capabilities": {"tools": {}}})
}

fn said(text: &str) -> Value {
    json!({"content": [{"type": "text", "text": text}]})
}

async fn token(broker: &Broker, id: &str) -> String {
    let wish = AgentTokenWish {
        agent_id: Some(id.to_owned()),
        ..AgentTokenWish::default()
    };
    let issued = broker.issue_agent_token(&admin(), wish).await.unwrap();
    secrecy::ExposeSecret::expose_secret(&issued.token).to_owned()
}

/// The admin's agent `laptop`; its user must be a member.
async fn laptop(broker: &Broker, offer: Value) -> Played {
    let who = admin().principal;
    let memberships = [(who.workspace.clone(), vec![Role::Admin])];
    broker
        .inner
        .store
        .put_user(&who.user, &memberships)
        .await
        .unwrap();
    let token = token(broker, "laptop").await;
    Played::connect(broker.agent_door(), ("laptop", &token), offer).await
}

async fn broker(dir: &tempfile::TempDir, change: impl FnOnce(&mut BrokerOptions)) -> Broker {
    start(dir, change).await
}

async fn listed(broker: &Broker, reference: &str) {
    until(reference, || async {
        let request = CallTool {
            dry_run: true,
            ..tool(reference, &json!({}))
        };
        broker.call_tool(&admin(), request).await.is_ok()
    })
    .await;
}

async fn view(broker: &Broker, call: &str, wait: Duration) -> CallView {
    broker.get_call(&admin(), call, wait).await.unwrap()
}

async fn begun(broker: &Broker, request: CallTool) -> String {
    let request = CallTool {
        respond_async: true,
        ..request
    };
    match broker.call_tool(&admin(), request).await.unwrap() {
        CallAnswer::Accepted { call_id } => call_id,
        other => panic!("{other:?}"),
    }
}

fn child() -> BTreeMap<ServerName, Definition> {
    let json = r#"{"transport":"stdio","command":["files-server","/data"],"runner":"agent","isolation":"shared"}"#;
    let definition = serde_json::from_str(json).unwrap();
    BTreeMap::from([(ServerName::new("files").unwrap(), definition)])
}

#[tokio::test]
async fn without_an_agent_of_its_own_a_bridge_refuses_what_one_should_run() {
    let dir = tempfile::tempdir().unwrap();
    let bridge = broker(&dir, |_| {}).await;
    assert!(bridge.local_runner().is_none());
    let refused = bridge.apply_file(child()).await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::InvalidArguments);
    assert_eq!(refused.errors[0].pointer, "/servers/files/runner");
    bridge.shutdown(Duration::ZERO).await;
}

#[tokio::test]
async fn the_bridges_own_agent_runs_what_is_given_to_it_and_its_calls_outlive_the_bridge() {
    let dir = tempfile::tempdir().unwrap();
    let with_agent = |options: &mut BrokerOptions| options.local_agent = true;
    let bridge = broker(&dir, with_agent).await;
    bridge.apply_file(child()).await.unwrap();
    let runner = bridge.local_runner().unwrap();
    let wanted = runner.wanted().borrow().clone();
    assert_eq!(wanted.len(), 1);
    let name = wanted[0].name.clone();
    assert!(name.starts_with("default/files#"), "{name}");
    let id = runner.agent().id().to_string();
    let offer = json!([{ "server": name, "era": "legacy", "tools": offered("x", "legacy")["tools"], "capabilities": {"tools": {}} }]);
    let mut agent = Played::connect(runner, (&id, ""), json!({})).await;
    agent.tools(offer.clone()).await;
    listed(&bridge, "files.act").await;
    let call = begun(&bridge, tool("files.act", &json!({}))).await;
    let (req_id, invoke) = agent.invoked().await;
    assert_eq!(
        (req_id.as_str(), &invoke["server"]),
        (call.as_str(), &json!(name))
    );
    assert!(
        invoke["isolation_key"]
            .as_str()
            .unwrap()
            .starts_with("shared:")
    );
    let key = invoke["isolation_key"].clone();
    assert_eq!(
        view(&bridge, &call, Duration::ZERO)
            .await
            .agent_id
            .as_deref(),
        Some("@local")
    );
    bridge.shutdown(Duration::ZERO).await;

    own_agent_after_a_restart(&dir, (&call, &name), (&key, offer)).await;
}

/// The second life of the bridge: the same child, the call that went on, and a changed definition.
async fn own_agent_after_a_restart(
    dir: &tempfile::TempDir,
    (call, name): (&str, &str),
    (key, offer): (&Value, Value),
) {
    let bridge = broker(dir, |options| options.local_agent = true).await;
    bridge.apply_file(child()).await.unwrap();
    let runner = bridge.local_runner().unwrap();
    let id = runner.agent().id().to_string();
    assert_eq!(runner.wanted().borrow()[0].name, name, "the same child");
    assert_eq!(
        view(&bridge, call, Duration::ZERO).await.state,
        CallState::Running
    );
    let away = bridge
        .call_tool(&admin(), tool("files.act", &json!({})))
        .await;
    assert_eq!(done(away).unwrap_err().code, ErrorCode::AgentOffline);
    let mut agent = Played::connect(runner.clone(), (&id, ""), json!({"running": [call]})).await;
    assert_eq!(agent.welcome["resume"]["cancel"], json!([]));
    agent.tools(offer).await;
    agent.answer(call, said("kept")).await;
    agent.expect("RESULT_ACK").await;
    let ended = view(&bridge, call, PATIENCE).await;
    assert_eq!(ended.state, CallState::Succeeded);
    listed(&bridge, "files.look").await;
    let looked = tokio::spawn({
        let bridge = bridge.clone();
        async move {
            done(
                bridge
                    .call_tool(&admin(), tool("files.look", &json!({})))
                    .await,
            )
        }
    });
    let (req_id, invoke) = agent.invoked().await;
    assert_eq!(
        &invoke["isolation_key"], key,
        "the same session has the same key"
    );
    agent.answer(&req_id, said("seen")).await;
    assert_eq!(text(&looked.await.unwrap().unwrap()), "seen");
    // A changed definition is another child.
    let mut changed = child();
    let definition = changed.values_mut().next().unwrap();
    definition.command.push("--more".to_owned());
    bridge.apply_file(changed).await.unwrap();
    assert_ne!(runner.wanted().borrow()[0].name, name);
    bridge.apply_file(BTreeMap::new()).await.unwrap();
    assert!(runner.wanted().borrow().is_empty());
    bridge.shutdown(Duration::ZERO).await;
}

#[tokio::test]
async fn a_users_agent_is_no_local_agent_and_a_local_one_speaks_for_nobody_else() {
    let dir = tempfile::tempdir().unwrap();
    let bridge = broker(&dir, |options| options.local_agent = true).await;
    let mut agent = laptop(&bridge, json!({})).await;
    agent.tools(json!([offered("files", "legacy")])).await;
    listed(&bridge, "laptop-files.act").await;
    let call = begun(&bridge, tool("laptop-files.act", &json!({}))).await;
    agent.invoked().await;
    let runner = bridge.local_runner().unwrap();
    let id = runner.agent().id().to_string();
    let own = Played::connect(runner, (&id, ""), json!({"running": [call], "results": []})).await;
    assert_eq!(
        own.welcome["resume"]["cancel"],
        json!([call]),
        "not its call"
    );
    bridge.shutdown(Duration::ZERO).await;
}

#[tokio::test]
async fn lanes_and_calls_have_connections_of_their_own_at_the_agent() {
    let dir = tempfile::tempdir().unwrap();
    let bridge = broker(&dir, |_| {}).await;
    let definition = |isolation: &str| {
        let json =
            format!(r#"{{"transport":"tunnel","server":"files","isolation":"{isolation}"}}"#);
        serde_json::from_str::<Definition>(&json).unwrap()
    };
    let names = ["by-lane", "by-call"].map(|name| ServerName::new(name).unwrap());
    let servers = names.into_iter().zip(["lane", "call"].map(definition));
    bridge.apply_file(servers.collect()).await.unwrap();
    let mut agent = laptop(&bridge, json!({})).await;
    agent.tools(json!([offered("files", "legacy")])).await;
    let mut keys = Vec::new();
    for (reference, lane) in [
        ("by-lane.look", "run:1"),
        ("by-lane.look", "run:2"),
        ("by-lane.look", "run:1"),
        ("by-call.look", ""),
        ("by-call.look", ""),
    ] {
        listed(&bridge, reference).await;
        let request = CallTool {
            lane: Lane::new(lane).unwrap(),
            ..tool(reference, &json!({}))
        };
        let asked = tokio::spawn({
            let bridge = bridge.clone();
            async move { done(bridge.call_tool(&admin(), request).await) }
        });
        let (req_id, invoke) = agent.invoked().await;
        agent.answer(&req_id, said("ok")).await;
        asked.await.unwrap().unwrap();
        agent.expect("RESULT_ACK").await;
        keys.push(invoke["isolation_key"].as_str().unwrap().to_owned());
    }
    assert!(
        keys[0].starts_with("lane:") && keys[3].starts_with("call:"),
        "{keys:?}"
    );
    assert_eq!(keys[0], keys[2]);
    assert!(keys[0] != keys[1] && keys[3] != keys[4], "{keys:?}");
    let shared = r#"{"transport":"tunnel","server":"files","isolation":"shared"}"#;
    let shared = BTreeMap::from([(
        ServerName::new("all").unwrap(),
        serde_json::from_str(shared).unwrap(),
    )]);
    let refused = bridge.apply_file(shared).await.unwrap_err();
    assert_eq!(refused.errors[0].pointer, "/servers/all/isolation");
    bridge.shutdown(Duration::ZERO).await;
}

#[tokio::test]
async fn a_server_that_asks_back_is_asked_again_under_another_id_of_the_same_call() {
    let dir = tempfile::tempdir().unwrap();
    let bridge = broker(&dir, |_| {}).await;
    let mut agent = laptop(&bridge, json!({})).await;
    agent.tools(json!([offered("files", "modern")])).await;
    listed(&bridge, "laptop-files.act").await;
    let call = begun(&bridge, tool("laptop-files.act", &json!({"path": "/x"}))).await;
    let (first, _) = agent.invoked().await;
    assert_eq!(first, call);
    let asks = json!({"resultType": "input_required", "requestState": "s-1",
        "inputRequests": {"sure": {"method": "elicitation/create", "params": {"message": "sure?", "requestedSchema": {"type": "object"}}}}});
    agent.answer(&first, asks).await;
    until("the question is put", || async {
        view(&bridge, &call, Duration::ZERO).await.state == CallState::InputRequired
    })
    .await;
    let answer = crate::InputAnswer::Result(raw(r#"{"action":"accept","content":{}}"#));
    bridge
        .answer_input(&admin(), &call, vec![("sure".to_owned(), answer)])
        .unwrap();
    // What the first round answered need not be kept any more.
    assert_eq!(agent.expect("RESULT_ACK").await["req_id"], json!(call));
    let (second, invoke) = agent.invoked().await;
    assert_eq!(second, format!("{call}.1"));
    assert_eq!(invoke["params"]["requestState"], "s-1");
    assert_eq!(
        invoke["params"]["inputResponses"]["sure"]["action"],
        "accept"
    );
    agent.answer(&second, said("done")).await;
    assert_eq!(agent.expect("RESULT_ACK").await["req_id"], json!(second));
    assert_eq!(
        view(&bridge, &call, PATIENCE).await.state,
        CallState::Succeeded
    );
    bridge.shutdown(Duration::ZERO).await;
}

#[tokio::test]
async fn an_agent_that_never_comes_back_leaves_an_honest_end() {
    let dir = tempfile::tempdir().unwrap();
    let bridge = broker(&dir, |_| {}).await;
    let mut agent = laptop(&bridge, json!({})).await;
    agent.tools(json!([offered("files", "legacy")])).await;
    listed(&bridge, "laptop-files.act").await;
    let mut calls = Vec::new();
    for reference in ["laptop-files.look", "laptop-files.act"] {
        let request = within(tool(reference, &json!({})), Duration::from_millis(1500));
        calls.push(begun(&bridge, request).await);
        agent.invoked().await;
    }
    bridge.shutdown(Duration::ZERO).await;
    tokio::time::sleep(Duration::from_millis(1600)).await;
    let bridge = broker(&dir, |options| {
        options.calls.agents_return = Duration::from_millis(100);
    })
    .await;
    // Seconds after the deadline at the latest, not when somebody asks.
    for (call, state) in calls
        .iter()
        .zip([CallState::TimedOut, CallState::OutcomeUnknown])
    {
        let ended = view(&bridge, call, PATIENCE).await;
        assert_eq!(ended.state, state);
        assert_eq!(ended.fault.unwrap().executed, ExecutedWire::Unknown);
    }
    bridge.shutdown(Duration::ZERO).await;
}

/// More of an agent's calls than may be in flight: two processes of before may have left them.
#[tokio::test]
async fn however_many_calls_an_agent_runs_a_restart_says_of_none_that_it_did_not() {
    const CALLS: usize = 300;
    let dir = tempfile::tempdir().unwrap();
    let bridge = broker(&dir, |_| {}).await;
    let mut agent = laptop(&bridge, json!({})).await;
    agent.tools(json!([offered("files", "legacy")])).await;
    listed(&bridge, "laptop-files.act").await;
    let first = begun(&bridge, tool("laptop-files.act", &json!({}))).await;
    agent.invoked().await;
    let asker = admin();
    let id = CallId::parse(&first).unwrap();
    let row = bridge
        .inner
        .ledger
        .row(&asker.principal.workspace, id)
        .await;
    let intent = row.unwrap().unwrap().intent;
    let mut calls = vec![first];
    for _ in 1..CALLS {
        let mut other = intent.clone();
        other.id = CallId::mint();
        calls.push(other.id.to_string());
        bridge.inner.ledger.begin(&other).await.unwrap();
    }
    bridge.shutdown(Duration::ZERO).await;
    let bridge = broker(&dir, |_| {}).await;
    for call in &calls {
        let seen = view(&bridge, call, Duration::ZERO).await;
        assert_eq!(seen.state, CallState::Running, "{call}");
    }
    let mut agent = laptop(&bridge, json!({"running": calls})).await;
    for call in &calls {
        agent.answer(call, said("kept")).await;
        agent.expect("RESULT_ACK").await;
        let ended = view(&bridge, call, PATIENCE).await;
        assert_eq!(ended.state, CallState::Succeeded, "{call}");
    }
    bridge.shutdown(Duration::ZERO).await;
}

#[tokio::test]
async fn an_id_that_comes_again_is_another_agent() {
    let dir = tempfile::tempdir().unwrap();
    let bridge = broker(&dir, |_| {}).await;
    let mut first = laptop(&bridge, json!({})).await;
    first.tools(json!([offered("files", "legacy")])).await;
    listed(&bridge, "laptop-files.look").await;
    bridge.delete_agent(&admin(), "laptop", None).await.unwrap();
    let gone = bridge
        .call_tool(&admin(), tool("laptop-files.look", &json!({})))
        .await;
    assert_eq!(done(gone).unwrap_err().code, ErrorCode::ToolNotFound);
    let mut second = laptop(&bridge, json!({})).await;
    second.tools(json!([offered("files", "legacy")])).await;
    listed(&bridge, "laptop-files.look").await;
    let asked = tokio::spawn({
        let bridge = bridge.clone();
        async move {
            done(
                bridge
                    .call_tool(&admin(), tool("laptop-files.look", &json!({})))
                    .await,
            )
        }
    });
    let (req_id, _) = second.invoked().await;
    second.answer(&req_id, said("the new one")).await;
    assert_eq!(text(&asked.await.unwrap().unwrap()), "the new one");
    bridge.shutdown(Duration::ZERO).await;
}

#[tokio::test]
async fn a_user_who_lost_the_workspace_brings_no_tools_into_it() {
    let dir = tempfile::tempdir().unwrap();
    let bridge = broker(&dir, |_| {}).await;
    drop(laptop(&bridge, json!({})).await);
    let token = SecretString::from(token(&bridge, "laptop").await);
    let who = admin().principal;
    bridge.inner.store.put_user(&who.user, &[]).await.unwrap();
    let auth = transports::tunnel::frame::Auth {
        token,
        device_fingerprint: None,
    };
    let id = transports::tunnel::AgentId::new("laptop").unwrap();
    let hello = transports::tunnel::frame::Hello::default();
    let admitted = bridge.agent_door().admit(&id, &hello, &auth).await;
    assert_eq!(admitted.unwrap_err().reason, "the token is not valid");
    bridge.shutdown(Duration::ZERO).await;
}
