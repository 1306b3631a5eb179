//! The store of the real daemon full, locked, stopped: what may act is refused before anything is sent, what only
//! reads goes on, and nothing that was accepted is lost.

#![expect(clippy::unwrap_used, reason = "a step that fails is the test failing")]

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};
use sqlx::{AnyConnection, Connection as _, Executor as _};
use testkit::postgres::Postgres;
use testkit::upstreams::{self, Upstream};
use testkit::{Bridge, BridgeOptions, Reply, eventually};
use tokio::time::Instant;

/// How soon a call that may act is refused. The contract says two seconds; machines that test are busy.
const REFUSED_WITHIN: Duration = Duration::from_secs(5);

fn fixture(effects: &Path) -> Upstream {
    let mut upstream = upstreams::fixture("legacy");
    let effects = effects.display().to_string();
    let options = format!("\"stdio\", \"--era\", \"legacy\", \"--effects\", {effects:?}]");
    upstream.yaml = upstream.yaml.replace("\"stdio\"]", &options);
    upstream
}

struct Scene {
    bridge: Bridge,
    effects: PathBuf,
    reads: u64,
    _folder: tempfile::TempDir,
}

impl Scene {
    async fn start(extra: &str, disk_mib: Option<u32>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let effects = folder.path().join("effects");
        let bridge = Bridge::start_with(BridgeOptions {
            upstreams: vec![fixture(&effects)],
            extra: extra.to_owned(),
            disk_mib,
            ..BridgeOptions::default()
        })
        .await;
        bridge.wait_for_ref("fixture.echo").await;
        let mut scene = Self {
            bridge,
            effects,
            reads: 0,
            _folder: folder,
        };
        scene.bumps("before").await;
        scene.reads_on().await;
        scene
    }

    async fn call(&self, reference: &str, arguments: Value) -> (Reply, Duration) {
        let began = Instant::now();
        let body = json!({"ref": reference, "arguments": arguments});
        let reply = self.bridge.send("POST", "/v1/calls", Some(body)).await;
        (reply, began.elapsed())
    }

    /// A call that acts works.
    async fn bumps(&self, line: &str) {
        let (reply, _) = self.call("fixture.bump", json!({"line": line})).await;
        assert_eq!(reply.status, 200, "{}", reply.text());
        assert!(self.did(line), "{line}");
    }

    fn did(&self, line: &str) -> bool {
        let effects = std::fs::read_to_string(&self.effects).unwrap_or_default();
        effects.lines().any(|one| one == line)
    }

    /// A call that acts is refused in time and nothing was sent.
    async fn refuses(&self, line: &str) {
        let (reply, took) = self.call("fixture.bump", json!({"line": line})).await;
        eprintln!("refused after {took:?}");
        let said = reply.json();
        assert_eq!(
            (reply.status.as_u16(), &said["code"], &said["executed"]),
            (503, &json!("store_unavailable"), &json!("no")),
            "{said}"
        );
        assert!(took < REFUSED_WITHIN, "{took:?}");
        assert!(!self.did(line), "{line}");
    }

    /// A call that reads works.
    async fn reads_on(&mut self) {
        let (reply, _) = self.call("fixture.echo", json!({"message": "m"})).await;
        assert_eq!(reply.status, 200, "{}", reply.text());
        self.reads += 1;
    }

    /// The store is back: without a restart calls act again, and the record holds every read that was answered.
    async fn recovers(&self) {
        let began = Instant::now();
        eventually("calls act again", || async {
            let (reply, _) = self.call("fixture.bump", json!({"line": "after"})).await;
            (reply.status == 200).then_some(())
        })
        .await;
        eprintln!("back after {:?}", began.elapsed());
        eventually("every read is recorded", || async {
            let path = "/v1/audit?ref=fixture.echo&limit=500";
            let page = self.bridge.get(path).await;
            let found = page["items"].as_array()?.len();
            (u64::try_from(found).ok()? == self.reads).then_some(())
        })
        .await;
        let report = self.bridge.get("/v1/audit/verify").await;
        assert_eq!(report["ok"], true, "{report}");
    }
}

/// `PRAGMA integrity_check` on a SQLite file.
async fn integrity(file: &Path) -> String {
    sqlx::any::install_default_drivers();
    let url = format!("sqlite://{}?mode=ro", file.display());
    let mut connection = AnyConnection::connect(&url).await.unwrap();
    sqlx::query_scalar("PRAGMA integrity_check")
        .fetch_one(&mut connection)
        .await
        .unwrap()
}

#[tokio::test]
async fn with_the_database_locked_by_another_process_only_reads_go_on() {
    sqlx::any::install_default_drivers();
    let mut scene = Scene::start("", None).await;
    let file = scene.bridge.home().join("data/paperbot/bridge.db");
    let mut lock = AnyConnection::connect(&format!("sqlite://{}", file.display()))
        .await
        .unwrap();
    lock.execute("BEGIN EXCLUSIVE").await.unwrap();
    for number in 0..3 {
        scene.refuses(&format!("locked {number}")).await;
        scene.reads_on().await;
    }
    lock.execute("ROLLBACK").await.unwrap();
    scene.recovers().await;
    assert!(!scene.did("locked 0"));
    assert_eq!(integrity(&file).await, "ok");
}

