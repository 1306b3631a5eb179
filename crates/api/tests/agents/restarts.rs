//! The bridge goes in the middle of a call, and the call does not.

use std::path::Path;
use std::process::Stdio;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use sqlx::Connection as _;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::{Child, Command};

use crate::agent::{Agent, server, text_result};
use crate::kit::{PATIENCE, events, eventually, program};

/// The real program, so that it can really be killed.
struct Daemon {
    child: Child,
    address: std::net::SocketAddr,
    key: String,
}

impl Daemon {
    async fn start(home: &Path) -> Self {
        let mut child = Command::new(program())
            .arg("serve")
            .env_clear()
            .env("HOME", home)
            .env("PAPERBOT__LISTEN", "127.0.0.1:0")
            .env("PAPERBOT__SHUTDOWN__GRACE_S", "1")
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let mark = "listening on http://";
        let address = loop {
            let line = tokio::time::timeout(PATIENCE, lines.next_line()).await;
            let line = line.expect("a line in time").unwrap().expect("not the end");
            if let Some((_, rest)) = line.split_once(mark) {
                break rest.trim().parse().unwrap();
            }
        };
        // Nobody reads on, and it must not wait for that.
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        let key = std::fs::read_to_string(home.join(".local/state/paperbot/admin.key")).unwrap();
        Self {
            child,
            address,
            key: key.trim().to_owned(),
        }
    }

    async fn send(&self, line: &str, headers: &str, body: &str) -> String {
        let mut stream = tokio::net::TcpStream::connect(self.address).await.unwrap();
        let request = format!(
            "{line} HTTP/1.1\r\nhost: {}\r\nauthorization: Bearer {}\r\n{headers}content-length: {}\r\nconnection: close\r\n\r\n{body}",
            self.address,
            self.key,
            body.len()
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        tokio::time::timeout(PATIENCE, stream.read_to_string(&mut answer))
            .await
            .unwrap()
            .unwrap();
        let (_, body) = answer.split_once("\r\n\r\n").unwrap();
        body.to_owned()
    }

    async fn json(&self, line: &str, body: &Value) -> Value {
        let body = if body.is_null() {
            String::new()
        } else {
            body.to_string()
        };
        serde_json::from_str(&self.send(line, "", &body).await).unwrap()
    }

    async fn state(&self, call: &str, wait_ms: u32) -> Value {
        self.json(
            &format!("GET /v1/calls/{call}?wait_ms={wait_ms}"),
            &Value::Null,
        )
        .await
    }

    /// A call that acts and runs by itself, known to the agent.
    async fn begin(&self, agent: &mut Agent) -> String {
        let body = json!({"ref": "laptop-files.act", "timeout_ms": 120_000}).to_string();
        let begun = self
            .send("POST /v1/calls", "prefer: respond-async\r\n", &body)
            .await;
        let begun: Value = serde_json::from_str(&begun).unwrap();
        let call = begun["call_id"].as_str().unwrap().to_owned();
        let (req_id, _) = agent.invoked().await;
        assert_eq!(req_id, call);
        call
    }

    fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id().unwrap()).unwrap();
        kill(Pid::from_raw(pid), signal).unwrap();
    }

    async fn end(mut self, signal: Signal) {
        self.signal(signal);
        tokio::time::timeout(PATIENCE, self.child.wait())
            .await
            .unwrap()
            .unwrap();
    }
}

async fn ready(home: &Path) -> (Daemon, Agent, String) {
    let bridge = Daemon::start(home).await;
    let issued = bridge
        .json("POST /v1/agents/tokens", &json!({"agent_id": "laptop"}))
        .await;
    let token = issued["token"].as_str().unwrap().to_owned();
    let mut agent = Agent::connect(bridge.address, "laptop", &token).await;
    agent.tools(&[server("files")]).await;
    eventually("the server is listed", || async {
        let page = bridge.json("GET /v1/catalog?limit=500", &Value::Null).await;
        page.to_string().contains("laptop-files.act").then_some(())
    })
    .await;
    (bridge, agent, token)
}

