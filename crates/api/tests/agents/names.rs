//! Whose servers are whose, under which names, and which agent is meant.

use serde_json::{Value, json};

use crate::agent::{Agent, listed, ready, server, text_result, token, with_key};
use crate::kit::{Bridge, Reply, eventually};

async fn call(bridge: &Bridge, key: &str, body: &Value) -> Reply {
    with_key(bridge, key, "POST /v1/calls", body).await
}

#[tokio::test]
async fn two_users_with_the_same_agent_id_never_meet() {
    let (bridge, mut anns, _) = ready().await;
    let bob = bridge.key_of("bob", "operator").await;
    let ann = bridge.key.clone();
    let refused = call(&bridge, &bob, &json!({"ref": "laptop-files.look"})).await;
    assert_eq!(
        (refused.status, refused.code().as_str()),
        (404, "tool_not_found")
    );
    let bobs_token = token(&bridge, &bob, "laptop", false).await;
    let mut bobs = Agent::connect(bridge.address, "laptop", &bobs_token).await;
    bobs.tools(&[server("files"), server("secrets")]).await;
    listed(&bridge, &bob, "laptop-secrets.look").await;
    let asked = tokio::spawn({
        let request = bridge.request(
            "POST /v1/calls",
            &[&format!("authorization: Bearer {bob}")],
            &json!({"ref": "laptop-files.look"}).to_string(),
        );
        let mut stream = bridge.connect().await;
        async move {
            use tokio::io::AsyncWriteExt as _;
            stream.write_all(request.as_bytes()).await.unwrap();
            crate::kit::read_reply(&mut stream).await
        }
    });
    let (req_id, invoke) = bobs.invoked().await;
    assert_eq!(invoke["server"], "files");
    // Ann's agent speaks of Bob's call: a bad frame, and nobody sees it.
    anns.result(&req_id, &text_result("forged")).await;
    bobs.result(&req_id, &text_result("bob's own")).await;
    let answer = asked.await.unwrap().json();
    assert_eq!(answer["content"][0]["text"], "bob's own");
    let bad = eventually("the forged result is counted", || async {
        let view = bridge.get("/v1/agents/laptop").await.json();
        view["bad_frames"].as_u64().filter(|bad| *bad > 0)
    })
    .await;
    assert_eq!(bad, 1);
    // Neither sees the other's servers, agents or calls.
    let seen = with_key(&bridge, &ann, "GET /v1/catalog?limit=500", &Value::Null)
        .await
        .text();
    assert!(!seen.contains("secrets"), "{seen}");
    let own = with_key(&bridge, &bob, "GET /v1/agents", &Value::Null)
        .await
        .json();
    assert_eq!(own["items"].as_array().unwrap().len(), 1);
    assert_eq!(own["items"][0]["user"], "bob");
    let foreign = call(&bridge, &ann, &json!({"ref": "laptop-secrets.look"})).await;
    assert_eq!(foreign.status, 404);
    // An admin manages the agents of others by saying whose.
    let shown = bridge.get("/v1/agents/laptop?user=bob").await.json();
    assert_eq!(shown["servers"], json!(["laptop-files", "laptop-secrets"]));
    let not_bob = with_key(&bridge, &bob, "GET /v1/agents?user=admin", &Value::Null).await;
    assert_eq!(not_bob.status, 403);
    bridge.stop().await;
}

#[tokio::test]
async fn servers_of_agents_have_names_a_ref_can_hold() {
    let bridge = Bridge::start("").await;
    let key = bridge.key.clone();
    for (id, servers) in [("a-b", vec!["c"]), ("lap_TOP", vec!["File System", "b-c"])] {
        let token = token(&bridge, &key, id, false).await;
        let mut agent = Agent::connect(bridge.address, id, &token).await;
        let servers: Vec<Value> = servers.into_iter().map(server).collect();
        agent.tools(&servers).await;
        // It stays connected.
        tokio::spawn(async move { agent.closed().await });
    }
    listed(&bridge, &key, "lap-top-file-system.look").await;
    listed(&bridge, &key, "a-b-c.look").await;
    for bad in ["default", "tunnel", "Pair", "my", "a b c"] {
        let refused = bridge
            .post("/v1/agents/tokens", &json!({"agent_id": bad}))
            .await;
        let pointer = refused.json()["errors"][0]["pointer"].clone();
        assert_eq!(
            (refused.status, pointer),
            (400, json!("/agent_id")),
            "{bad}"
        );
    }
    bridge.stop().await;
}

