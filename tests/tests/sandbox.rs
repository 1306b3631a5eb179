//! A hostile server as a child of the real daemon: what it tries is refused at the level that promises it, the
//! server beside it lives on, and inspecting a session tells which level was asked for and which was reached.

#![expect(clippy::unwrap_used, reason = "a step that fails is the test failing")]

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use testkit::upstreams::Upstream;
use testkit::{Bridge, eventually};

const GIB: u64 = 1 << 30;

/// The hostile server under a name, with its `sandbox` in YAML.
fn hostile(name: &'static str, sandbox: &str) -> Upstream {
    let script = script().display().to_string();
    let (python, _) = python();
    Upstream {
        name,
        yaml: format!(
            "    transport: stdio\n    command: [{python:?}, {script:?}]\n    sandbox: {sandbox}\n"
        ),
    }
}

/// The Python there is, and the folder it stands in: it may be outside of the system's.
fn python() -> (String, String) {
    let ask = "import sys; print(sys.executable); print(sys.base_prefix)";
    let asked = std::process::Command::new("python3")
        .args(["-c", ask])
        .output();
    let told = String::from_utf8(asked.unwrap().stdout).unwrap();
    let mut lines = told.lines().map(str::to_owned);
    (lines.next().unwrap(), lines.next().unwrap())
}

fn script() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("upstreams/attacker.py")
}

/// A daemon with a hostile server and one beside it that is held by nothing.
async fn beside(sandbox: &str) -> Bridge {
    let bridge = Bridge::start(vec![
        hostile("attacker", sandbox),
        hostile("sibling", "{level: none}"),
    ])
    .await;
    bridge.wait_for_ref("attacker.attack").await;
    bridge.wait_for_ref("sibling.attack").await;
    let _ = attack(&bridge, "sibling", json!({"what": "listing", "path": "/"})).await;
    bridge
}

/// What the server says of one attack.
async fn attack(bridge: &Bridge, server: &str, arguments: Value) -> String {
    let call = json!({"ref": format!("{server}.attack"), "arguments": arguments});
    let answer = bridge.post("/v1/calls", call).await;
    answer["content"][0]["text"].as_str().unwrap().to_owned()
}

async fn is_refused(bridge: &Bridge, server: &str, arguments: Value) {
    let said = attack(bridge, server, arguments.clone()).await;
    assert!(said.starts_with("refused: "), "{arguments}: {said}");
}

async fn succeeds(bridge: &Bridge, server: &str, arguments: Value) {
    let said = attack(bridge, server, arguments.clone()).await;
    assert!(said.starts_with("done: "), "{arguments}: {said}");
}

/// The open session of a server, as inspecting it shows it.
async fn session(bridge: &Bridge, server: &str) -> Value {
    let sessions = bridge.get("/v1/sessions").await;
    let items = sessions["items"].as_array().unwrap();
    let found = items.iter().find(|item| item["server"] == server).unwrap();
    let id = found["session_id"].as_str().unwrap();
    bridge.get(&format!("/v1/sessions/{id}")).await
}

async fn sibling_pid(bridge: &Bridge) -> u64 {
    session(bridge, "sibling").await["process"]["pid"]
        .as_u64()
        .unwrap()
}

/// The server beside the hostile one answers, in the process it had.
async fn sibling_lives(bridge: &Bridge, pid: u64) {
    succeeds(bridge, "sibling", json!({"what": "listing", "path": "/"})).await;
    assert_eq!(sibling_pid(bridge).await, pid, "the same process");
}

/// Everything the daemon keeps under its own home.
fn kept(home: &Path) -> Vec<PathBuf> {
    let mut found = vec![home.join("bridge.yaml")];
    let mut folders = vec![home.join("state"), home.join("data")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.is_file() {
                found.push(path);
            }
        }
    }
    found
}

#[tokio::test]
async fn a_strict_server_sees_nothing_of_the_bridge_or_of_its_siblings() {
    let writable = tempfile::tempdir().unwrap();
    let sandbox = format!(
        "{{level: strict, read: [{:?}, {:?}], write: [{:?}]}}",
        script().display().to_string(),
        python().1,
        writable.path().display().to_string()
    );
    let bridge = beside(&sandbox).await;
    let pid = sibling_pid(&bridge).await;
    let files = kept(bridge.home());
    let named = |name: &str| files.iter().any(|path| path.ends_with(name));
    assert!(
        named("admin.key") && named("bridge.yaml") && files.len() > 2,
        "{files:?}"
    );
    for path in &files {
        let read = json!({"what": "read", "path": path});
        // Without a sandbox the same attack succeeds.
        succeeds(&bridge, "sibling", read.clone()).await;
        is_refused(&bridge, "attacker", read).await;
    }
    for path in [
        format!("/proc/{}/environ", bridge.pid()),
        format!("/proc/{pid}/environ"),
        "/etc/shadow".to_owned(),
    ] {
        is_refused(&bridge, "attacker", json!({"what": "read", "path": path})).await;
    }
    for what in ["trace", "peek", "signal"] {
        for target in [pid, u64::from(bridge.pid())] {
            is_refused(&bridge, "attacker", json!({"what": what, "pid": target})).await;
        }
    }
    is_refused(
        &bridge,
        "attacker",
        json!({"what": "listing", "path": bridge.home()}),
    )
    .await;
    is_refused(
        &bridge,
        "attacker",
        json!({"what": "write", "path": script()}),
    )
    .await;
    is_refused(&bridge, "attacker", json!({"what": "namespace"})).await;
    let own = writable.path().join("own");
    succeeds(&bridge, "attacker", json!({"what": "write", "path": own})).await;
    sibling_lives(&bridge, pid).await;
    let shown = session(&bridge, "attacker").await;
    assert_eq!(
        shown["process"]["sandbox"],
        json!({"asked": "strict", "reached": "strict"}),
        "{shown}"
    );
}

