//! Real processes: started, spoken to, killed, and nothing of them left.

#![expect(clippy::unwrap_used, reason = "a step that fails is the test failing")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::sync::mpsc;
use transports::{
    CloseReason, ConnectError, ConnectOptions, Connection, Endpoint, EraChoice, Params, Request,
    RequestError, Sandbox, ServerName, ServerSpec, StdioSpec, Supervision, Timeouts, WireLimits,
    connect, supervise,
};

/// A legacy MCP server in a few lines of Python, with switches for misbehaviour.
const SERVER: &str = r#"
import json, os, subprocess, sys, time
for line in sys.stdin:
    m = json.loads(line)
    def say(result):
        print(json.dumps({"jsonrpc": "2.0", "id": m["id"], "result": result}), flush=True)
    method = m.get("method")
    if method == "initialize":
        say({"protocolVersion": "2025-06-18", "capabilities": {}, "serverInfo": {"name": "py", "version": "1"}})
    elif method == "env":
        say(dict(os.environ))
    elif method == "die":
        print("last words", file=sys.stderr, flush=True)
        os._exit(3)
    elif method == "half":
        sys.stdout.write('{"jsonrpc":"2.0","id":%d,"res' % m["id"]); sys.stdout.flush(); os._exit(0)
    elif method == "fork":
        # A grandchild that forks twice, leaves the group and ignores everything but SIGKILL.
        subprocess.Popen([sys.executable, "-c", "import os,signal,sys,time\n"
            "if os.fork(): os._exit(0)\nos.setsid()\n"
            "if os.fork(): os._exit(0)\n"
            "[signal.signal(s, signal.SIG_IGN) for s in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)]\n"
            "open(sys.argv[1],'w').write(str(os.getpid()))\ntime.sleep(600)", m["params"]["file"]])
        while not (os.path.exists(m["params"]["file"]) and open(m["params"]["file"]).read()): time.sleep(0.01)
        say({})
    elif method == "stubborn":
        import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); say({}); time.sleep(600)
    elif method == "noise":
        for n in range(5000): print("noise", n, file=sys.stderr)
        sys.stderr.flush(); say({})
    elif "id" in m:
        print(json.dumps({"jsonrpc": "2.0", "id": m["id"], "error": {"code": -32601, "message": "no"}}), flush=True)
"#;

fn supervisor() {
    supervise::set_supervisor_program(PathBuf::from(env!("CARGO_BIN_EXE_paperbot-supervisor")));
}

fn spec(argv: &[&str]) -> ServerSpec {
    supervisor();
    let argv = argv.iter().map(|word| (*word).to_owned()).collect();
    ServerSpec {
        name: ServerName::new("py").unwrap(),
        endpoint: Endpoint::Stdio(StdioSpec {
            argv,
            env: BTreeMap::new(),
            cwd: None,
            sandbox: Sandbox::default(),
        }),
        era: EraChoice::Auto,
        timeouts: Timeouts {
            close_grace: Duration::from_millis(300),
            ..Timeouts::default()
        },
        limits: WireLimits::default(),
    }
}

async fn open(spec: &ServerSpec) -> Result<std::sync::Arc<Connection>, ConnectError> {
    let (inbound, _messages) = mpsc::channel(16);
    connect(
        spec,
        ConnectOptions {
            known_era: None,
            inbound,
        },
    )
    .await
}

async fn python() -> std::sync::Arc<Connection> {
    open(&spec(&["python3", "-c", SERVER])).await.unwrap()
}

fn request(method: &'static str) -> Request {
    Request::new(method, Duration::from_secs(30))
}

fn alive(pid: i32) -> bool {
    // A zombie still has a /proc entry; its state tells.
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ")
        .is_some_and(|(_, rest)| !rest.starts_with('Z'))
}

