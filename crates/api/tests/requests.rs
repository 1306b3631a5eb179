//! Bad requests are refused with a place and a hint, and never quoted back.

mod kit;

use kit::Bridge;
use serde_json::json;

#[tokio::test]
async fn malformed_and_misspelt_bodies_name_the_place() {
    let bridge = Bridge::start("").await;
    let reply = bridge
        .send(
            "POST /v1/calls",
            &[],
            "{\"ref\": \"a.b\",\n \"arguments\": hunter2}",
        )
        .await;
    assert_eq!(
        (reply.status, reply.code().as_str()),
        (400, "invalid_request")
    );
    assert!(
        reply.text().contains("line 2") && !reply.text().contains("hunter2"),
        "{}",
        reply.text()
    );

    let reply = bridge
        .post("/v1/calls", &json!({"ref": "a.b", "argumets": {}}))
        .await;
    let told = reply.json();
    assert_eq!(told["errors"][0]["pointer"], "/argumets");
    assert!(
        told["errors"][0]["detail"]
            .as_str()
            .unwrap()
            .contains("did you mean `arguments`?"),
        "{told}"
    );

    let server = json!({"name": "a", "definition": {"transport": "stdio", "comand": ["x"]}});
    let told = bridge.post("/v1/servers", &server).await.json();
    assert_eq!(told["errors"][0]["pointer"], "/definition/comand", "{told}");

    for body in [
        "",
        "[]",
        "null",
        "\u{feff}{}",
        "{\"ref\":\"a\",\"ref\":\"b\"}",
    ] {
        let reply = bridge.send("POST /v1/calls", &[], body).await;
        assert_eq!(
            (reply.status, reply.code().as_str()),
            (400, "invalid_request"),
            "{body}"
        );
    }
    bridge.stop().await;
}

#[tokio::test]
async fn a_body_over_the_limit_is_refused_by_its_length_and_by_its_bytes() {
    let bridge = Bridge::start("limits: {body_bytes: 1000}\n").await;
    let told = bridge
        .send("POST /v1/calls", &["content-length: 1001"], "{")
        .await;
    assert_eq!(
        (told.status, told.code().as_str()),
        (413, "payload_too_large")
    );
    let chunk = format!("7d0\r\n{}\r\n0\r\n\r\n", " ".repeat(2000));
    let told = bridge
        .send("POST /v1/calls", &["transfer-encoding: chunked"], &chunk)
        .await;
    assert_eq!(
        (told.status, told.code().as_str()),
        (413, "payload_too_large")
    );
    let fits = format!("{{\"ref\":\"a.b\"{}}}", " ".repeat(900));
    assert_eq!(
        bridge.send("POST /v1/calls", &[], &fits).await.code(),
        "server_not_found".replace("server", "tool")
    );
    bridge.stop().await;
}

#[tokio::test]
async fn query_parameters_are_known_and_stand_once() {
    let bridge = Bridge::start("").await;
    for (path, says) in [
        ("/v1/catalog?limt=3", "did you mean `limit`?"),
        ("/v1/catalog?server=a&server=b", "may stand only once"),
        ("/v1/catalog?limit=ten", "not a whole number"),
        ("/v1/catalog?limit=0", ""),
        ("/v1/catalog?limit=501", ""),
        ("/v1/catalog?kind=tol", "did you mean `tool`?"),
        ("/v1/catalog?fields=all", "names"),
        ("/v1/catalog?cursor=%00", ""),
        ("/v1/calls?cursor=nonsense", ""),
        ("/v1/calls?state=runing", "did you mean `running`?"),
        ("/v1/events?after=xyz", "hex"),
        ("/v1/events?types=tool_lag", "unknown event type"),
        ("/v1/resources/read?server=a", "`uri` is required"),
        ("/v1/tools/help", ""),
        ("/v1/calls/%FF", "UTF-8"),
    ] {
        let reply = bridge.get(path).await;
        assert_eq!(
            (reply.status, reply.code().as_str()),
            (400, "invalid_request"),
            "{path}: {}",
            reply.text()
        );
        assert!(reply.text().contains(says), "{path}: {}", reply.text());
    }
    bridge.stop().await;
}

