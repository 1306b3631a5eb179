//! Secrets of users and workspaces in the store: written, used, never told, and bound to their place.

use serde_json::{Value, json};
use sqlx::{Connection as _, Executor as _};

use super::kit::{Bridge, Reply, eventually};
use super::world::{World, as_user, call};

const HEADER: &str =
    "allow_private: true, headers: {X-Key: {secret: 'store:key', prefix: 'Bearer '}}";

async fn put(bridge: &Bridge, key: &str, value: &str, shared: bool) -> Reply {
    let body = json!({"secrets": {"key": value}, "shared": shared});
    as_user(bridge, key, "PUT /v1/credentials/up", &body).await
}

async fn works(bridge: &Bridge, key: &str) {
    eventually("a call with the secret", || async {
        (call(bridge, key).await.status == 200).then_some(())
    })
    .await;
}

/// Every byte of the store's files and of the bridge's other files, but for the named ones.
fn kept(bridge: &Bridge) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut folders = vec![bridge.home.path().to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                bytes.extend(std::fs::read(path).unwrap());
            }
        }
    }
    bytes
}

fn holds(bytes: &[u8], text: &str) -> bool {
    bytes
        .windows(text.len())
        .any(|window| window == text.as_bytes())
}

fn database(bridge: &Bridge) -> String {
    let folder = bridge.home.path().join("data");
    let mut files = std::fs::read_dir(folder).unwrap();
    let file = files.find_map(|entry| {
        let path = entry.unwrap().path();
        (path.extension()? == "db").then_some(path)
    });
    format!("sqlite://{}", file.unwrap().display())
}

#[tokio::test]
async fn each_user_s_own_secret_reaches_the_server_and_stands_nowhere_in_the_clear() {
    let world = World::new().await;
    let folder = tempfile::tempdir().unwrap();
    let bridge = Bridge::start(&world.yaml(folder.path(), HEADER)).await;
    let (ann, bob) = (
        bridge.key_of("ann", "operator").await,
        bridge.key_of("bob", "viewer").await,
    );
    let (hers, his) = ("CANARY_01_of_ann", "CANARY_02_of_bob");
    world.facts().good.extend([hers.to_owned(), his.to_owned()]);
    let missing = call(&bridge, &ann).await;
    assert_eq!(
        (missing.status, missing.code().as_str()),
        (502, "upstream_needs_auth")
    );
    assert!(
        missing.json()["hint"]
            .as_str()
            .unwrap()
            .contains("PUT /v1/credentials/up")
    );
    for (key, value) in [(&ann, hers), (&bob, his)] {
        let kept = put(&bridge, key, value, false).await;
        assert_eq!((kept.status, kept.body.len()), (204, 0), "{}", kept.text());
        works(&bridge, key).await;
    }
    let seen = |value: &str| {
        let wanted = format!("Bearer {value}");
        let facts = world.facts();
        facts
            .seen
            .iter()
            .any(|seen| seen.get("x-key") == Some(&wanted))
    };
    assert!(seen(hers) && seen(his));
    for key in [&ann, &bob] {
        let shown = as_user(&bridge, key, "GET /v1/credentials", &Value::Null).await;
        assert!(!shown.text().contains("CANARY"));
        assert_eq!(shown.json()["items"][0]["secrets"], json!(["key"]));
        assert_eq!(shown.json()["items"].as_array().unwrap().len(), 1);
    }
    for path in [
        "/v1/servers",
        "/v1/servers/up",
        "/v1/audit",
        "/v1/events/history",
        "/metrics",
        "/v1/sessions",
    ] {
        assert!(!bridge.get(path).await.text().contains("CANARY"), "{path}");
    }
    let bytes = kept(&bridge);
    assert!(bytes.len() > 10_000);
    assert!(!holds(&bytes, "CANARY"), "a secret stands in a file");
    bridge.stop().await;
}