#[tokio::test]
async fn a_server_is_held_by_default() {
    let folder = tempfile::tempdir().unwrap();
    let bridge = beside("{}").await;
    let pid = sibling_pid(&bridge).await;
    is_refused(&bridge, "attacker", json!({"what": "trace", "pid": pid})).await;
    let there = json!({"what": "mount", "path": folder.path()});
    is_refused(&bridge, "attacker", there).await;
    let much = json!({"what": "allocate", "size": 4 * GIB});
    is_refused(&bridge, "attacker", much).await;
    sibling_lives(&bridge, pid).await;
    let shown = session(&bridge, "attacker").await["process"].clone();
    assert_eq!(
        shown["sandbox"],
        json!({"asked": "basic", "reached": "basic"})
    );
    // The kernel's own word.
    let status = std::fs::read_to_string(format!("/proc/{}/status", shown["pid"])).unwrap();
    assert!(
        status.contains("NoNewPrivs:\t1") && status.contains("Seccomp:\t2"),
        "{status}"
    );
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", shown["pid"])).unwrap();
    let core = limits
        .lines()
        .find(|line| line.starts_with("Max core file size"));
    assert_eq!(core.unwrap().split_whitespace().nth(4), Some("0"));
    let unheld = session(&bridge, "sibling").await["process"]["sandbox"].clone();
    assert_eq!(unheld, json!({"asked": "none", "reached": "none"}));
}

#[tokio::test]
async fn limits_of_a_definition_hold() {
    let folder = tempfile::tempdir().unwrap();
    let limits = "{memory_bytes: 268435456, file_bytes: 1048576, open_files: 64, network: none}";
    let bridge = beside(limits).await;
    let pid = sibling_pid(&bridge).await;
    let file = folder.path().join("big");
    is_refused(
        &bridge,
        "attacker",
        json!({"what": "fill", "path": file, "size": 8 << 20}),
    )
    .await;
    assert!(file.metadata().unwrap().len() <= 1 << 20);
    is_refused(
        &bridge,
        "attacker",
        json!({"what": "allocate", "size": GIB / 2}),
    )
    .await;
    let door = json!({"what": "connect", "path": bridge.authority});
    succeeds(&bridge, "sibling", door.clone()).await;
    is_refused(&bridge, "attacker", door).await;
    sibling_lives(&bridge, pid).await;
}

#[tokio::test]
async fn a_bomb_of_forks_ends_with_its_own_tree() {
    let bridge = beside("{processes: 40}").await;
    let pid = sibling_pid(&bridge).await;
    let attacker = session(&bridge, "attacker").await["process"]["pid"].clone();
    let call = json!({"ref": "attacker.attack", "arguments": {"what": "forks", "count": 400}});
    let _ = bridge.send("POST", "/v1/calls", Some(call)).await;
    eventually("the whole tree is gone", || async {
        let tree = marked_as(&attacker);
        (tree == 0).then_some(())
    })
    .await;
    sibling_lives(&bridge, pid).await;
}

/// Processes of the group of a server.
fn marked_as(server: &Value) -> usize {
    let group = server.as_u64().unwrap().to_string();
    let processes = std::fs::read_dir("/proc").unwrap().filter_map(Result::ok);
    processes
        .filter_map(|process| std::fs::read_to_string(process.path().join("stat")).ok())
        .filter(|stat| {
            // After the name in brackets: state, parent, group.
            let fields = stat.rsplit(')').next().unwrap_or_default();
            let mut fields = fields.split_whitespace();
            let state = fields.next();
            fields.nth(1) == Some(group.as_str()) && state != Some("Z")
        })
        .count()
}

#[tokio::test]
async fn what_a_definition_cannot_mean_is_refused() {
    let bridge = Bridge::start(Vec::new()).await;
    for (sandbox, pointer) in [
        (
            json!({"level": "basic", "read": ["/data"]}),
            "/sandbox/read",
        ),
        (
            json!({"level": "strict", "read": ["data"]}),
            "/sandbox/read/0",
        ),
        (
            json!({"level": "strict", "write": ["/"]}),
            "/sandbox/write/0",
        ),
        (
            json!({"level": "strict", "read": ["/proc/1"]}),
            "/sandbox/read/0",
        ),
        (
            json!({"level": "strict", "read": ["/data/../etc"]}),
            "/sandbox/read/0",
        ),
        (json!({"memory_bytes": 1}), "/sandbox/memory_bytes"),
        (
            json!({"level": "none", "processes": 4}),
            "/sandbox/processes",
        ),
        (
            json!({"level": "none", "network": "none"}),
            "/sandbox/network",
        ),
    ] {
        let definition = json!({"transport": "stdio", "command": ["python3"], "sandbox": sandbox});
        let body = json!({"name": "held", "definition": definition});
        let refused = bridge.send("POST", "/v1/servers", Some(body)).await;
        assert_eq!(refused.status, 422, "{}", refused.text());
        let errors = refused.json()["errors"].clone();
        assert!(
            errors[0]["pointer"].as_str().unwrap().ends_with(pointer),
            "{errors}"
        );
    }
}