/// Waits, bounded, until a process is gone.
async fn gone(pid: i32) -> bool {
    for _ in 0..500 {
        if !alive(pid) {
            return true;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    false
}

#[tokio::test]
async fn a_command_that_does_not_exist_is_told_at_once_by_name() {
    let error = open(&spec(&["no-such-command-anywhere", "--token", "secret"]))
        .await
        .unwrap_err();
    let ConnectError::Spawn { detail, .. } = error else {
        panic!("{error:?}")
    };
    assert!(
        detail.contains("no-such-command-anywhere") && !detail.contains("secret"),
        "{detail}"
    );
}

#[tokio::test]
async fn a_command_that_exits_at_once_is_told_with_its_last_words() {
    let error = open(&spec(&[
        "sh",
        "-c",
        "echo cannot find the config >&2; exit 4",
    ]))
    .await
    .unwrap_err();
    let ConnectError::Spawn { detail, stderr } = error else {
        panic!("{error:?}")
    };
    assert!(detail.contains("exited with status 4"), "{detail}");
    assert_eq!(stderr, ["cannot find the config"]);
}

#[tokio::test]
async fn the_environment_is_an_allowlist_and_what_the_owner_adds() {
    let mut spec = spec(&["python3", "-c", SERVER]);
    let Endpoint::Stdio(stdio) = &mut spec.endpoint else {
        panic!()
    };
    stdio.env.insert("ADDED".into(), "by the owner".into());
    let connection = open(&spec).await.unwrap();
    let env: BTreeMap<String, String> =
        serde_json::from_str(connection.request(request("env")).await.unwrap().get()).unwrap();
    assert_eq!(env.get("ADDED").map(String::as_str), Some("by the owner"));
    assert!(env.contains_key("PATH"));
    // Cargo sets these for the test itself, as a deployment sets secrets for the bridge.
    assert!(!env.keys().any(|name| name.starts_with("CARGO")), "{env:?}");
    connection.close().await;
}

#[tokio::test]
async fn a_process_that_dies_fails_its_call_with_status_and_last_words() {
    let connection = python().await;
    let error = connection.request(request("die")).await.unwrap_err();
    let RequestError::Exited { detail, stderr, .. } = error else {
        panic!("{error:?}")
    };
    assert!(detail.contains("exited with status 3"), "{detail}");
    assert_eq!(stderr, ["last words"]);
    assert!(matches!(connection.closed().await, CloseReason::Exited(_)));
}

#[tokio::test]
async fn half_a_frame_at_the_end_fails_its_call() {
    let connection = python().await;
    let error = connection.request(request("half")).await.unwrap_err();
    assert!(
        matches!(
            error,
            RequestError::Exited { .. } | RequestError::Protocol { .. }
        ),
        "{error:?}"
    );
}

#[tokio::test]
async fn a_killed_server_fails_its_call_and_names_the_signal() {
    let connection = python().await;
    let pid = i32::try_from(connection.process().unwrap().pid).unwrap();
    let calling = tokio::spawn({
        let connection = connection.clone();
        async move {
            connection.request(request("stubborn")).await?;
            connection.request(request("silent")).await
        }
    });
    tokio::time::sleep(Duration::from_millis(50)).await;
    kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap();
    let error = calling.await.unwrap().unwrap_err();
    let RequestError::Exited { detail, .. } = error else {
        panic!("{error:?}")
    };
    assert!(detail.contains("SIGKILL"), "{detail}");
}

#[tokio::test]
async fn closing_kills_a_grandchild_that_left_the_group_and_ignores_sigterm() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pid");
    let connection = python().await;
    let facts = connection.process().unwrap();
    assert_eq!(facts.supervision, Supervision::Subreaper);
    assert!(facts.rss_bytes.unwrap() > 1024 * 1024);
    let params = Params::default().with_text("file", &file.display().to_string());
    connection
        .request(Request {
            params,
            ..request("fork")
        })
        .await
        .unwrap();
    let grandchild: i32 = std::fs::read_to_string(&file).unwrap().parse().unwrap();
    assert!(alive(grandchild));
    connection.close().await;
    assert!(gone(grandchild).await && gone(i32::try_from(facts.pid).unwrap()).await);
}

#[tokio::test]
async fn a_server_that_ignores_the_end_of_input_and_sigterm_is_killed() {
    let connection = python().await;
    let pid = i32::try_from(connection.process().unwrap().pid).unwrap();
    connection.request(request("stubborn")).await.unwrap();
    connection.close().await;
    assert!(!alive(pid), "nothing is left when close returns");
}

#[tokio::test]
async fn a_flood_on_stderr_blocks_nobody_and_keeps_its_bound() {
    let connection = python().await;
    connection.request(request("noise")).await.unwrap();
    let tail = connection.stderr_tail();
    assert!(
        tail.len() <= 201 && tail.last().is_some_and(|line| line.starts_with("noise")),
        "{}",
        tail.len()
    );
    connection.close().await;
}

#[tokio::test]
async fn dropping_the_last_handle_ends_the_process_too() {
    let connection = python().await;
    let pid = i32::try_from(connection.process().unwrap().pid).unwrap();
    drop(connection);
    assert!(gone(pid).await);
}

fn open_files() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

#[tokio::test]
async fn many_open_and_close_cycles_leave_no_process_and_no_file() {
    let script = r#"while read -r line; do case "$line" in *initialize\"*) id=${line#*\"id\":}; id=${id%%,*}
        echo "{\"jsonrpc\":\"2.0\",\"id\":$id,\"result\":{\"protocolVersion\":\"2025-11-25\",\"capabilities\":{}}}";; *server/discover*) id=${line#*\"id\":}; id=${id%%,*}
        echo "{\"jsonrpc\":\"2.0\",\"id\":$id,\"error\":{\"code\":-32601,\"message\":\"no\"}}";; esac; done"#;
    let spec = spec(&["sh", "-c", script]);
    open(&spec).await.unwrap().close().await;
    let before = open_files();
    let mut pids = Vec::new();
    for _ in 0..100 {
        let connection = open(&spec).await.unwrap();
        pids.push(i32::try_from(connection.process().unwrap().pid).unwrap());
        connection.close().await;
    }
    assert!(pids.into_iter().all(|pid| !alive(pid)));
    assert!(
        open_files() <= before + 2,
        "{} files, {before} before",
        open_files()
    );
}

/// The parent of a process.
fn parent_of(pid: i32) -> i32 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let (_, rest) = stat.rsplit_once(") ").unwrap();
    rest.split(' ').nth(1).unwrap().parse().unwrap()
}

