//! The real program: its command line, its signals, and what it writes.

mod kit;

use std::path::Path;
use std::process::Stdio;

use kit::{PATIENCE, program};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::{Child, ChildStderr, Command};

struct Program {
    child: Child,
    lines: tokio::io::Lines<BufReader<ChildStderr>>,
    seen: Vec<String>,
    authority: String,
}

impl Program {
    async fn start(home: &Path, arguments: &[&str]) -> Self {
        let mut child = Command::new(program())
            .args(arguments)
            .env_clear()
            .env("HOME", home)
            .env("PAPERBOT__LISTEN", "127.0.0.1:0")
            // Longer than any test waits: whoever ends before did not wait for it.
            .env("PAPERBOT__SHUTDOWN__GRACE_S", "600")
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("the program starts");
        let stderr = child.stderr.take().expect("stderr is piped");
        let mut program = Self {
            child,
            lines: BufReader::new(stderr).lines(),
            seen: Vec::new(),
            authority: String::new(),
        };
        program.authority = program.until("listening on http://").await;
        program
    }

    /// Reads until a line holds `mark`; what follows it.
    async fn until(&mut self, mark: &str) -> String {
        loop {
            let line = tokio::time::timeout(PATIENCE, self.lines.next_line()).await;
            let line = line
                .expect("a line in time")
                .expect("readable")
                .expect("not the end");
            self.seen.push(line.clone());
            if let Some((_, rest)) = line.split_once(mark) {
                return rest.trim().to_owned();
            }
        }
    }

    fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id().expect("it runs")).expect("a pid");
        kill(Pid::from_raw(pid), signal).expect("the signal is sent");
    }

    async fn code(&mut self) -> Option<i32> {
        let ended = tokio::time::timeout(PATIENCE, self.child.wait()).await;
        ended
            .expect("it ends")
            .expect("it can be waited for")
            .code()
    }

    async fn ask(&self, key: &str, line: &str, body: &str) -> String {
        let mut stream = tokio::net::TcpStream::connect(&self.authority)
            .await
            .expect("it listens");
        let request = format!(
            "{line} HTTP/1.1\r\nhost: {}\r\nauthorization: Bearer {key}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
            self.authority,
            body.len()
        );
        stream.write_all(request.as_bytes()).await.expect("written");
        let mut text = String::new();
        stream.read_to_string(&mut text).await.expect("read");
        text
    }
}

fn key(home: &Path) -> String {
    let path = home.join(".local/state/paperbot/admin.key");
    std::fs::read_to_string(path)
        .expect("the key is kept")
        .trim()
        .to_owned()
}

#[tokio::test]
async fn without_any_file_the_first_find_and_call_answer_something() {
    let home = tempfile::tempdir().unwrap();
    let mut bridge = Program::start(home.path(), &[]).await;
    let key = key(home.path());
    let found = kit::eventually("the demo server is listed", || async {
        let found = bridge.ask(&key, "GET /v1/catalog?q=echo", "").await;
        found.contains("demo.echo").then_some(found)
    })
    .await;
    assert!(found.starts_with("HTTP/1.1 200"), "{found}");
    let body = r#"{"ref":"demo.echo","arguments":{"message":"hunter2-argument"}}"#;
    let called = bridge.ask(&key, "POST /v1/calls", body).await;
    assert!(called.contains("hunter2-argument"), "{called}");
    bridge.signal(Signal::SIGTERM);
    assert_eq!(bridge.code().await, Some(0));
    assert_eq!(
        bridge
            .seen
            .iter()
            .filter(|line| line.contains(&key))
            .count(),
        1,
        "the key is shown once"
    );
}

#[tokio::test]
async fn the_log_holds_no_argument_and_no_key_even_at_trace() {
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("bridge.yaml");
    let yaml = format!(
        "telemetry: {{log: {{format: json, level: trace}}}}\n{}",
        kit::demo()
    );
    std::fs::write(&file, yaml).unwrap();
    let mut bridge =
        Program::start(home.path(), &["serve", "--config", file.to_str().unwrap()]).await;
    let key = key(home.path());
    let before = bridge.seen.len();
    let drained = tokio::spawn(async move {
        kit::eventually("the call is answered", || async {
            let body = r#"{"ref":"demo.echo","arguments":{"message":"hunter2-argument"}}"#;
            let called = bridge.ask(&key, "POST /v1/calls", body).await;
            called.contains("hunter2-argument").then_some(())
        })
        .await;
        bridge.signal(Signal::SIGTERM);
        while let Ok(Some(line)) = bridge.lines.next_line().await {
            bridge.seen.push(line);
        }
        assert_eq!(bridge.code().await, Some(0));
        (bridge.seen, key)
    });
    let (seen, key) = tokio::time::timeout(PATIENCE, drained)
        .await
        .unwrap()
        .unwrap();
    let log = &seen[before..];
    assert!(
        log.iter().any(|line| line.contains("trace_id")),
        "the log tells traces"
    );
    for line in log {
        assert!(
            serde_json::from_str::<serde_json::Value>(line).is_ok(),
            "{line}"
        );
        assert!(!line.contains("hunter2") && !line.contains(&key), "{line}");
    }
}