/// Waits until the progress of a call is on disk.
async fn log_on_disk(home: &Path) {
    let file = home.join(".local/share/paperbot/bridge.db");
    eventually("the progress is on disk", || async {
        let url = format!("sqlite://{}?mode=ro", file.display());
        let mut reader = sqlx::SqliteConnection::connect(&url).await.ok()?;
        let sql = "SELECT COUNT(*) FROM events WHERE body LIKE '%tool_log%'";
        let kept: i64 = sqlx::query_scalar(sql).fetch_one(&mut reader).await.ok()?;
        (kept > 0).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_running_call_survives_the_kill_of_the_bridge_and_is_read_by_its_id() {
    let home = tempfile::tempdir().unwrap();
    let (bridge, mut agent, token) = ready(home.path()).await;
    let call = bridge.begin(&mut agent).await;
    let chunk = json!({"channel": "progress", "data": r#"{"progress":1}"#});
    agent.say("CHUNK", Some(&call), &chunk).await;
    log_on_disk(home.path()).await;
    bridge.end(Signal::SIGKILL).await;
    let bridge = Daemon::start(home.path()).await;
    let adopted = bridge.state(&call, 0).await;
    assert_eq!(
        (&adopted["state"], &adopted["agent_id"]),
        (&json!("running"), &json!("laptop"))
    );
    // The catalogue is there without the agent, marked.
    let page = bridge.json("GET /v1/catalog?limit=500", &Value::Null).await;
    let item = page["items"]
        .as_array()
        .unwrap()
        .iter()
        .find(|item| item["ref"] == "laptop-files.act");
    assert_eq!(item.unwrap()["stale"], true, "{page}");
    let reading = tokio::spawn({
        let (address, key, call) = (bridge.address, bridge.key.clone(), call.clone());
        async move {
            let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
            let request = format!(
                "GET /v1/calls/{call}?wait_ms=30000 HTTP/1.1\r\nhost: {address}\r\nauthorization: Bearer {key}\r\nconnection: close\r\n\r\n"
            );
            stream.write_all(request.as_bytes()).await.unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.unwrap();
            answer
        }
    });
    let mut agent = Agent::resume(bridge.address, ("laptop", &token), &[&call], &[]).await;
    assert_eq!(agent.welcome["epoch"], 2);
    assert_eq!(
        agent.welcome["resume"]["cancel"],
        json!([]),
        "{}",
        agent.welcome
    );
    agent.say("CHUNK", Some(&call), &chunk).await;
    agent.result(&call, &text_result("all the way")).await;
    agent.expect("RESULT_ACK").await;
    let answer = tokio::time::timeout(PATIENCE, reading)
        .await
        .unwrap()
        .unwrap();
    assert!(answer.contains("all the way"), "{answer}");
    one_story(&bridge, &call).await;
    bridge.end(Signal::SIGKILL).await;
    // What was acknowledged stays readable.
    let bridge = Daemon::start(home.path()).await;
    let view = bridge.state(&call, 0).await;
    assert_eq!(
        (&view["state"], &view["result"]["content"][0]["text"]),
        (&json!("succeeded"), &json!("all the way"))
    );
    bridge.end(Signal::SIGKILL).await;
}

/// The events of both lives of the bridge.
async fn one_story(bridge: &Daemon, call: &str) {
    let story = bridge
        .send(&format!("GET /v1/calls/{call}/events"), "", "")
        .await;
    let story = events(&story);
    let kinds: Vec<_> = story
        .iter()
        .map(|event| event["type"].as_str().unwrap())
        .collect();
    assert_eq!(
        kinds.iter().filter(|kind| **kind == "tool_log").count(),
        2,
        "{kinds:?}"
    );
    assert_eq!(kinds.last(), Some(&"tool_result"));
    assert_eq!(story[0]["data"]["state"], "sent");
}

#[tokio::test]
async fn what_an_agent_finished_meanwhile_is_taken_and_what_nobody_knows_is_not() {
    let home = tempfile::tempdir().unwrap();
    let (bridge, mut agent, token) = ready(home.path()).await;
    let finished = bridge.begin(&mut agent).await;
    let lost = bridge.begin(&mut agent).await;
    bridge.end(Signal::SIGKILL).await;
    let bridge = Daemon::start(home.path()).await;
    let forged = "call_01900000-0000-7000-8000-000000000000";
    let mut agent = Agent::resume(
        bridge.address,
        ("laptop", &token),
        &["call_01900000-0000-7000-8000-000000000001"],
        &[&finished, forged, "nonsense"],
    )
    .await;
    let resume = agent.welcome["resume"].clone();
    assert_eq!(resume["forget"], json!([forged, "nonsense"]), "{resume}");
    assert_eq!(
        resume["cancel"],
        json!(["call_01900000-0000-7000-8000-000000000001"])
    );
    agent.result(&finished, &text_result("meanwhile")).await;
    agent.expect("RESULT_ACK").await;
    let view = bridge.state(&finished, 5000).await;
    assert_eq!(view["result"]["content"][0]["text"], "meanwhile");
    let view = bridge.state(&lost, 20_000).await;
    assert_eq!(
        (&view["state"], &view["error"]["executed"]),
        (&json!("outcome_unknown"), &json!("unknown"))
    );
    let unseen = bridge.state(forged, 0).await;
    assert_eq!(unseen["code"], "call_not_found");
    bridge.end(Signal::SIGKILL).await;
}

/// A plain read has no row before its end: the next bridge never heard of those under way.
#[tokio::test]
async fn an_agent_that_stops_the_reads_of_a_killed_bridge_as_it_is_told_stays_connected() {
    let home = tempfile::tempdir().unwrap();
    let (bridge, mut agent, token) = ready(home.path()).await;
    let mut callers = Vec::new();
    let mut reads = Vec::new();
    for _ in 0..4 {
        let body = json!({"ref": "laptop-files.look", "timeout_ms": 60_000}).to_string();
        let request = format!(
            "POST /v1/calls HTTP/1.1\r\nhost: {}\r\nauthorization: Bearer {}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            bridge.address,
            bridge.key,
            body.len()
        );
        let mut caller = tokio::net::TcpStream::connect(bridge.address)
            .await
            .unwrap();
        caller.write_all(request.as_bytes()).await.unwrap();
        callers.push(caller);
        reads.push(agent.invoked().await.0);
    }
    bridge.end(Signal::SIGKILL).await;
    let bridge = Daemon::start(home.path()).await;
    let running: Vec<&str> = reads.iter().map(String::as_str).collect();
    let mut agent = Agent::resume(bridge.address, ("laptop", &token), &running, &[]).await;
    assert_eq!(agent.welcome["resume"]["cancel"], json!(reads));
    let stopped = json!({"ok": false, "exit_code": null, "canceled": true, "error": {"code": "canceled", "message": "stopped"}});
    for read in &reads {
        agent.result(read, &stopped).await;
        assert_eq!(agent.expect("RESULT_ACK").await["req_id"], read.as_str());
    }
    bridge.end(Signal::SIGKILL).await;
}

#[tokio::test]
async fn a_planned_end_of_the_bridge_leaves_the_call_to_its_agent() {
    let home = tempfile::tempdir().unwrap();
    let (bridge, mut agent, token) = ready(home.path()).await;
    let call = bridge.begin(&mut agent).await;
    bridge.signal(Signal::SIGTERM);
    let closed = loop {
        match agent.next().await {
            Ok(frame) => assert_ne!(frame["type"], "CANCEL", "{frame}"),
            Err(closed) => break closed,
        }
    };
    assert_eq!(closed.code, Some(1001), "{closed:?}");
    bridge.end(Signal::SIGCONT).await;
    let bridge = Daemon::start(home.path()).await;
    assert_eq!(bridge.state(&call, 0).await["state"], "running");
    let mut agent = Agent::resume(bridge.address, ("laptop", &token), &[], &[&call]).await;
    agent.result(&call, &text_result("over the upgrade")).await;
    agent.expect("RESULT_ACK").await;
    let view = bridge.state(&call, 0).await;
    assert_eq!(view["result"]["content"][0]["text"], "over the upgrade");
    bridge.end(Signal::SIGKILL).await;
}

#[tokio::test]
async fn a_call_adopted_after_a_restart_can_be_cancelled_and_a_deleted_agents_calls_end() {
    let home = tempfile::tempdir().unwrap();
    let (bridge, mut agent, token) = ready(home.path()).await;
    let (first, second) = (
        bridge.begin(&mut agent).await,
        bridge.begin(&mut agent).await,
    );
    bridge.end(Signal::SIGKILL).await;
    let bridge = Daemon::start(home.path()).await;
    // Also while the agent is away.
    let cancelled = bridge
        .json(&format!("POST /v1/calls/{first}/cancel"), &Value::Null)
        .await;
    assert_eq!(cancelled["state"], "cancelled");
    // The bridge of before gave it to the agent: nobody here may say that it did not run.
    let view = bridge.state(&first, 5000).await;
    assert_eq!(view["error"]["executed"], "unknown", "{view}");
    let agent = Agent::resume(bridge.address, ("laptop", &token), &[&first, &second], &[]).await;
    assert_eq!(
        agent.welcome["resume"]["cancel"],
        json!([first]),
        "{}",
        agent.welcome
    );
    bridge.send("DELETE /v1/agents/laptop", "", "").await;
    let view = bridge.state(&second, 5000).await;
    assert_eq!(view["state"], "outcome_unknown", "{view}");
    assert_eq!(view["error"]["executed"], "unknown", "{view}");
    bridge.end(Signal::SIGKILL).await;
}

/// Deleted and killed at once: whether the end was written before the kill or the next start finds the agent gone,
/// it is the same end.
#[tokio::test]
async fn a_call_whose_agent_is_deleted_right_before_the_kill_has_the_same_end_however_far_it_came()
{
    let home = tempfile::tempdir().unwrap();
    let (bridge, mut agent, _) = ready(home.path()).await;
    let call = bridge.begin(&mut agent).await;
    bridge.end(Signal::SIGKILL).await;
    let bridge = Daemon::start(home.path()).await;
    bridge.send("DELETE /v1/agents/laptop", "", "").await;
    bridge.end(Signal::SIGKILL).await;
    let bridge = Daemon::start(home.path()).await;
    let view = bridge.state(&call, 5000).await;
    assert_eq!(view["state"], "outcome_unknown", "{view}");
    assert_eq!(view["error"]["executed"], "unknown", "{view}");
    bridge.end(Signal::SIGKILL).await;
}
