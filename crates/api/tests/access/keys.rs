//! Keys: replaced without a gap, never able to make more of themselves than they are.

use serde_json::{Value, json};

use crate::kit::{Bridge, Reply, demo, eventually};

fn id_of(key: &str) -> String {
    key.split('_').nth(1).unwrap().to_owned()
}

async fn with(bridge: &Bridge, key: &str, line: &str, body: &Value) -> Reply {
    let body = if body.is_null() {
        String::new()
    } else {
        body.to_string()
    };
    bridge
        .send(line, &[&format!("authorization: Bearer {key}")], &body)
        .await
}

async fn me(bridge: &Bridge, key: &str) -> u16 {
    with(bridge, key, "GET /v1/me", &Value::Null).await.status
}

#[tokio::test]
async fn a_replaced_key_is_good_for_the_overlap_and_the_new_one_opens_the_same() {
    let bridge = Bridge::start("").await;
    let wish =
        json!({"user": "admin", "scopes": ["demo.*"], "workspaces": ["default"], "name": "ci"});
    let old = bridge.post("/v1/keys", &wish).await.json();
    let old_key = old["key"].as_str().unwrap();
    let rotate = format!("POST /v1/keys/{}/rotate", id_of(old_key));
    // The key replaces itself, although it was narrowed and manages nothing else.
    let made = with(&bridge, old_key, &rotate, &json!({"overlap_s": 6})).await;
    assert_eq!(made.status, 201, "{}", made.text());
    let new_key = made.json()["key"].as_str().unwrap().to_owned();
    assert_eq!(
        (me(&bridge, old_key).await, me(&bridge, &new_key).await),
        (200, 200)
    );
    let keys = bridge.get("/v1/keys").await.json();
    let listed = |id: String| {
        let items = keys["items"].as_array().unwrap().clone();
        items.into_iter().find(|key| key["key_id"] == id).unwrap()
    };
    let (was, is) = (listed(id_of(old_key)), listed(id_of(&new_key)));
    for same in ["user", "scopes", "workspaces", "name"] {
        assert_eq!(was[same], is[same], "{same}");
    }
    assert!(
        was["expires_at"].is_string() && is["expires_at"].is_null(),
        "{was} {is}"
    );
    assert!(
        !keys
            .to_string()
            .contains(new_key.split('_').nth(2).unwrap())
    );
    eventually("the overlap ends", || async {
        (me(&bridge, old_key).await == 401).then_some(())
    })
    .await;
    assert_eq!(me(&bridge, &new_key).await, 200);
    // Without an overlap the old one is gone at once.
    let rotate = format!("POST /v1/keys/{}/rotate", id_of(&new_key));
    let newest = bridge
        .post(&rotate[5..], &json!({"overlap_s": 0}))
        .await
        .json();
    assert_eq!(me(&bridge, &new_key).await, 401);
    assert_eq!(me(&bridge, newest["key"].as_str().unwrap()).await, 200);
    let again = bridge.post(&rotate[5..], &json!({})).await;
    assert_eq!((again.status, again.code().as_str()), (409, "conflict"));
    let long = bridge
        .post(&rotate[5..], &json!({"overlap_s": 604_801}))
        .await;
    assert_eq!(
        (long.status, long.code().as_str()),
        (400, "invalid_request")
    );
    bridge.stop().await;
}

#[tokio::test]
async fn the_last_use_of_a_key_is_told() {
    let bridge = Bridge::start("").await;
    let key = bridge.key_of("ann", "viewer").await;
    let used = async || {
        let keys = bridge.get("/v1/keys").await.json();
        let items = keys["items"].as_array().unwrap().clone();
        let own = items.into_iter().find(|one| one["key_id"] == id_of(&key));
        own.unwrap()["last_used_at"].as_str().map(str::to_owned)
    };
    assert_eq!(used().await, None);
    assert_eq!(me(&bridge, &key).await, 200);
    eventually("the use is noted", used).await;
    bridge.stop().await;
}