#[tokio::test]
async fn a_killed_supervisor_takes_the_server_and_all_below_it_along() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pid");
    let connection = python().await;
    let server = i32::try_from(connection.process().unwrap().pid).unwrap();
    let params = Params::default().with_text("file", &file.display().to_string());
    let fork = Request {
        params,
        ..request("fork")
    };
    connection.request(fork).await.unwrap();
    let grandchild: i32 = std::fs::read_to_string(&file).unwrap().parse().unwrap();
    assert!(alive(server) && alive(grandchild));
    kill(Pid::from_raw(parent_of(server)), Signal::SIGKILL).unwrap();
    let reason = connection.closed().await;
    assert!(
        matches!(&reason, CloseReason::Exited(words) if words.contains("SIGKILL")),
        "{reason:?}"
    );
    connection.close().await;
    assert!(gone(server).await && gone(grandchild).await);
}

#[tokio::test]
async fn the_kernel_kills_a_server_whose_supervisor_is_killed_while_nobody_watches() {
    // Nothing of this crate is in this process but the parent's number.
    let mut supervisor = std::process::Command::new(env!("CARGO_BIN_EXE_paperbot-supervisor"))
        .args([
            "--paperbot-supervise",
            &std::process::id().to_string(),
            "{}",
        ])
        .args(["sh", "-c", "echo up; exec sleep 600"])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut up = [0; 3];
    std::io::Read::read_exact(supervisor.stdout.as_mut().unwrap(), &mut up).unwrap();
    let children = format!("/proc/{0}/task/{0}/children", supervisor.id());
    let server: i32 = std::fs::read_to_string(children)
        .unwrap()
        .trim()
        .parse()
        .unwrap();
    assert!(alive(server));
    supervisor.kill().unwrap();
    supervisor.wait().unwrap();
    assert!(gone(server).await);
}

/// The next test runs this very binary again, and this one in it, as the bridge that gets killed.
#[tokio::test]
async fn a_process_closed_politely_is_gone_when_close_returns() {
    let Some(folder) = std::env::var_os("HELPER_BRIDGE_FOLDER") else {
        let connection = python().await;
        let pid = i32::try_from(connection.process().unwrap().pid).unwrap();
        assert!(alive(pid));
        connection.close().await;
        assert!(!alive(pid));
        return;
    };
    let folder = Path::new(&folder);
    let connection = python().await;
    let params =
        Params::default().with_text("file", &folder.join("grandchild").display().to_string());
    connection
        .request(Request {
            params,
            ..request("fork")
        })
        .await
        .unwrap();
    std::fs::write(
        folder.join("server"),
        connection.process().unwrap().pid.to_string(),
    )
    .unwrap();
    tokio::time::sleep(Duration::from_mins(1)).await;
}

#[tokio::test]
async fn the_whole_tree_dies_when_the_bridge_is_killed() {
    let folder = tempfile::tempdir().unwrap();
    let mut bridge = std::process::Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "a_process_closed_politely_is_gone_when_close_returns",
            "--nocapture",
        ])
        .env("HELPER_BRIDGE_FOLDER", folder.path())
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let started = tokio::time::Instant::now();
    let server = loop {
        if let Ok(pid) = std::fs::read_to_string(folder.path().join("server"))
            .unwrap_or_default()
            .parse::<i32>()
        {
            break pid;
        }
        assert!(
            started.elapsed() < Duration::from_mins(1),
            "the helper never came up"
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    let grandchild: i32 = std::fs::read_to_string(folder.path().join("grandchild"))
        .unwrap()
        .parse()
        .unwrap();
    assert!(alive(server) && alive(grandchild));
    bridge.kill().unwrap();
    bridge.wait().unwrap();
    assert!(gone(server).await && gone(grandchild).await);
}
