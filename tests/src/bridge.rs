//! One real `paperbot-mcpd` with its own directories, and the real `paperbot-mcp` beside it.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::{Child, Command};

use crate::http::{Reply, request};
use crate::upstreams::{Upstream, built};
use crate::{PATIENCE, eventually};

/// Tests call as one user, and faster than a user may; those about rates name their own `limits`.
const UNHURRIED: &str = "\nlimits: {rate: {user: null, global: null}}\n";
/// The daemon's program.
const DAEMON: &str = "paperbot-mcpd";
/// Where the store's own disk is, below the daemon's directory.
const DISK: &str = "disk";

/// How the daemon is started.
#[derive(Debug, Default)]
pub struct BridgeOptions {
    /// Servers of the file.
    pub upstreams: Vec<Upstream>,
    /// More top-level YAML.
    pub extra: String,
    /// The store lies on a disk of its own, of so many MiB, that only the daemon sees.
    pub disk_mib: Option<u32>,
    /// More variables of the daemon's environment.
    pub env: Vec<(&'static str, String)>,
    /// The first daemon's program, another file than the one that was built; later ones are of that again.
    pub program: Option<PathBuf>,
}

/// A running daemon. Killed by its pid when dropped.
#[derive(Debug)]
pub struct Bridge {
    home: TempDir,
    disk_mib: Option<u32>,
    env: Vec<(&'static str, String)>,
    child: Child,
    /// `127.0.0.1:port`.
    pub authority: String,
    /// The admin key of the first start.
    pub admin_key: String,
}

/// What a run of the CLI gave.
#[derive(Debug)]
pub struct CliOutput {
    /// Exit code.
    pub code: i32,
    /// stdout.
    pub stdout: String,
    /// stderr.
    pub stderr: String,
}

impl Bridge {
    /// Starts a daemon over these servers.
    pub async fn start(upstreams: Vec<Upstream>) -> Self {
        Self::start_with(BridgeOptions {
            upstreams,
            ..BridgeOptions::default()
        })
        .await
    }

    /// Starts a daemon.
    ///
    /// # Panics
    /// When it does not come up.
    pub async fn start_with(options: BridgeOptions) -> Self {
        let home = tempfile::tempdir().unwrap_or_else(|error| panic!("{error}"));
        write_config(home.path(), &options);
        let program = options.program.unwrap_or_else(|| built(DAEMON));
        let (child, authority) =
            spawn(&program, home.path(), (options.disk_mib, &options.env)).await;
        let admin_key = read_key(home.path());
        Self {
            home,
            disk_mib: options.disk_mib,
            env: options.env,
            child,
            authority,
            admin_key,
        }
    }

    /// The daemon's pid.
    ///
    /// # Panics
    /// When it has exited.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child
            .id()
            .unwrap_or_else(|| panic!("the daemon has exited"))
    }

    /// The directory everything of this daemon is under.
    #[must_use]
    pub fn home(&self) -> &Path {
        self.home.path()
    }

    /// The config file.
    #[must_use]
    pub fn config_path(&self) -> PathBuf {
        self.home.path().join("bridge.yaml")
    }

    /// The store's own disk, as the daemon sees it: it is in no other process's view of the file system.
    #[must_use]
    pub fn disk(&self) -> PathBuf {
        let seen = self.home.path().join(DISK);
        let seen = seen.strip_prefix("/").unwrap_or(&seen);
        Path::new("/proc")
            .join(self.pid().to_string())
            .join("root")
            .join(seen)
    }

