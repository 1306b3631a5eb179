//! A bridge's end of the tunnel that says what a test wants said, and the real agent on the other end.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures_util::{SinkExt as _, StreamExt as _};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, Command};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::server::{Request, Response};
use tokio_tungstenite::tungstenite::http::HeaderValue;

use crate::upstreams::built;
use crate::{PATIENCE, eventually};

/// The token of every agent here.
pub const TOKEN: &str = "tok_never_to_be_logged_0123456789";
/// Its id.
pub const AGENT: &str = "my-laptop";
/// The file its servers write what they did to.
pub const EFFECTS: &str = "effects";

/// Where agents dial to.
#[derive(Debug)]
pub struct ScriptedBridge {
    listener: TcpListener,
    epochs: AtomicU64,
}

/// One connection of an agent that was taken in.
#[derive(Debug)]
pub struct Line {
    socket: WebSocketStream<TcpStream>,
    session: String,
    seq: u64,
    seen: u64,
    /// HELLO's payload.
    pub hello: Value,
    /// AUTH's payload.
    pub auth: Value,
    kept: Vec<Value>,
}

impl ScriptedBridge {
    /// Listens on a port of its own.
    ///
    /// # Panics
    /// When there is none.
    pub async fn start() -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await;
        Self {
            listener: listener.unwrap_or_else(|error| panic!("{error}")),
            epochs: AtomicU64::new(0),
        }
    }

    /// What agents dial.
    ///
    /// # Panics
    /// When the listener has no address.
    #[must_use]
    pub fn url(&self) -> String {
        let address = self.listener.local_addr();
        let address = address.unwrap_or_else(|error| panic!("{error}"));
        format!("ws://{address}/v1/agents/tunnel")
    }

    /// Takes the next connection in and answers HELLO so: `resume` is what becomes of the calls offered.
    ///
    /// # Panics
    /// When none comes, or not as the protocol has it.
    pub async fn admit(&self, resume: Value) -> Line {
        let mut line = loop {
            let accepted = tokio::time::timeout(PATIENCE, self.listener.accept()).await;
            let (stream, _) = accepted
                .unwrap_or_else(|_| panic!("no agent came"))
                .unwrap_or_else(|error| panic!("{error}"));
            // One that was waiting here may be that of an agent that was killed.
            if let Some(line) = self.greeted(stream).await {
                break line;
            }
        };
        let (session, epoch) = (line.session.clone(), self.epochs.load(Ordering::SeqCst));
        let ack = json!({"conn_session_id": session, "epoch": epoch, "resume": resume});
        line.send("HELLO_ACK", None, ack).await;
        line
    }

    async fn greeted(&self, stream: TcpStream) -> Option<Line> {
        let socket = upgraded(stream).await?;
        let epoch = self.epochs.fetch_add(1, Ordering::SeqCst) + 1;
        let mut line = Line {
            socket,
            session: format!("ws_{epoch}"),
            seq: 0,
            seen: 0,
            hello: Value::Null,
            auth: Value::Null,
            kept: Vec::new(),
        };
        let hello = line.try_frame().await?;
        let auth = line.try_frame().await?;
        assert_eq!(
            (&hello["type"], &auth["type"]),
            (&json!("HELLO"), &json!("AUTH"))
        );
        (line.hello, line.auth) = (hello["payload"].clone(), auth["payload"].clone());
        Some(line)
    }
}

#[expect(clippy::result_large_err, reason = "the library's own signature")]
async fn upgraded(stream: TcpStream) -> Option<WebSocketStream<TcpStream>> {
    let protocol = |request: &Request, mut response: Response| {
        let asked = request.headers().get("sec-websocket-protocol");
        assert_eq!(
            asked.map(HeaderValue::as_bytes),
            Some(&b"paperbot.tunnel.v1"[..])
        );
        assert!(!request.headers().contains_key("origin"));
        assert!(!request.headers().contains_key("authorization"));
        let name = HeaderValue::from_static("paperbot.tunnel.v1");
        response
            .headers_mut()
            .insert("sec-websocket-protocol", name);
        Ok(response)
    };
    tokio_tungstenite::accept_hdr_async(stream, protocol)
        .await
        .ok()
}