#[tokio::test]
async fn unknown_things_are_not_found_each_by_its_code() {
    let bridge = Bridge::start("").await;
    for (path, code) in [
        (
            "/v1/calls/call_01a1fd3a-ed11-7749-86b3-1da55d14c435",
            "call_not_found",
        ),
        ("/v1/calls/nonsense", "call_not_found"),
        ("/v1/calls/nonsense/events", "call_not_found"),
        (
            "/v1/sessions/ses_01a1fd3a-ed11-7749-86b3-1da55d14c435",
            "session_not_found",
        ),
        ("/v1/sessions/x", "session_not_found"),
        ("/v1/servers/nobody", "server_not_found"),
        ("/v1/servers/nobody/versions", "server_not_found"),
        (
            "/v1/resources/read?server=nobody&uri=a:b",
            "server_not_found",
        ),
        ("/v1/tools/help?ref=nobody.x", "tool_not_found"),
    ] {
        let reply = bridge.get(path).await;
        assert_eq!(
            (reply.status, reply.code().as_str()),
            (404, code),
            "{path}: {}",
            reply.text()
        );
    }
    let reply = bridge.post("/v1/calls", &json!({"ref": "nobody.x"})).await;
    assert_eq!(
        (reply.status, reply.code().as_str()),
        (404, "tool_not_found")
    );
    bridge.stop().await;
}

#[tokio::test]
async fn ids_of_others_answer_as_ids_that_never_were() {
    let bridge = Bridge::start(&kit::demo()).await;
    let read = bridge
        .get("/v1/resources/read?server=demo&uri=demo://welcome")
        .await;
    assert_eq!(read.status, 200, "{}", read.text());
    let own = read.json()["call_id"].as_str().unwrap().to_owned();
    assert_eq!(bridge.get(&format!("/v1/calls/{own}")).await.status, 200);

    let key = bridge.key_of("ann", "operator").await;
    let auth = format!("authorization: Bearer {key}");
    let never = "call_01a1fd3a-ed11-7749-86b3-1da55d14c435";
    for rest in ["", "/events", "/cancel"] {
        let verb = if rest == "/cancel" { "POST" } else { "GET" };
        let mut told = Vec::new();
        for id in [own.as_str(), never] {
            let reply = bridge
                .send(&format!("{verb} /v1/calls/{id}{rest}"), &[&auth], "")
                .await;
            assert_eq!(reply.status, 404, "{}", reply.text());
            let mut body = reply.json();
            let members = body.as_object_mut().unwrap();
            members.remove("trace_id");
            members.remove("instance");
            told.push(body);
        }
        assert_eq!(told[0], told[1]);
    }
    bridge.stop().await;
}

#[tokio::test]
async fn servers_are_changed_under_their_version_only() {
    let bridge = Bridge::start("").await;
    let definition = json!({"transport": "streamable_http", "url": "https://mcp.example/mcp"});
    let made = bridge
        .post(
            "/v1/servers",
            &json!({"name": "web", "definition": definition}),
        )
        .await;
    assert_eq!(made.status, 201, "{}", made.text());
    assert_eq!(made.header("location").as_deref(), Some("/v1/servers/web"));
    let tag = made.header("etag").unwrap();

    let changed =
        json!({"definition": {"transport": "sse", "url": "https://mcp.example/sse"}}).to_string();
    let blind = bridge.send("PUT /v1/servers/web", &[], &changed).await;
    assert_eq!(
        (blind.status, blind.code().as_str()),
        (412, "version_conflict"),
        "{}",
        blind.text()
    );
    let stale = bridge
        .send("PUT /v1/servers/web", &["if-match: \"999\""], &changed)
        .await;
    assert_eq!(stale.status, 412);
    let put = bridge
        .send(
            "PUT /v1/servers/web",
            &[&format!("if-match: {tag}")],
            &changed,
        )
        .await;
    assert_eq!(put.status, 200, "{}", put.text());
    assert_ne!(put.header("etag").unwrap(), tag);

    let versions = bridge.get("/v1/servers/web/versions").await.json();
    assert_eq!(versions["items"].as_array().unwrap().len(), 2, "{versions}");
    let (old, new) = (
        tag.trim_matches('"').to_owned(),
        put.json()["version"].clone(),
    );
    let diff = bridge
        .get(&format!("/v1/servers/web/diff?from={old}&to={new}"))
        .await
        .json();
    let pointers: Vec<_> = diff["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["pointer"].clone())
        .collect();
    assert!(
        pointers.contains(&json!("/url")) && pointers.contains(&json!("/transport")),
        "{diff}"
    );
    let back = bridge
        .send(
            "POST /v1/servers/web/rollback",
            &["if-match: *"],
            &format!("{{\"version\":{old}}}"),
        )
        .await;
    assert_eq!(
        back.json()["definition"]["transport"],
        "streamable_http",
        "{}",
        back.text()
    );
    assert_eq!(
        bridge
            .send("DELETE /v1/servers/web", &["if-match: *"], "")
            .await
            .status,
        204
    );
    assert_eq!(bridge.get("/v1/servers/web").await.status, 404);
    bridge.stop().await;
}