    /// Everything the daemon wrote to stderr.
    #[must_use]
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.home.path().join("daemon.log")).unwrap_or_default()
    }

    /// `kill -9`, then a new daemon on the same directories.
    ///
    /// # Panics
    /// When it does not come up again.
    pub async fn crash_and_restart(&mut self) {
        self.signal(Signal::SIGKILL);
        self.wait_exit().await;
        self.restart().await;
    }

    /// A new daemon on the same directories, once the one before has left.
    ///
    /// # Panics
    /// When it does not come up.
    pub async fn restart(&mut self) {
        let kept = (self.disk_mib, self.env.as_slice());
        let (child, authority) = spawn(&built(DAEMON), self.home.path(), kept).await;
        self.child = child;
        self.authority = authority;
    }

    /// Sends a signal to the daemon.
    ///
    /// # Panics
    /// When the signal cannot be sent.
    pub fn signal(&self, signal: Signal) {
        kill(pid(self.pid()), signal).unwrap_or_else(|error| panic!("{error}"));
    }

    /// Waits for the daemon to leave; its exit code, `None` when killed.
    ///
    /// # Panics
    /// When it stays.
    pub async fn wait_exit(&mut self) -> Option<i32> {
        let status = tokio::time::timeout(PATIENCE, self.child.wait()).await;
        status
            .unwrap_or_else(|_| panic!("the daemon stays"))
            .unwrap_or_else(|error| panic!("{error}"))
            .code()
    }

    /// A request with the admin key and, if any, a JSON body.
    pub async fn send(&self, method: &str, path: &str, body: Option<Value>) -> Reply {
        self.send_with(&format!("{method} {path}"), &[], body).await
    }

    /// As [`Bridge::send`], with more headers; `line` is such as `POST /v1/calls`.
    ///
    /// # Panics
    /// When the request cannot be built or answered.
    pub async fn send_with(
        &self,
        line: &str,
        headers: &[(&str, &str)],
        body: Option<Value>,
    ) -> Reply {
        let bearer = format!("Bearer {}", self.admin_key);
        let mut headers = headers.to_vec();
        let own = |(name, _): &(&str, &str)| name.eq_ignore_ascii_case("authorization");
        if !headers.iter().any(own) {
            headers.push(("authorization", &bearer));
        }
        self.send_bare(line, &headers, body).await
    }

    /// As [`Bridge::send_with`], with no credential but what is among the headers.
    ///
    /// # Panics
    /// When the request cannot be built or answered.
    pub async fn send_bare(
        &self,
        line: &str,
        headers: &[(&str, &str)],
        body: Option<Value>,
    ) -> Reply {
        let (method, path) = line.split_once(' ').unwrap_or(("GET", line));
        let mut builder = Request::builder()
            .method(method)
            .uri(path)
            .header("host", &self.authority);
        for (name, value) in headers {
            builder = builder.header(*name, *value);
        }
        let bytes = match &body {
            Some(json) => {
                builder = builder.header("content-type", "application/json");
                Bytes::from(json.to_string())
            }
            None => Bytes::new(),
        };
        let built = builder
            .body(Full::new(bytes))
            .unwrap_or_else(|error| panic!("{error}"));
        request(&self.authority, built).await
    }

    /// `GET`, expecting 200 and JSON.
    ///
    /// # Panics
    /// On any other answer.
    pub async fn get(&self, path: &str) -> Value {
        let reply = self.send("GET", path, None).await;
        assert_eq!(reply.status, 200, "GET {path}: {}", reply.text());
        reply.json()
    }

    /// `POST`, expecting 200 and JSON.
    ///
    /// # Panics
    /// On any other answer.
    pub async fn post(&self, path: &str, body: Value) -> Value {
        let reply = self.send("POST", path, Some(body)).await;
        assert_eq!(reply.status, 200, "POST {path}: {}", reply.text());
        reply.json()
    }

    /// Waits until the catalogue shows a ref.
    pub async fn wait_for_ref(&self, wanted: &str) {
        let server = wanted.split('.').next().unwrap_or_default();
        let path = format!("/v1/catalog?server={server}&limit=500");
        eventually(wanted, || async {
            let page = self.get(&path).await;
            let items = page["items"].as_array()?;
            items.iter().any(|item| item["ref"] == wanted).then_some(())
        })
        .await;
    }

    /// A command of the CLI against this daemon, ready to run.
    ///
    /// # Panics
    /// When the CLI was not built.
    #[must_use]
    pub fn cli_command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(built("paperbot-mcp"));
        command
            .args(arguments)
            .env_clear()
            .envs(directories(self.home.path()));
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.env("PAPERBOT_URL", format!("http://{}", self.authority));
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        command
    }

    /// Runs the CLI to its end.
    pub async fn cli(&self, arguments: &[&str]) -> CliOutput {
        self.cli_with_stdin(arguments, None).await
    }

    /// Runs the CLI to its end with bytes on stdin.
    ///
    /// # Panics
    /// When it cannot be run or does not end.
    pub async fn cli_with_stdin(&self, arguments: &[&str], stdin: Option<&str>) -> CliOutput {
        let mut command = self.cli_command(arguments);
        if stdin.is_some() {
            command.stdin(Stdio::piped());
        }
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{error}"));
        if let (Some(text), Some(mut pipe)) = (stdin, child.stdin.take()) {
            pipe.write_all(text.as_bytes())
                .await
                .unwrap_or_else(|error| panic!("{error}"));
        }
        finish(child).await
    }
}