impl Line {
    /// The next frame, whatever it is; pings are answered.
    ///
    /// # Panics
    /// When none comes, or one out of turn.
    pub async fn frame(&mut self) -> Value {
        let frame = self.try_frame().await;
        frame.unwrap_or_else(|| panic!("the agent closed the line"))
    }

    async fn try_frame(&mut self) -> Option<Value> {
        loop {
            let next = tokio::time::timeout(PATIENCE, self.socket.next()).await;
            let next = next.unwrap_or_else(|_| panic!("the agent says nothing"));
            let message = next?.ok()?;
            let Message::Text(text) = message else {
                continue;
            };
            let frame: Value =
                serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
            self.seen += 1;
            assert_eq!(frame["seq"], self.seen, "{frame}");
            assert_eq!(frame["agent_id"], AGENT, "{frame}");
            if frame["type"] == "PING" {
                self.send("PONG", None, json!({})).await;
                continue;
            }
            return Some(frame);
        }
    }

    /// The next frame of a type (about a call); others are kept for later.
    ///
    /// # Panics
    /// As [`Line::frame`].
    pub async fn wait(&mut self, kind: &str, req_id: Option<&str>) -> Value {
        let fits = |frame: &Value| {
            frame["type"] == kind && req_id.is_none_or(|req_id| frame["req_id"] == req_id)
        };
        if let Some(at) = self.kept.iter().position(fits) {
            return self.kept.remove(at);
        }
        loop {
            let frame = self.frame().await;
            if fits(&frame) {
                return frame;
            }
            self.kept.push(frame);
        }
    }

    /// Frames that came and were not asked for.
    #[must_use]
    pub fn kept(&self) -> &[Value] {
        &self.kept
    }

    /// The next TOOLS that fits.
    ///
    /// # Panics
    /// As [`Line::frame`].
    pub async fn tools(&mut self, fits: impl Fn(&Value) -> bool) -> Value {
        loop {
            let tools = self.wait("TOOLS", None).await;
            if fits(&tools["payload"]) {
                return tools["payload"].clone();
            }
        }
    }

    /// Sends a frame.
    ///
    /// # Panics
    /// When the line is gone.
    pub async fn send(&mut self, kind: &str, req_id: Option<&str>, payload: Value) {
        self.seq += 1;
        let ts = SystemTime::now().duration_since(UNIX_EPOCH);
        let mut frame = json!({
            "v": 1, "type": kind, "agent_id": AGENT, "conn_session_id": self.session,
            "seq": self.seq, "ts": ts.unwrap_or_default().as_secs(), "payload": payload,
        });
        if let Some(req_id) = req_id {
            frame["req_id"] = json!(req_id);
        }
        let sent = self.socket.send(Message::text(frame.to_string())).await;
        sent.unwrap_or_else(|error| panic!("{error}"));
    }

    /// Asks for a tool of the server `fixture`; waits for the INVOKE_ACK's payload.
    ///
    /// # Panics
    /// As [`Line::frame`].
    pub async fn invoke(&mut self, req_id: &str, tool: &str, arguments: Value) -> Value {
        self.invoke_within(req_id, Duration::from_mins(1), (tool, arguments))
            .await
    }

    /// As [`Line::invoke`], with a deadline.
    ///
    /// # Panics
    /// As [`Line::frame`].
    pub async fn invoke_within(
        &mut self,
        req_id: &str,
        timeout: Duration,
        (tool, arguments): (&str, Value),
    ) -> Value {
        let payload = json!({
            "server": "fixture", "method": "tools/call",
            "params": {"name": tool, "arguments": arguments},
            "timeout_ms": timeout.as_millis(), "deadline_ts": 0,
            "stream": {"enabled": true}, "isolation_key": "user:a",
        });
        self.send("INVOKE", Some(req_id), payload).await;
        self.wait("INVOKE_ACK", Some(req_id)).await["payload"].clone()
    }