/// A narrow key of `ann` neither replaces nor revokes one of hers that opens more.
async fn takes_over_no_wider_one(bridge: &Bridge, narrow: &str) {
    let wide = bridge
        .post("/v1/keys", &json!({"user": "ann"}))
        .await
        .json();
    let wide = wide["key"].as_str().unwrap();
    for verb in ["POST /v1/keys/ID/rotate", "DELETE /v1/keys/ID"] {
        let line = verb.replace("ID", &id_of(wide));
        let taken = with(bridge, narrow, &line, &Value::Null).await;
        assert_eq!((taken.status, me(bridge, wide).await), (403, 200), "{verb}");
    }
}

#[tokio::test]
async fn no_key_makes_one_that_opens_more_or_for_longer() {
    let bridge = Bridge::start("").await;
    bridge
        .post("/v1/workspaces", &json!({"workspace": "team"}))
        .await;
    let workspaces = json!([{"workspace": "default", "roles": ["operator"]}, {"workspace": "team", "roles": ["operator"]}]);
    bridge
        .post(
            "/v1/users",
            &json!({"user": "ann", "workspaces": workspaces}),
        )
        .await;
    let wish = json!({"user": "ann", "workspaces": ["team"], "expires_in_s": 600});
    let narrow = bridge.post("/v1/keys", &wish).await.json();
    let key = narrow["key"].as_str().unwrap();
    let made = with(&bridge, key, "POST /v1/keys", &json!({"user": "ann"})).await;
    assert_eq!(made.status, 201, "{}", made.text());
    assert_eq!(
        made.json()["expires_at"],
        narrow["expires_at"],
        "no longer than itself"
    );
    let seen = with(
        &bridge,
        made.json()["key"].as_str().unwrap(),
        "GET /v1/me",
        &Value::Null,
    )
    .await;
    assert_eq!(
        seen.json()["workspaces"],
        json!(["team"]),
        "nowhere else than itself"
    );
    let wider = json!({"user": "ann", "workspaces": ["default"]});
    let refused = with(&bridge, key, "POST /v1/keys", &wider).await;
    let unknown = json!({"user": "ann", "workspaces": ["nowhere"]});
    let nowhere = with(&bridge, key, "POST /v1/keys", &unknown).await;
    assert_eq!(
        (refused.status, nowhere.status),
        (404, 404),
        "{}",
        refused.text()
    );
    takes_over_no_wider_one(&bridge, key).await;
    let over = with(
        &bridge,
        key,
        "POST /v1/keys",
        &json!({"user": "ann", "expires_in_s": 0}),
    )
    .await;
    assert_eq!(over.status, 400);
    bridge.stop().await;
}

#[tokio::test]
async fn a_key_narrowed_by_scopes_makes_none_and_cares_for_itself_alone() {
    let bridge = Bridge::start("").await;
    let key = bridge.key_of("ann", "operator").await;
    let key = key.as_str();
    let scoped = json!({"user": "ann", "scopes": ["demo.*"]});
    let scoped = bridge.post("/v1/keys", &scoped).await.json();
    let scoped = scoped["key"].as_str().unwrap();
    assert_eq!(
        with(&bridge, scoped, "POST /v1/keys", &json!({"user": "ann"}))
            .await
            .status,
        403
    );
    for verb in ["DELETE /v1/keys/ID", "POST /v1/keys/ID/rotate"] {
        let line = |id: &str| verb.replace("ID", id);
        let sibling = with(&bridge, scoped, &line(&id_of(key)), &Value::Null).await;
        let nobody = with(&bridge, scoped, &line("0123456789abcdef"), &Value::Null).await;
        assert_eq!((sibling.status, nobody.status), (403, 403), "{verb}");
    }
    let itself = format!("DELETE /v1/keys/{}", id_of(scoped));
    assert_eq!(
        with(&bridge, scoped, &itself, &Value::Null).await.status,
        204
    );
    bridge.stop().await;
}