#[tokio::test]
async fn rows_of_two_users_that_are_swapped_open_for_neither() {
    let world = World::new().await;
    let folder = tempfile::tempdir().unwrap();
    let yaml = world.yaml(folder.path(), HEADER);
    let bridge = Bridge::start(&yaml).await;
    let (ann, bob) = (
        bridge.key_of("ann", "operator").await,
        bridge.key_of("bob", "operator").await,
    );
    world
        .facts()
        .good
        .extend(["value-of-ann".to_owned(), "value-of-bob".to_owned()]);
    assert_eq!(put(&bridge, &ann, "value-of-ann", false).await.status, 204);
    assert_eq!(put(&bridge, &bob, "value-of-bob", false).await.status, 204);
    let mut connection = sqlx::SqliteConnection::connect(&database(&bridge))
        .await
        .unwrap();
    for sql in [
        "UPDATE sealed SET user_id = 'x' WHERE user_id = 'ann' AND kind = 'secret'",
        "UPDATE sealed SET user_id = 'ann' WHERE user_id = 'bob' AND kind = 'secret'",
        "UPDATE sealed SET user_id = 'bob' WHERE user_id = 'x' AND kind = 'secret'",
    ] {
        assert_eq!(connection.execute(sql).await.unwrap().rows_affected(), 1);
    }
    connection.close().await.unwrap();
    for key in [&ann, &bob] {
        let refused = call(&bridge, key).await;
        assert_eq!(refused.status, 409, "{}", refused.text());
        assert!(
            refused.text().contains("not what was sealed"),
            "{}",
            refused.text()
        );
    }
    assert!(world.facts().seen.is_empty(), "nothing was sent");
    // Whoever gives it anew has it again.
    assert_eq!(put(&bridge, &ann, "value-of-ann", false).await.status, 204);
    works(&bridge, &ann).await;
    bridge.stop().await;
}

