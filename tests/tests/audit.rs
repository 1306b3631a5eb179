//! The audit record of the real daemon: its chain in the database, its export, and the verifier that needs no bridge.

#![expect(clippy::unwrap_used, reason = "a step that fails is the test failing")]

use std::path::Path;

use serde_json::{Value, json};
use sqlx::{AnyConnection, Connection as _, Executor as _};
use testkit::upstreams;
use testkit::{Bridge, CliOutput};

async fn busy() -> Bridge {
    let bridge = Bridge::start(vec![upstreams::fixture("legacy")]).await;
    bridge.wait_for_ref("fixture.echo").await;
    for number in 0..6 {
        let body = json!({"ref": "fixture.echo", "arguments": {"message": number.to_string()}});
        bridge.post("/v1/calls", body).await;
    }
    let unknown = json!({"ref": "fixture.nothing", "arguments": {}});
    let refused = bridge.send("POST", "/v1/calls", Some(unknown)).await;
    assert_eq!(refused.status, 404, "{}", refused.text());
    // Asked for, they are written: an act takes its number at once, and must not get one between them.
    bridge.get("/v1/calls").await;
    let made = bridge
        .send("POST", "/v1/keys", Some(json!({"user": "admin"})))
        .await;
    assert!(made.status.is_success(), "{}", made.text());
    bridge
}

/// Runs SQL on the daemon's own database, behind its back.
async fn tamper(bridge: &Bridge, sql: &'static str) {
    sqlx::any::install_default_drivers();
    let file = bridge.home().join("data/paperbot/bridge.db");
    assert!(file.exists(), "{}", file.display());
    let mut connection = AnyConnection::connect(&format!("sqlite://{}", file.display()))
        .await
        .unwrap();
    let done = connection.execute(sql).await.unwrap();
    assert!(done.rows_affected() > 0, "{sql}");
}

#[tokio::test]
async fn a_row_changed_in_the_database_is_named_by_its_number() {
    let mut bridge = busy().await;
    let report = bridge.get("/v1/audit/verify").await;
    assert_eq!(report["ok"], true, "{report}");
    let head = &report["head"];
    assert_eq!(head["seq"], report["entries"], "{report}");
    bridge.crash_and_restart().await;
    let again = bridge.get("/v1/audit/verify").await;
    assert_eq!(again["ok"], true, "{again}");
    assert!(again["entries"].as_u64() >= report["entries"].as_u64());
    tamper(&bridge, "UPDATE calls SET user_id = 'eve' WHERE seq = 4").await;
    let found = bridge.get("/v1/audit/verify").await;
    assert_eq!(
        (&found["ok"], &found["first_bad"]),
        (&json!(false), &json!(4)),
        "{found}"
    );
    tamper(&bridge, "UPDATE calls SET user_id = 'admin' WHERE seq = 4").await;
    assert_eq!(bridge.get("/v1/audit/verify").await["ok"], true);
    tamper(&bridge, "DELETE FROM calls WHERE seq = 3").await;
    let found = bridge.get("/v1/audit/verify").await;
    assert_eq!(found["first_bad"], 3, "{found}");
}

/// Runs the verifier with no bridge to ask.
async fn verify(bridge: &Bridge, arguments: &[&str]) -> CliOutput {
    let mut command = bridge.cli_command(&["audit", "verify"]);
    command
        .args(arguments)
        .env("PAPERBOT_URL", "http://127.0.0.1:9");
    testkit::bridge::finish(command.spawn().unwrap()).await
}

fn write(path: &Path, lines: &[String]) -> String {
    std::fs::write(path, lines.join("\n") + "\n").unwrap();
    path.display().to_string()
}

fn lines_of(text: &str) -> Vec<String> {
    text.lines().map(str::to_owned).collect()
}

/// What somebody does to an export.
type Edit<'e> = Box<dyn Fn(&mut Vec<String>) + 'e>;

#[tokio::test]
async fn an_export_is_verified_without_the_bridge_and_every_fault_has_its_line() {
    let bridge = busy().await;
    let export = bridge.cli(&["audit", "export"]).await;
    assert_eq!(export.code, 0, "{}", export.stderr);
    let heads = bridge.cli(&["audit", "head"]).await;
    assert_eq!(heads.code, 0, "{}", heads.stderr);
    let lines = lines_of(&export.stdout);
    assert!(lines.len() >= 8, "{}", export.stdout);
    let key: Value = bridge.get("/v1/audit/key").await;
    let key = key["public_key"].as_str().unwrap().to_owned();
    let folder = tempfile::tempdir().unwrap();
    let head = write(&folder.path().join("head.json"), &lines_of(&heads.stdout));
    let file = folder.path().join("export.ndjson");
    let whole = write(&file, &lines);
    let good = verify(&bridge, &[&whole, "--head", &head, "--key", &key]).await;
    assert_eq!(good.code, 0, "{}", good.stderr);
    let other = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
    let foreign = verify(&bridge, &[&whole, "--head", &head, "--key", other]).await;
    assert_ne!(foreign.code, 0, "another key signed nothing");

    let changed = lines[4].replacen("\"user\":\"admin\"", "\"user\":\"eve\"", 1);
    assert_ne!(changed, lines[4]);
    let faults: [(&str, Edit<'_>, usize); 5] = [
        (
            "changed",
            Box::new(|lines| lines[4].clone_from(&changed)),
            5,
        ),
        ("removed", Box::new(|lines| drop(lines.remove(4))), 5),
        (
            "inserted",
            Box::new(|lines| lines.insert(4, lines[1].clone())),
            5,
        ),
        ("moved", Box::new(|lines| lines.swap(4, 5)), 5),
        (
            "cut short",
            Box::new(|lines| drop(lines.pop())),
            lines.len(),
        ),
    ];
    for (what, edit, line) in faults {
        let mut edited = lines.clone();
        edit(&mut edited);
        let file = write(&file, &edited);
        let found = verify(&bridge, &[&file, "--head", &head, "--key", &key]).await;
        assert_eq!(found.code, 10, "{what}: {} {}", found.stdout, found.stderr);
        let said: Value = serde_json::from_str(found.stderr.trim()).unwrap();
        assert_eq!(said["error"]["line"], line, "{what}: {said}");
    }
}

#[tokio::test]
async fn lines_and_pages_say_the_same_and_a_narrowed_export_holds_in_part() {
    let bridge = busy().await;
    let page = bridge.get("/v1/audit?ref=fixture.echo&limit=500").await;
    let items = page["items"].as_array().unwrap();
    assert_eq!(items.len(), 6, "{page}");
    let lines = bridge
        .send("GET", "/v1/audit?ref=fixture.echo&format=ndjson", None)
        .await;
    let lines: Vec<Value> = lines
        .text()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(&lines, items);
    let export = bridge
        .cli(&["audit", "export", "--ref", "fixture.echo"])
        .await;
    let folder = tempfile::tempdir().unwrap();
    let some = folder.path().join("some.ndjson");
    let file = write(&some, &lines_of(&export.stdout));
    let whole = verify(&bridge, &[&file]).await;
    assert_ne!(whole.code, 0, "it is not whole");
    let part = verify(&bridge, &[&file, "--partial"]).await;
    assert_eq!(part.code, 0, "{}", part.stderr);
    let bad = bridge.send("GET", "/v1/audit?format=xml", None).await;
    assert_eq!(bad.status, 400);
}
