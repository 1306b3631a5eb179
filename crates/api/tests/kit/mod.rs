//! One real daemon in this process, and bytes over a real socket.
#![expect(dead_code, reason = "each test file uses its own part of the kit")]
#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot go on ends by panicking"
)]

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use api::config::Source;
use api::daemon::{Daemon, Start, StartError};
use api::places::Places;
use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// Longer than anything here takes; only a hang reaches it.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) struct Bridge {
    pub(crate) home: TempDir,
    pub(crate) daemon: Daemon,
    pub(crate) address: SocketAddr,
    pub(crate) key: String,
}

#[derive(Debug, Clone)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Reply {
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error} in {}", self.text()))
    }

    pub(crate) fn header(&self, name: &str) -> Option<String> {
        self.head.lines().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name)
                .then(|| value.trim().to_owned())
        })
    }

    pub(crate) fn code(&self) -> String {
        self.json()["code"].as_str().unwrap_or_default().to_owned()
    }
}

pub(crate) fn program() -> PathBuf {
    PathBuf::from(env!("CARGO_BIN_EXE_paperbot-mcpd"))
}

pub(crate) fn demo() -> String {
    format!(
        "servers:\n  demo: {{transport: stdio, isolation: shared, command: [{}, demo-server]}}\n",
        program().display()
    )
}

pub(crate) async fn start(home: &Path, yaml: &str) -> Result<Daemon, StartError> {
    transports::supervise::set_supervisor_program(program());
    let file = home.join("bridge.yaml");
    let listen = if yaml.contains("listen:") {
        ""
    } else {
        "listen: 127.0.0.1:0\n"
    };
    // Tests call as one user, and faster than a user may; those about rates name their own `limits`.
    let limits = if yaml.contains("limits:") {
        ""
    } else {
        "limits: {rate: {user: null, global: null}}\n"
    };
    std::fs::write(&file, format!("{listen}{limits}{yaml}")).unwrap();
    let source = Source {
        path: Some(file),
        environment: Vec::new(),
    };
    let places = Places {
        data: home.join("data"),
        state: home.join("state"),
    };
    Daemon::start(Start { source, places }).await
}

impl Bridge {
    pub(crate) async fn start(yaml: &str) -> Self {
        let home = tempfile::tempdir().unwrap();
        let daemon = start(home.path(), yaml).await.unwrap();
        let address = daemon.address();
        let key = std::fs::read_to_string(home.path().join("state/admin.key")).unwrap();
        Self {
            home,
            daemon,
            address,
            key: key.trim().to_owned(),
        }
    }

    pub(crate) fn rewrite(&self, yaml: &str) {
        std::fs::write(
            self.home.path().join("bridge.yaml"),
            format!("listen: 127.0.0.1:0\n{yaml}"),
        )
        .unwrap();
    }

    pub(crate) async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// `line` such as `GET /v1/me`; headers as `name: value` lines.
    pub(crate) fn request(&self, line: &str, headers: &[&str], body: &str) -> String {
        let mut text = format!("{line} HTTP/1.1\r\n");
        let has = |name: &str| {
            headers
                .iter()
                .any(|header| header.to_ascii_lowercase().starts_with(name))
        };
        if !has("host:") {
            let _ = write!(text, "host: {}\r\n", self.address);
        }
        if !has("authorization:") && !has("no-key:") {
            let _ = write!(text, "authorization: Bearer {}\r\n", self.key);
        }
        for header in headers
            .iter()
            .filter(|header| !header.starts_with("no-key:") && **header != "host:")
        {
            let _ = write!(text, "{header}\r\n");
        }
        if !body.is_empty() && !has("transfer-encoding:") && !has("content-length:") {
            let _ = write!(text, "content-length: {}\r\n", body.len());
        }
        format!("{text}connection: close\r\n\r\n{body}")
    }

    pub(crate) async fn raw(&self, bytes: &[u8]) -> Reply {
        let mut stream = self.connect().await;
        // A server that refuses early may close before all is written.
        let _ = stream.write_all(bytes).await;
        read_reply(&mut stream).await
    }

    pub(crate) async fn send(&self, line: &str, headers: &[&str], body: &str) -> Reply {
        self.raw(self.request(line, headers, body).as_bytes()).await
    }

    pub(crate) async fn get(&self, path: &str) -> Reply {
        self.send(&format!("GET {path}"), &[], "").await
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> Reply {
        self.send(&format!("POST {path}"), &[], &body.to_string())
            .await
    }

    /// A key of another user with these roles in `default`.
    pub(crate) async fn key_of(&self, user: &str, role: &str) -> String {
        let workspaces = serde_json::json!([{"workspace": "default", "roles": [role]}]);
        let made = self
            .post(
                "/v1/users",
                &serde_json::json!({"user": user, "workspaces": workspaces}),
            )
            .await;
        assert_eq!(made.status, 201, "{}", made.text());
        let made = self
            .post("/v1/keys", &serde_json::json!({"user": user}))
            .await;
        assert_eq!(made.status, 201, "{}", made.text());
        made.json()["key"].as_str().unwrap().to_owned()
    }

    pub(crate) async fn stop(self) {
        tokio::time::timeout(PATIENCE, self.daemon.shutdown())
            .await
            .expect("the daemon ends");
    }
}

/// Reads to the end of the connection (every request here asks for `connection: close`).
pub(crate) async fn read_reply(stream: &mut TcpStream) -> Reply {
    let mut bytes = Vec::new();
    let read = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut bytes))
        .await
        .expect("an answer");
    // A reset after the answer is the client's writing into a closed connection.
    let _ = read;
    parse(&bytes)
}

fn parse(bytes: &[u8]) -> Reply {
    let end = bytes
        .windows(4)
        .position(|four| four == b"\r\n\r\n")
        .unwrap_or(bytes.len());
    let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
    let rest = bytes.get(end + 4..).unwrap_or_default();
    if head.starts_with("HTTP/1.1 100") {
        return parse(rest);
    }
    let status = head
        .split(' ')
        .nth(1)
        .and_then(|code| code.parse().ok())
        .unwrap_or(0);
    let chunked = head
        .to_ascii_lowercase()
        .contains("transfer-encoding: chunked");
    let body = if chunked {
        unchunk(rest)
    } else {
        rest.to_vec()
    };
    Reply { status, head, body }
}

fn unchunk(mut rest: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    while let Some(end) = rest.windows(2).position(|two| two == b"\r\n") {
        let size = usize::from_str_radix(&String::from_utf8_lossy(&rest[..end]), 16).unwrap_or(0);
        if size == 0 {
            break;
        }
        body.extend_from_slice(&rest[end + 2..end + 2 + size]);
        rest = &rest[end + 4 + size..];
    }
    body
}

/// The `data:` of each frame of an event stream.
pub(crate) fn events(text: &str) -> Vec<Value> {
    text.lines()
        .filter_map(|line| line.strip_prefix("data: "))
        .map(|data| serde_json::from_str(data).unwrap())
        .collect()
}

/// Asks again until there is an answer.
pub(crate) async fn eventually<T, F: Future<Output = Option<T>>>(
    what: &str,
    mut ask: impl FnMut() -> F,
) -> T {
    let asking = async {
        loop {
            if let Some(answer) = ask().await {
                return answer;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, asking)
        .await
        .unwrap_or_else(|_| panic!("never: {what}"))
}
