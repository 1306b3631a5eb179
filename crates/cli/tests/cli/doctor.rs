//! `doctor`: exit 0 only when all is well, otherwise what to do.

use serde_json::{Value, json};

use crate::bridge::{Bridge, Reply, problem};
use crate::program::Program;

fn bridge(version: &'static str, servers: Value) -> Bridge {
    Bridge::answering(move |seen| match seen.path.as_str() {
        "/healthz" => Reply::Json(200, json!({"status": "ok"})),
        "/v1/me" => Reply::Json(200, json!({"user": "admin", "workspace": "default"})),
        "/v1/version" => Reply::Json(200, json!({"name": "paperbot-mcpd", "version": version})),
        "/v1/catalog" => Reply::Json(
            200,
            json!({"catalog_hash": "a", "items": [], "servers": servers}),
        ),
        other => panic!("{other} was not expected"),
    })
}

#[test]
fn all_is_well() {
    let servers = json!([{"server": "demo", "state": "ready", "tools": 2}, {"server": "off", "state": "disabled", "tools": 0}]);
    let bridge = bridge(env!("CARGO_PKG_VERSION"), servers);
    let program = Program::with(&bridge);
    let stdout = program.run(&["doctor"]).ok();
    let marks: Vec<&str> = stdout.lines().map(|line| &line[..5]).collect();
    assert_eq!(marks, ["ok   "; 5], "{stdout}");
    let whole: Value = serde_json::from_str(&program.run(&["doctor", "--json"]).ok()).unwrap();
    assert_eq!(
        (&whole["ok"], whole["checks"].as_array().unwrap().len()),
        (&json!(true), 5)
    );
}

#[test]
fn each_state_of_a_server_has_its_advice() {
    for (state, exit, advice) in [
        ("down", 4, "server test"),
        ("stale", 4, "server test"),
        ("needs_auth", 3, "secret"),
        ("opening", 9, "ask again"),
        ("slow", 9, "session list"),
    ] {
        let servers = json!([{"server": "gh", "state": state, "tools": 1, "last_error": "connection refused"}]);
        let bridge = bridge(env!("CARGO_PKG_VERSION"), servers);
        let ended = Program::with(&bridge).run(&["doctor"]);
        assert_eq!(ended.code, exit, "{state}: {ended:?}");
        let line = ended.stdout.lines().last().unwrap();
        assert!(
            line.starts_with("WRONG server gh: ") && line.contains(advice),
            "{line}"
        );
    }
}

#[test]
fn another_version_and_no_server_are_told() {
    let bridge = bridge("0.0.0", json!([]));
    let ended = Program::with(&bridge).run(&["doctor"]);
    assert_eq!(ended.code, 1, "{ended:?}");
    assert!(ended.stdout.contains("the bridge is 0.0.0"), "{ended:?}");
    assert!(
        ended.stdout.contains("WRONG servers: there is none"),
        "{ended:?}"
    );
}

#[test]
fn a_wrong_credential_is_exit_3_and_no_bridge_exit_4() {
    let bridge = Bridge::answering(|seen| match seen.path.as_str() {
        // A bad credential is refused even where none is needed.
        "/healthz" if seen.header("authorization").is_none() => {
            Reply::Json(200, json!({"status": "ok"}))
        }
        _ => Reply::Json(401, problem("unauthenticated", 401)),
    });
    let program = Program::with(&bridge);
    let ended = program.run(&["doctor"]);
    assert_eq!(ended.code, 3);
    assert!(
        ended.stdout.contains("the token came from PAPERBOT_TOKEN"),
        "{ended:?}"
    );
    let ended = program.run(&["find"]);
    let hint = ended.error()["hint"].to_string();
    assert!(
        hint.contains("the token came from PAPERBOT_TOKEN"),
        "{hint}"
    );
    let ended = program.run(&["doctor", "--url", "http://127.0.0.1:9"]);
    assert_eq!(ended.code, 4);
    assert!(ended.stdout.contains("make run"), "{ended:?}");
}