#[tokio::test]
async fn a_name_the_workspace_has_is_the_workspaces_and_two_equal_names_are_both_marked() {
    let yaml =
        "servers: {laptop-files: {transport: streamable_http, url: 'https://tools.example/mcp'}}\n";
    let bridge = Bridge::start(yaml).await;
    let key = bridge.key.clone();
    for (id, server_name) in [
        ("laptop", "files"),
        ("one-two", "three"),
        ("one", "two-three"),
    ] {
        let token = token(&bridge, &key, id, false).await;
        let mut agent = Agent::connect(bridge.address, id, &token).await;
        agent.tools(&[server(server_name)]).await;
        tokio::spawn(async move { agent.closed().await });
    }
    let names = eventually("all three have names", || async {
        let mut names = Vec::new();
        for id in ["laptop", "one-two", "one"] {
            let view = bridge.get(&format!("/v1/agents/{id}")).await.json();
            names.push(view["servers"][0].as_str()?.to_owned());
        }
        let marked = names
            .iter()
            .all(|name| name.rsplit('-').next().is_some_and(|end| end.len() == 8));
        marked.then_some(names)
    })
    .await;
    assert!(names[0].starts_with("laptop-files-"), "{names:?}");
    assert!(names[1].starts_with("one-two-three-") && names[2].starts_with("one-two-three-"));
    assert_ne!(names[1], names[2]);
    bridge.stop().await;
}

#[tokio::test]
async fn a_tunnel_server_leads_each_caller_to_its_own_agent_and_agent_id_routes_exactly() {
    let yaml = "servers: {notes: {transport: tunnel, server: files}, fixed: {transport: tunnel, agent: desktop, server: files}}\n";
    let bridge = Bridge::start(yaml).await;
    let key = bridge.key.clone();
    let none = call(&bridge, &key, &json!({"ref": "notes.look"})).await;
    assert_eq!(
        (none.status, none.code().as_str()),
        (404, "agent_not_found")
    );
    let mut agents = Vec::new();
    for id in ["laptop", "desktop"] {
        let token = token(&bridge, &key, id, false).await;
        let mut agent = Agent::connect(bridge.address, id, &token).await;
        agent.tools(&[server("files")]).await;
        listed(&bridge, &key, &format!("{id}-files.look")).await;
        if agents.is_empty() {
            // The only agent is meant.
            listed(&bridge, &key, "notes.look").await;
        }
        agents.push(agent);
    }
    let two = call(&bridge, &key, &json!({"ref": "notes.look"})).await;
    assert_eq!(
        (two.status, two.code().as_str()),
        (404, "agent_not_found"),
        "{}",
        two.text()
    );
    for (path, agent) in [
        ("/v1/agents/default", "laptop"),
        ("/v1/agents/default?lane=run:1", "desktop"),
    ] {
        let set = with_key(
            &bridge,
            &key,
            &format!("PUT {path}"),
            &json!({"agent_id": agent}),
        )
        .await;
        assert_eq!(set.status, 204, "{}", set.text());
    }
    routed(&bridge, &mut agents).await;
    not_routed(&bridge).await;
    by_meta(&bridge, &mut agents[1]).await;
    let lanes = bridge.get("/v1/agents/desktop").await.json();
    assert_eq!(lanes["default_lanes"], json!(["run:1"]));
    let cleared = with_key(
        &bridge,
        &key,
        "DELETE /v1/agents/default?lane=run:1",
        &Value::Null,
    )
    .await;
    assert_eq!(cleared.status, 204);
    bridge.stop().await;
}

/// Each body, and the agent it leads to.
async fn routed(bridge: &Bridge, agents: &mut [Agent]) {
    let key = bridge.key.as_str();
    let expected = [
        (json!({"ref": "notes.look"}), 0),
        (json!({"ref": "notes.look", "lane": "run:1"}), 1),
        (json!({"ref": "notes.look", "lane": "run:2"}), 0),
        (json!({"ref": "notes.look", "agent_id": "desktop"}), 1),
        (json!({"ref": "fixed.look"}), 1),
        (json!({"ref": "laptop-files.look", "agent_id": "laptop"}), 0),
        (json!({"ref": "files.look", "agent_id": "desktop"}), 1),
    ];
    for (body, which) in expected {
        let answered = async {
            let (req_id, invoke) = agents[which].invoked().await;
            assert_eq!(invoke["server"], "files");
            agents[which]
                .result(&req_id, &text_result(&which.to_string()))
                .await;
            agents[which].expect("RESULT_ACK").await;
        };
        let (reply, ()) = tokio::join!(call(bridge, key, &body), answered);
        assert_eq!(
            reply.json()["content"][0]["text"],
            which.to_string(),
            "{body}"
        );
    }
}

