//! Faults of a server process that stays alive: half-closed pipes, a handshake given up, a nested id.

#![expect(clippy::unwrap_used, reason = "a step that fails is the test failing")]

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::timeout;
use transports::{
    ConnectOptions, Connection, Endpoint, EraChoice, Request, RequestError, Sandbox, ServerName,
    ServerSpec, StdioSpec, Timeouts, WireLimits, connect, supervise,
};

const SERVER: &str = r#"
import json, os, sys, time
held = None
def put(text):
    os.write(1, (text + "\n").encode())
for line in iter(sys.stdin.readline, ""):
    m = json.loads(line)
    method = m.get("method")
    if method == "initialize":
        put(json.dumps({"jsonrpc": "2.0", "id": m["id"], "result": {"protocolVersion": "2025-06-18", "capabilities": {}}}))
    elif method == "shut_out":
        os.close(1); time.sleep(600)
    elif method == "shut_in":
        os.close(0); put(json.dumps({"jsonrpc": "2.0", "id": m["id"], "result": {}})); time.sleep(600)
    elif method == "hold":
        held = m["id"]
    elif method == "big":
        body = json.dumps({"items": [{"id": held}], "text": "x" * 4000})
        put('{"jsonrpc":"2.0","result":%s,"id":%d}' % (body, m["id"]))
    elif method == "release":
        put(json.dumps({"jsonrpc": "2.0", "id": held, "result": {}}))
        put(json.dumps({"jsonrpc": "2.0", "id": m["id"], "result": {}}))
    elif "id" in m:
        put(json.dumps({"jsonrpc": "2.0", "id": m["id"], "error": {"code": -32601, "message": "no"}}))
"#;

fn spec(argv: &[&str]) -> ServerSpec {
    supervise::set_supervisor_program(PathBuf::from(env!("CARGO_BIN_EXE_paperbot-supervisor")));
    ServerSpec {
        name: ServerName::new("py").unwrap(),
        endpoint: Endpoint::Stdio(StdioSpec {
            argv: argv.iter().map(|word| (*word).to_owned()).collect(),
            env: BTreeMap::new(),
            cwd: None,
            sandbox: Sandbox::default(),
        }),
        era: EraChoice::Auto,
        timeouts: Timeouts {
            close_grace: Duration::from_millis(300),
            ..Timeouts::default()
        },
        limits: WireLimits {
            frame_bytes: 2048,
            ..WireLimits::default()
        },
    }
}

fn options() -> ConnectOptions {
    let (inbound, _) = mpsc::channel(16);
    ConnectOptions {
        known_era: None,
        inbound,
    }
}

async fn open() -> std::sync::Arc<Connection> {
    connect(&spec(&["python3", "-c", SERVER]), options())
        .await
        .unwrap()
}

fn request(method: &'static str) -> Request {
    Request::new(method, Duration::from_secs(12))
}

#[tokio::test]
async fn closing_stdout_alone_fails_the_call_and_the_connection() {
    let connection = open().await;
    let error = connection.request(request("shut_out")).await.unwrap_err();
    assert!(!matches!(error, RequestError::Timeout { .. }), "{error:?}");
    timeout(Duration::from_secs(12), connection.closed())
        .await
        .unwrap();
    connection.close().await;
}

#[tokio::test]
async fn closing_stdin_alone_fails_the_next_call_and_the_connection() {
    let connection = open().await;
    connection.request(request("shut_in")).await.unwrap();
    let error = connection.request(request("anything")).await.unwrap_err();
    assert!(!matches!(error, RequestError::Timeout { .. }), "{error:?}");
    timeout(Duration::from_secs(12), connection.closed())
        .await
        .unwrap();
    connection.close().await;
}

#[tokio::test]
async fn a_connect_given_up_leaves_no_process() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pid");
    let script = format!("echo $$ > {}; exec sleep 60", file.display());
    let given_up = timeout(
        Duration::from_secs(3),
        connect(&spec(&["sh", "-c", &script]), options()),
    )
    .await;
    assert!(given_up.is_err());
    let pid = std::fs::read_to_string(&file).unwrap().trim().to_owned();
    let alive = || std::path::Path::new(&format!("/proc/{pid}")).exists();
    for _ in 0..500 {
        if !alive() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("the process outlived the connect that was given up");
}

#[tokio::test]
async fn an_oversized_answer_that_holds_another_calls_id_fails_only_its_own_call() {
    let connection = open().await;
    let other = std::sync::Arc::clone(&connection);
    let held = tokio::spawn(async move { other.request(request("hold")).await });
    tokio::time::sleep(Duration::from_millis(500)).await;
    let error = connection.request(request("big")).await.unwrap_err();
    let own = matches!(error, RequestError::TooLarge { .. });
    let released = connection.request(request("release")).await;
    let innocent = held.await.unwrap();
    assert!(
        own && innocent.is_ok(),
        "own {own} {error:?}; held {innocent:?}; {released:?}"
    );
    connection.close().await;
}