#[tokio::test]
async fn an_admins_key_narrowed_by_scopes_sees_what_is_its_own_and_manages_nothing() {
    let bridge = Bridge::start(&demo()).await;
    let ann = bridge.key_of("ann", "operator").await;
    let call = json!({"ref": "demo.add", "arguments": {"a": 1, "b": 2}});
    let hers = eventually("the tool is there", || async {
        let told = with(&bridge, &ann, "POST /v1/calls", &call).await;
        (told.status == 200).then(|| told.json())
    })
    .await;
    let path = format!("/v1/calls/{}", hers["call_id"].as_str().unwrap());
    let wish = json!({"user": "admin", "scopes": ["demo.*"]});
    let narrow = bridge.post("/v1/keys", &wish).await.json();
    let narrow = narrow["key"].as_str().unwrap();
    eventually("an admin sees it", || async {
        (bridge.get(&path).await.status == 200).then_some(())
    })
    .await;
    let trace = format!("/v1/traces/{}", hers["trace_id"].as_str().unwrap());
    for (line, status) in [
        (format!("GET {path}"), 404),
        (format!("POST {path}/cancel"), 404),
        ("POST /v1/admin/reload".to_owned(), 403),
    ] {
        let told = with(&bridge, narrow, &line, &json!({})).await;
        assert_eq!(told.status, status, "{line}: {}", told.text());
    }
    let listed = with(&bridge, narrow, "GET /v1/calls", &Value::Null).await;
    assert_eq!(listed.json()["items"], json!([]), "{}", listed.text());
    let traced = bridge.get(&trace).await.json();
    assert_eq!(traced["calls"][0]["call_id"], hers["call_id"], "{traced}");
    let traced = with(&bridge, narrow, &format!("GET {trace}"), &Value::Null).await;
    assert_eq!(traced.json()["calls"], json!([]), "{}", traced.text());
    assert_eq!(traced.json()["events"], json!([]), "{}", traced.text());
    let ready = with(&bridge, narrow, "GET /readyz", &Value::Null).await;
    assert!(ready.json().get("detail").is_none(), "{}", ready.text());
    bridge.stop().await;
}

#[tokio::test]
async fn an_admin_elsewhere_with_a_key_that_leaves_the_first_workspace_out_manages_nobody() {
    let bridge = Bridge::start("").await;
    bridge
        .post("/v1/workspaces", &json!({"workspace": "team"}))
        .await;
    let wish = json!({"user": "admin", "workspaces": ["team"]});
    let narrow = bridge.post("/v1/keys", &wish).await.json();
    let key = narrow["key"].as_str().unwrap();
    let user = json!({"user": "eve", "workspaces": []});
    for line in ["POST /v1/users", "POST /v1/admin/reload"] {
        let body = if line.ends_with("users") {
            &user
        } else {
            &json!({})
        };
        let told = with(&bridge, key, line, body).await;
        assert_eq!(told.status, 403, "{line}: {}", told.text());
    }
    bridge.stop().await;
}

#[tokio::test]
async fn clients_that_know_only_basic_come_in_where_that_is_on() {
    use base64::Engine as _;
    let basic = |name: &str, key: &str| {
        let text = base64::engine::general_purpose::STANDARD.encode(format!("{name}:{key}"));
        format!("authorization: Basic {text}")
    };
    let off = Bridge::start("").await;
    let refused = off
        .send("GET /v1/me", &[&basic("admin", &off.key)], "")
        .await;
    assert_eq!(refused.status, 401);
    assert_eq!(
        refused.header("www-authenticate").as_deref(),
        Some("Bearer")
    );
    off.stop().await;

    let on = Bridge::start("auth: {basic: true}\n").await;
    let status = async |header: String| on.send("GET /v1/me", &[&header], "").await.status;
    let ann = on.key_of("ann", "viewer").await;
    assert_eq!(status(basic("admin", &on.key)).await, 200);
    assert_eq!(status(basic(&id_of(&on.key), &on.key)).await, 200);
    assert_eq!(status(basic("ann", &ann)).await, 200);
    for (name, key) in [
        ("ann", &on.key),
        ("", &on.key),
        ("admin", &ann),
        ("admin", &"x".to_owned()),
    ] {
        assert_eq!(status(basic(name, key)).await, 401, "{name}");
    }
    let refused = on.send("GET /v1/me", &["no-key: 1"], "").await;
    assert!(refused.head.contains("Basic realm="), "{}", refused.head);
    on.stop().await;
}