    /// Waits for a call's RESULT and acknowledges it.
    ///
    /// # Panics
    /// As [`Line::frame`].
    pub async fn result(&mut self, req_id: &str) -> Value {
        let result = self.wait("RESULT", Some(req_id)).await["payload"].clone();
        self.send("RESULT_ACK", Some(req_id), json!({})).await;
        result
    }

    /// Cuts the line without a word.
    pub fn cut(self) {
        let _ = self.socket.get_ref().set_zero_linger();
    }
}

/// The directories of one agent, and the agent when it runs.
#[derive(Debug)]
pub struct Agent {
    home: TempDir,
    child: Option<Child>,
    roots: Option<PathBuf>,
}

impl Agent {
    /// An agent for this bridge with the fixture server; `more` is further YAML of that server.
    ///
    /// # Panics
    /// When its directories cannot be written.
    #[must_use]
    pub fn new(url: &str, more: &str) -> Self {
        Self::with_servers((url, TOKEN), |home| {
            let fixture = built("fixture-server");
            let (fixture, effects) = (fixture.display(), home.join(EFFECTS));
            let effects = effects.display();
            format!(
                "\x20 - name: fixture\n\
                 \x20   command: {fixture}\n\
                 \x20   args: [stdio, --era, legacy, --effects, {effects}]\n\
                 \x20   env: {{API_KEY: {{secret: \"env:FIXTURE_KEY\"}}}}\n{more}"
            )
        })
    }

    /// An agent for this bridge with this token; `servers` is the list of them in YAML, given its directory.
    ///
    /// # Panics
    /// When its directories cannot be written.
    #[must_use]
    pub fn with_servers((url, token): (&str, &str), servers: impl FnOnce(&Path) -> String) -> Self {
        let home = tempfile::tempdir().unwrap_or_else(|error| panic!("{error}"));
        let servers = servers(home.path());
        let config = format!(
            "version: 1\n\
             server: {{url: {url:?}, token_file: token, reconnect_initial: 100ms, reconnect_max: 200ms}}\n\
             agent: {{id: {AGENT}, label: a laptop}}\n\
             mcp_servers:\n{servers}"
        );
        let write = |name: &str, text: &str| {
            let path = home.path().join(name);
            std::fs::write(path, text).unwrap_or_else(|error| panic!("{error}"));
        };
        write("config.yaml", &config);
        write("token", token);
        Self {
            home,
            child: None,
            roots: None,
        }
    }

    /// Trusts only the authorities in this file.
    pub fn trust(&mut self, roots: &Path) {
        self.roots = Some(roots.to_owned());
    }

    /// Another token than [`TOKEN`].
    ///
    /// # Panics
    /// When it cannot be written.
    pub fn set_token(&self, token: &str) {
        let path = self.home.path().join("token");
        std::fs::write(path, token).unwrap_or_else(|error| panic!("{error}"));
    }

    /// Its own directory.
    #[must_use]
    pub fn home(&self) -> &Path {
        self.home.path()
    }

    /// The file its servers write what they did to.
    #[must_use]
    pub fn effects_path(&self) -> PathBuf {
        self.home.path().join(EFFECTS)
    }