/// What leads nowhere says so, and hides who has what.
async fn not_routed(bridge: &Bridge) {
    let key = bridge.key.as_str();
    for (body, code) in [
        (
            json!({"ref": "laptop-files.look", "agent_id": "desktop"}),
            "tool_not_found",
        ),
        (
            json!({"ref": "fixed.look", "agent_id": "laptop"}),
            "tool_not_found",
        ),
        (
            json!({"ref": "files.look", "agent_id": "nobody"}),
            "agent_not_found",
        ),
        (
            json!({"ref": "files.look", "agent_id": "no such id"}),
            "agent_not_found",
        ),
    ] {
        let refused = call(bridge, key, &body).await;
        assert_eq!(
            (refused.status, refused.code().as_str()),
            (404, code),
            "{body}"
        );
    }
    let unknown = with_key(
        bridge,
        key,
        "PUT /v1/agents/default",
        &json!({"agent_id": "nobody"}),
    )
    .await;
    assert_eq!(unknown.status, 404);
}

/// Over MCP the agent is named in `_meta`, which no server sees.
async fn by_meta(bridge: &Bridge, agent: &mut Agent) {
    let message = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "look", "arguments": {},
        "_meta": {"paperbot/agent_id": "desktop", "io.modelcontextprotocol/protocolVersion": "2026-07-28",
            "io.modelcontextprotocol/clientCapabilities": {}}}});
    let headers = [
        "accept: application/json, text/event-stream",
        "content-type: application/json",
        "mcp-protocol-version: 2026-07-28",
        "mcp-method: tools/call",
        "mcp-name: look",
    ];
    let message = message.to_string();
    let answered = async {
        let (req_id, invoke) = agent.invoked().await;
        assert!(!invoke["params"].to_string().contains("paperbot/agent_id"));
        agent.result(&req_id, &text_result("by _meta")).await;
    };
    let (reply, ()) = tokio::join!(bridge.send("POST /mcp/notes", &headers, &message), answered);
    assert!(reply.text().contains("by _meta"), "{}", reply.text());
}

#[tokio::test]
async fn what_an_agent_offers_is_shown_in_its_servers_own_words() {
    let (bridge, mut agent, _) = ready().await;
    let told = bridge.get("/v1/agents/laptop/tools").await.json();
    assert_eq!(told["stale"], false);
    assert_eq!(told["servers"][0]["name"], "laptop-files");
    assert_eq!(told["servers"][0]["tools"], server("files")["tools"]);
    let listed_servers = bridge.get("/v1/servers").await.json();
    let own = &listed_servers["items"][0];
    assert_eq!(
        (&own["name"], &own["source"]),
        (&json!("laptop-files"), &json!("agent"))
    );
    let kept = with_key(
        &bridge,
        &bridge.key,
        "DELETE /v1/servers/laptop-files",
        &Value::Null,
    )
    .await;
    assert_eq!((kept.status, kept.code().as_str()), (409, "conflict"));
    // A list that changes is told as an event, and to whoever asks.
    let mut changed = server("files");
    changed["tools"].as_array_mut().unwrap().pop();
    agent.tools(&[changed, server("more")]).await;
    listed(&bridge, &bridge.key, "laptop-more.act").await;
    let event = eventually("the change is told", || async {
        let kept = bridge
            .get("/v1/events/history?types=catalog_changed")
            .await
            .json();
        kept["items"].as_array()?.last().cloned()
    })
    .await;
    assert_eq!(event["data"]["removed"], json!(["laptop-files.act"]));
    agent.tools(&[server("more")]).await;
    eventually("the server is gone", || async {
        let page = bridge.get("/v1/catalog?limit=500").await.text();
        (!page.contains("laptop-files")).then_some(())
    })
    .await;
    bridge.stop().await;
}