#[tokio::test]
async fn another_key_says_so_and_an_old_one_is_only_needed_once() {
    let world = World::new().await;
    let folder = tempfile::tempdir().unwrap();
    let yaml = world.yaml(folder.path(), HEADER);
    let mut bridge = Bridge::start(&yaml).await;
    let ann = bridge.key_of("ann", "operator").await;
    world.facts().good.insert("value-of-ann".to_owned());
    assert_eq!(put(&bridge, &ann, "value-of-ann", false).await.status, 204);
    let body = async |bridge: &Bridge| -> (String, String) {
        let mut connection = sqlx::SqliteConnection::connect(&database(bridge))
            .await
            .unwrap();
        let row = sqlx::query_as("SELECT body, wrapped_key FROM sealed").fetch_one(&mut connection);
        row.await.unwrap()
    };
    let before = body(&bridge).await;
    let other = folder.path().join("other.key");
    std::fs::write(&other, "ab".repeat(32)).unwrap();
    std::fs::set_permissions(&other, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let with_other = yaml.replace("sealing.key'", "other.key'");
    bridge = again(bridge, &with_other).await;
    let refused = call(&bridge, &ann).await;
    assert_eq!(refused.status, 409, "{}", refused.text());
    assert!(
        refused.text().contains("sealed with another key"),
        "{}",
        refused.text()
    );
    let old = format!(
        "old_key_files: ['{}']",
        folder.path().join("sealing.key").display()
    );
    let rotating = with_other.replace("other.key'}", &format!("other.key', {old}}}"));
    bridge = again(bridge, &rotating).await;
    works(&bridge, &ann).await;
    let after = body(&bridge).await;
    assert_eq!(after.0, before.0, "the value was not sealed anew");
    assert_ne!(after.1, before.1, "its key was wrapped anew");
    bridge = again(bridge, &with_other).await;
    works(&bridge, &ann).await;
    bridge.stop().await;
}

/// The same bridge with another file.
async fn again(bridge: Bridge, yaml: &str) -> Bridge {
    let Bridge {
        home, daemon, key, ..
    } = bridge;
    daemon.shutdown().await;
    let daemon = super::kit::start(home.path(), yaml).await.unwrap();
    let address = daemon.address();
    Bridge {
        home,
        daemon,
        address,
        key,
    }
}

#[tokio::test]
async fn a_server_that_moved_gets_no_secret_that_was_given_for_its_old_address() {
    let (old, new) = (World::new().await, World::new().await);
    let folder = tempfile::tempdir().unwrap();
    let base = super::world::sealed(folder.path());
    let bridge = Bridge::start(&format!("{base}outbound: {{allow_private: [127.0.0.1]}}\n")).await;
    let operator = bridge.key_of("oper", "operator").await;
    let ann = bridge.key_of("ann", "operator").await;
    for world in [&old, &new] {
        world.facts().good.insert("value-of-ann".to_owned());
    }
    let definition = |world: &World| {
        json!({"transport": "streamable_http", "era": "legacy", "url": world.url(),
            "headers": {"X-Key": {"secret": "store:key"}}})
    };
    let body = json!({"name": "up", "definition": definition(&old)});
    let made = as_user(&bridge, &operator, "POST /v1/servers", &body).await;
    assert_eq!(made.status, 201, "{}", made.text());
    assert_eq!(put(&bridge, &ann, "value-of-ann", false).await.status, 204);
    works(&bridge, &ann).await;
    let authorization = format!("authorization: Bearer {operator}");
    let moved = json!({"definition": definition(&new)}).to_string();
    let moved = bridge
        .send(
            "PUT /v1/servers/up",
            &[&authorization, "if-match: *"],
            &moved,
        )
        .await;
    assert_eq!(moved.status, 200, "{}", moved.text());
    let refused = call(&bridge, &ann).await;
    assert_eq!(refused.code(), "upstream_needs_auth", "{}", refused.text());
    assert!(
        new.facts().seen.is_empty(),
        "the new address was told nothing"
    );
    bridge.stop().await;
}

#[tokio::test]
async fn who_may_put_what_for_whom() {
    let world = World::new().await;
    let folder = tempfile::tempdir().unwrap();
    let bridge = Bridge::start(&world.yaml(folder.path(), HEADER)).await;
    let ann = bridge.key_of("ann", "operator").await;
    world
        .facts()
        .good
        .extend(["of-all".to_owned(), "of-ann".to_owned()]);
    let shared = put(&bridge, &ann, "of-all", true).await;
    assert_eq!((shared.status, shared.code().as_str()), (403, "forbidden"));
    let unknown = as_user(
        &bridge,
        &ann,
        "PUT /v1/credentials/nope",
        &json!({"secrets": {"key": "x"}}),
    )
    .await;
    assert_eq!(
        (unknown.status, unknown.code().as_str()),
        (404, "server_not_found")
    );
    for (body, status) in [
        (json!({"secrets": {}}), 422),
        (json!({"secrets": {"a b": "x"}}), 422),
        (json!({"secrets": {"key": ""}}), 422),
        (json!({"secrets": {"key": "a\r\nX-Evil: 1"}}), 422),
        (json!({"secrets": {"key": "x"}, "sharde": true}), 400),
        (json!({"secret": "CANARY_03"}), 400),
        (json!({"secrets": {"key": ["CANARY_04"]}}), 400),
    ] {
        let refused = as_user(&bridge, &ann, "PUT /v1/credentials/up", &body).await;
        assert_eq!(refused.status, status, "{}", refused.text());
        assert!(!refused.text().contains("CANARY"), "{}", refused.text());
    }
    // What an admin puts for the workspace serves whoever has none of its own.
    let key = bridge.key.clone();
    assert_eq!(put(&bridge, &key, "of-all", true).await.status, 204);
    works(&bridge, &ann).await;
    assert_eq!(put(&bridge, &ann, "of-ann", false).await.status, 204);
    world.facts().seen.clear();
    works(&bridge, &ann).await;
    let last = world.facts().seen.last().cloned().unwrap();
    assert_eq!(last["x-key"], "Bearer of-ann");
    bridge.stop().await;
}

#[tokio::test]
async fn without_a_sealing_key_nothing_is_kept() {
    let bridge = Bridge::start("").await;
    let definition = json!({"transport": "stdio", "command": ["true"], "env": {"TOKEN": {"secret": "store:key"}}});
    let made = bridge
        .post(
            "/v1/servers",
            &json!({"name": "up", "definition": definition}),
        )
        .await;
    assert_eq!(made.status, 422, "{}", made.text());
    assert!(made.text().contains("secrets.key_file"), "{}", made.text());
    let plain = json!({"transport": "stdio", "command": ["true"]});
    let made = bridge
        .post("/v1/servers", &json!({"name": "up", "definition": plain}))
        .await;
    assert_eq!(made.status, 201, "{}", made.text());
    let key = bridge.key.clone();
    let refused = put(&bridge, &key, "CANARY_05_x", false).await;
    assert_eq!(refused.status, 409, "{}", refused.text());
    assert!(!holds(&kept(&bridge), "CANARY"));
    bridge.stop().await;
}