/// Waits for a spawned CLI and reads what it wrote.
///
/// # Panics
/// When it does not end.
pub async fn finish(child: Child) -> CliOutput {
    let output = tokio::time::timeout(PATIENCE, child.wait_with_output()).await;
    let output = output
        .unwrap_or_else(|_| panic!("the CLI does not end"))
        .unwrap_or_else(|error| panic!("{error}"));
    CliOutput {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

fn pid(raw: u32) -> Pid {
    Pid::from_raw(i32::try_from(raw).unwrap_or_else(|error| panic!("{error}")))
}

fn directories(home: &Path) -> [(&'static str, PathBuf); 5] {
    [
        ("HOME", home.to_path_buf()),
        ("XDG_DATA_HOME", home.join("data")),
        ("XDG_STATE_HOME", home.join("state")),
        ("XDG_CONFIG_HOME", home.join("config")),
        ("XDG_CACHE_HOME", home.join("cache")),
    ]
}

fn write_config(home: &Path, options: &BridgeOptions) {
    let mut yaml = format!("listen: 127.0.0.1:0\n{}", options.extra);
    if !options.extra.contains("limits:") {
        yaml.push_str(UNHURRIED);
    }
    if options.disk_mib.is_some() {
        let disk = home.join(DISK);
        std::fs::create_dir(&disk).unwrap_or_else(|error| panic!("{error}"));
        let _ = writeln!(yaml, "\nstore: sqlite://{}/bridge.db", disk.display());
    }
    if !options.upstreams.is_empty() {
        yaml.push_str("\nservers:\n");
        for upstream in &options.upstreams {
            let _ = write!(yaml, "  {}:\n{}", upstream.name, upstream.yaml);
        }
    }
    std::fs::write(home.join("bridge.yaml"), yaml).unwrap_or_else(|error| panic!("{error}"));
}

fn read_key(home: &Path) -> String {
    let path = home.join("state/paperbot/admin.key");
    let key = std::fs::read_to_string(&path)
        .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    key.trim().to_owned()
}

/// A program that is run with a disk of its own: it becomes the program, and the disk goes with it.
fn with_disk(program: &Path, disk: &Path, size_mib: u32) -> Command {
    let mut command = Command::new("unshare");
    if !nix::unistd::geteuid().is_root() {
        command.args(["--user", "--map-root-user"]);
    }
    let script = "mount -t tmpfs -o size=$1m tmpfs \"$2\" && shift 2 && exec \"$@\"";
    command.args(["--mount", "sh", "-c", script, "sh"]);
    command.arg(size_mib.to_string()).arg(disk).arg(program);
    command
}

async fn spawn(
    program: &Path,
    home: &Path,
    (disk_mib, env): (Option<u32>, &[(&'static str, String)]),
) -> (Child, String) {
    let mut command = match disk_mib {
        Some(size) => with_disk(program, &home.join(DISK), size),
        None => Command::new(program),
    };
    command
        .args(["serve", "--config"])
        .arg(home.join("bridge.yaml"));
    command
        .env_clear()
        .envs(directories(home))
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .envs(env.iter().map(|(name, value)| (*name, value.as_str())));
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    let mut child = command.spawn().unwrap_or_else(|error| panic!("{error}"));
    let stderr = child
        .stderr
        .take()
        .unwrap_or_else(|| panic!("stderr is piped"));
    let mut lines = BufReader::new(stderr).lines();
    let mut log = Vec::new();
    let authority = loop {
        let line = tokio::time::timeout(PATIENCE, lines.next_line()).await;
        let line = line
            .unwrap_or_else(|_| panic!("the daemon says nothing: {log:?}"))
            .unwrap_or_default();
        let Some(line) = line else {
            panic!("the daemon left: {}", log.join("\n"))
        };
        let found = line
            .split_once("listening on http://")
            .map(|(_, rest)| rest.trim().to_owned());
        log.push(line);
        if let Some(authority) = found {
            break authority;
        }
    };
    let path = home.join("daemon.log");
    tokio::spawn(async move {
        let mut file = tokio::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(path)
            .await?;
        for line in log {
            file.write_all(format!("{line}\n").as_bytes()).await?;
        }
        while let Some(line) = lines.next_line().await? {
            file.write_all(format!("{line}\n").as_bytes()).await?;
            file.flush().await?;
        }
        Ok::<(), std::io::Error>(())
    });
    (child, authority)
}