    /// The lines of that file.
    #[must_use]
    pub fn effects(&self) -> Vec<String> {
        let text = std::fs::read_to_string(self.effects_path()).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    /// Waits for an effect.
    pub async fn wait_for_effect(&self, line: &str) {
        eventually(line, || async {
            self.effects().iter().any(|one| one == line).then_some(())
        })
        .await;
    }

    /// What it logged.
    #[must_use]
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.home.path().join("log")).unwrap_or_default()
    }

    /// A command of the CLI in these directories.
    #[must_use]
    pub fn cli(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(built("paperbot-mcp"));
        let home = self.home.path();
        command
            .args(arguments)
            .env_clear()
            .env("HOME", home)
            .env("XDG_STATE_HOME", home.join("state"))
            .env("XDG_CONFIG_HOME", home.join("xdg"))
            .env("FIXTURE_KEY", "key_never_to_be_logged")
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .current_dir(home)
            .stdin(Stdio::null())
            .kill_on_drop(true);
        if let Some(roots) = &self.roots {
            command.env("SSL_CERT_FILE", roots);
        }
        command
    }

    /// The arguments of `agent run`.
    #[must_use]
    pub fn config(&self) -> String {
        self.home.path().join("config.yaml").display().to_string()
    }

    /// Starts `agent run`.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn start(&mut self) {
        let open = |name: &str| {
            let path = self.home.path().join(name);
            let mut options = std::fs::File::options();
            let opened = options.create(true).append(true).open(path);
            opened.unwrap_or_else(|error| panic!("{error}"))
        };
        let mut command = self.cli(&["-v", "agent", "run", "--config", &self.config()]);
        command.stdout(open("stdout")).stderr(open("log"));
        let child = command.spawn().unwrap_or_else(|error| panic!("{error}"));
        self.child = Some(child);
    }

    /// Its process.
    ///
    /// # Panics
    /// When it does not run.
    #[must_use]
    pub fn pid(&self) -> Pid {
        let id = self.child.as_ref().and_then(Child::id);
        let id = id.and_then(|id| i32::try_from(id).ok());
        Pid::from_raw(id.unwrap_or_else(|| panic!("the agent does not run")))
    }

    /// Sends it a signal and waits for its end; the exit code, `None` when killed.
    ///
    /// # Panics
    /// When it stays.
    pub async fn end(&mut self, signal: Signal) -> Option<i32> {
        kill(self.pid(), signal).unwrap_or_else(|error| panic!("{error}"));
        let mut child = self
            .child
            .take()
            .unwrap_or_else(|| panic!("it does not run"));
        let ended = tokio::time::timeout(PATIENCE, child.wait()).await;
        let status = ended.unwrap_or_else(|_| panic!("the agent stays: {}", self.log()));
        status.unwrap_or_else(|error| panic!("{error}")).code()
    }

    /// `agent status --json`'s one agent.
    ///
    /// # Panics
    /// When it says nothing.
    pub async fn status(&self) -> Value {
        let output = self.cli(&["agent", "status", "--json"]).output().await;
        let output = output.unwrap_or_else(|error| panic!("{error}"));
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let body: Value = serde_json::from_str(&text).unwrap_or_default();
        body["items"][0].clone()
    }
}

/// Processes below one, itself not counted.
#[must_use]
pub fn processes_below(pid: Pid) -> Vec<i32> {
    let mut found = vec![pid.as_raw()];
    let mut next = 0;
    while next < found.len() && found.len() < 256 {
        let pid = found[next];
        // A child belongs to the thread that made it.
        let threads = std::fs::read_dir(format!("/proc/{pid}/task"));
        for thread in threads.into_iter().flatten().flatten() {
            let list = std::fs::read_to_string(thread.path().join("children")).unwrap_or_default();
            let children = list.split_ascii_whitespace();
            found.extend(children.filter_map(|id| id.parse::<i32>().ok()));
        }
        next += 1;
    }
    found.split_off(1)
}

/// How long a process has been on a processor, in the kernel's ticks (a hundred a second).
#[must_use]
pub fn cpu_ticks(pid: Pid) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let after_name = stat.rsplit(')').next().unwrap_or_default();
    let fields = after_name.split_whitespace().skip(11).take(2);
    fields.filter_map(|field| field.parse::<u64>().ok()).sum()
}

/// Waits until none of these processes is there (a zombie is not).
pub async fn wait_until_gone(pids: &[i32]) {
    eventually("the processes are gone", || async {
        let alive = pids.iter().filter(|pid| {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            let state = stat.rsplit(')').next().unwrap_or_default().trim_start();
            !state.is_empty() && !state.starts_with('Z')
        });
        (alive.count() == 0).then_some(())
    })
    .await;
}