#[tokio::test]
async fn a_refusal_stands_in_the_log_under_its_trace_at_the_default_level() {
    let home = tempfile::tempdir().unwrap();
    let mut bridge = Program::start(home.path(), &["serve"]).await;
    let key = key(home.path());
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    let line = "POST /v1/calls";
    let refused = bridge
        .ask(
            &key,
            &format!("{line} HTTP/1.1\r\ntraceparent: 00-{trace}-00f067aa0ba902b7-01\r\nx-rest:"),
            "{}",
        )
        .await;
    assert!(refused.starts_with("HTTP/1.1 400"), "{refused}");
    bridge.until(trace).await;
    let logged = bridge.seen.last().unwrap();
    assert!(logged.contains("refused"), "{logged}");
    assert!(logged.contains("invalid_request"), "{logged}");
    bridge.signal(Signal::SIGTERM);
    assert_eq!(bridge.code().await, Some(0));
}

#[tokio::test]
async fn a_second_signal_ends_at_once() {
    let home = tempfile::tempdir().unwrap();
    let mut bridge = Program::start(home.path(), &["serve"]).await;
    let key = key(home.path());
    kit::eventually("the demo server is listed", || async {
        let found = bridge.ask(&key, "GET /v1/catalog?q=slow", "").await;
        found.contains("demo.slow").then_some(())
    })
    .await;
    let body = r#"{"ref":"demo.slow","arguments":{"steps":600}}"#;
    let mut stream = tokio::net::TcpStream::connect(&bridge.authority)
        .await
        .unwrap();
    let request = format!(
        "POST /v1/calls HTTP/1.1\r\nhost: {}\r\nauthorization: Bearer {key}\r\ncontent-length: {}\r\n\r\n{body}",
        bridge.authority,
        body.len()
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    kit::eventually("the call runs", || async {
        let calls = bridge.ask(&key, "GET /v1/calls?ref=demo.slow", "").await;
        (calls.contains("\"running\"") || calls.contains("\"dispatched\"")).then_some(())
    })
    .await;
    bridge.signal(Signal::SIGTERM);
    bridge.until("a second signal ends at once").await;
    bridge.signal(Signal::SIGTERM);
    assert_eq!(bridge.code().await, Some(1));
}

async fn run(arguments: &[&str]) -> (Option<i32>, String) {
    let output = Command::new(program())
        .args(arguments)
        .output()
        .await
        .expect("it runs");
    let both = [output.stdout, output.stderr].concat();
    (
        output.status.code(),
        String::from_utf8_lossy(&both).into_owned(),
    )
}

#[tokio::test]
async fn a_file_is_checked_without_starting_anything() {
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("bridge.yaml");
    let path = file.to_str().unwrap();
    std::fs::write(&file, kit::demo()).unwrap();
    assert_eq!(
        run(&["config", "check", path]).await,
        (Some(0), "valid: 1 servers\n".to_owned())
    );
    std::fs::write(&file, "listen: 127.0.0.1:0\nserver: {}\n").unwrap();
    let (code, told) = run(&["config", "check", path]).await;
    assert_eq!(code, Some(2));
    assert!(told.starts_with("bridge.yaml:2:"), "{told}");
    let (code, told) = run(&["serve", "--config", path]).await;
    assert_eq!(code, Some(2), "{told}");
    let two = "servers:\n  a: {transport: stdio}\n  b: {transport: sse}\n";
    std::fs::write(&file, two).unwrap();
    let checked = run(&["config", "check", path]).await;
    assert_eq!(checked.0, Some(2));
    assert_eq!(checked.1.lines().count(), 2, "{checked:?}");
    let served = Command::new(program())
        .args(["serve", "--config", path])
        .env_clear()
        .env("HOME", home.path())
        .output()
        .await
        .expect("it runs");
    let told = String::from_utf8_lossy(&served.stderr).into_owned();
    assert_eq!((served.status.code(), told), checked, "both say the same");
    assert!(
        !home.path().join(".local").exists(),
        "no key is made for a file that is refused"
    );
    let (code, schema) = run(&["config", "schema"]).await;
    assert_eq!(code, Some(0));
    assert!(serde_json::from_str::<serde_json::Value>(&schema).is_ok());
}