#[tokio::test]
async fn with_the_disk_full_only_reads_go_on() {
    let mut scene = Scene::start("", Some(4)).await;
    let disk = scene.bridge.disk();
    let filler = disk.join("filler");
    fill(&filler);
    for number in 0..3 {
        scene.refuses(&format!("full {number}")).await;
        scene.reads_on().await;
    }
    std::fs::remove_file(&filler).unwrap();
    scene.recovers().await;
    assert!(!scene.did("full 0"));
    // A copy: the daemon's own view of the files goes with it.
    let copy = tempfile::tempdir().unwrap();
    for name in ["bridge.db", "bridge.db-wal"] {
        std::fs::copy(disk.join(name), copy.path().join(name)).unwrap();
    }
    let url = format!("sqlite://{}", copy.path().join("bridge.db").display());
    let mut connection = AnyConnection::connect(&url).await.unwrap();
    let whole: String = sqlx::query_scalar("PRAGMA integrity_check")
        .fetch_one(&mut connection)
        .await
        .unwrap();
    assert_eq!(whole, "ok");
}

/// Writes until nothing goes any more.
fn fill(path: &Path) {
    let mut file = std::fs::File::create(path).unwrap();
    for size in [64 * 1024, 512, 1] {
        let piece = vec![b'x'; size];
        for _ in 0..1_000_000 {
            if file.write_all(&piece).is_err() {
                break;
            }
        }
    }
    assert!(file.write_all(b"x").is_err(), "the disk is not full");
}

#[tokio::test]
async fn refuse_all_refuses_reads_too_once_a_write_has_failed() {
    sqlx::any::install_default_drivers();
    let scene = Scene::start("audit: {on_unavailable: refuse_all}\n", None).await;
    let file = scene.bridge.home().join("data/paperbot/bridge.db");
    let mut lock = AnyConnection::connect(&format!("sqlite://{}", file.display()))
        .await
        .unwrap();
    lock.execute("BEGIN EXCLUSIVE").await.unwrap();
    scene.refuses("locked").await;
    let (reply, _) = scene.call("fixture.echo", json!({"message": "m"})).await;
    assert_eq!(
        reply.json()["code"],
        "store_unavailable",
        "{}",
        reply.text()
    );
    lock.execute("ROLLBACK").await.unwrap();
    eventually("reads go on", || async {
        let (reply, _) = scene.call("fixture.echo", json!({"message": "m"})).await;
        (reply.status == 200).then_some(())
    })
    .await;
    scene.bumps("after").await;
}

#[tokio::test]
async fn allow_lets_calls_act_and_records_them_later() {
    sqlx::any::install_default_drivers();
    let scene = Scene::start("audit: {on_unavailable: allow}\n", None).await;
    let file = scene.bridge.home().join("data/paperbot/bridge.db");
    let mut lock = AnyConnection::connect(&format!("sqlite://{}", file.display()))
        .await
        .unwrap();
    lock.execute("BEGIN EXCLUSIVE").await.unwrap();
    scene.bumps("while away").await;
    let keyed = scene
        .bridge
        .send_with(
            "POST /v1/calls",
            &[("idempotency-key", "k")],
            Some(json!({"ref": "fixture.bump", "arguments": {"line": "keyed"}})),
        )
        .await;
    assert_eq!(
        keyed.json()["code"],
        "store_unavailable",
        "{}",
        keyed.text()
    );
    assert!(!scene.did("keyed"));
    lock.execute("ROLLBACK").await.unwrap();
    eventually("the call is recorded", || async {
        let page = scene
            .bridge
            .get("/v1/audit?ref=fixture.bump&outcome=succeeded")
            .await;
        (page["items"].as_array()?.len() == 2).then_some(())
    })
    .await;
    assert_eq!(scene.bridge.get("/v1/audit/verify").await["ok"], true);
}

#[tokio::test]
async fn with_postgresql_frozen_or_gone_only_reads_go_on() {
    let mut postgres = tokio::task::spawn_blocking(Postgres::start).await.unwrap();
    eventually("PostgreSQL answers", || async {
        sqlx::any::install_default_drivers();
        let mut connection = AnyConnection::connect(&postgres.url()).await.ok()?;
        connection.execute("SELECT 1").await.ok()
    })
    .await;
    let mut scene = Scene::start(&format!("store: {}\n", postgres.url()), None).await;
    postgres.freeze(true);
    for number in 0..3 {
        scene.refuses(&format!("frozen {number}")).await;
        scene.reads_on().await;
    }
    postgres.freeze(false);
    scene.recovers().await;
    postgres.crash();
    for number in 0..3 {
        scene.refuses(&format!("gone {number}")).await;
        scene.reads_on().await;
    }
    postgres.restart();
    scene.recovers().await;
    assert!(!scene.did("frozen 0") && !scene.did("gone 0"));
}
