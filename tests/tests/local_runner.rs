//! `runner: agent`: children and calls that outlive the daemon, through the real daemon and its real local agent.

#![expect(clippy::unwrap_used, reason = "a step that fails is the test failing")]

use std::path::{Path, PathBuf};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;
use testkit::tunnel::{cpu_ticks, processes_below, wait_until_gone};
use testkit::upstreams::{self, Upstream};
use testkit::{Bridge, BridgeOptions, eventually};

/// The fixture server on the local agent, with a secret in its environment.
fn fixture(effects: &Path) -> Upstream {
    let mut upstream = upstreams::fixture("legacy");
    let options = format!(
        "\"stdio\", \"--era\", \"legacy\", \"--effects\", {:?}]",
        effects.display().to_string()
    );
    let secret = effects.with_file_name("secret");
    std::fs::write(&secret, "never-on-an-argv").unwrap();
    upstream.yaml = upstream.yaml.replace("\"stdio\"]", &options);
    let more = format!(
        "    runner: agent\n    isolation: shared\n    env: {{API_KEY: {{secret: \"file:{}\"}}}}\n",
        secret.display()
    );
    upstream.yaml.push_str(&more);
    upstream
}

async fn start(orphan_s: u64) -> (Bridge, tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    start_of(None, orphan_s, folder).await
}

/// As [`start`], by another program than the one that was built.
async fn start_of(
    program: Option<PathBuf>,
    orphan_s: u64,
    folder: tempfile::TempDir,
) -> (Bridge, tempfile::TempDir, PathBuf) {
    let effects = folder.path().join("effects");
    let bridge = Bridge::start_with(BridgeOptions {
        upstreams: vec![fixture(&effects)],
        extra: format!("local_agent: {{orphan_s: {orphan_s}}}\n"),
        program,
        ..BridgeOptions::default()
    })
    .await;
    bridge.wait_for_ref("fixture.echo").await;
    (bridge, folder, effects)
}

fn lines(effects: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(effects).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

/// The local agents of a daemon's directories that run: pid and command line.
fn agents(bridge: &Bridge) -> Vec<(Pid, String)> {
    let socket = bridge.home().join("state/paperbot/local-agent/socket");
    let socket = socket.display().to_string();
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    pids.filter_map(|pid| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        line.contains(&socket).then(|| (Pid::from_raw(pid), line))
    })
    .collect()
}

fn agent(bridge: &Bridge) -> Pid {
    let agents = agents(bridge);
    assert_eq!(agents.len(), 1, "{agents:?}");
    agents[0].0
}

/// Begins a call that takes a while and then writes this line; its path, once it runs.
async fn begin(bridge: &Bridge, line: &str, steps: u32) -> String {
    let arguments = json!({"line": line, "steps": steps});
    let body = json!({"ref": "fixture.slow_bump", "arguments": arguments});
    let accepted = bridge
        .send_with("POST /v1/calls", &[("prefer", "respond-async")], Some(body))
        .await;
    assert_eq!(accepted.status, 202, "{}", accepted.text());
    let path = accepted.headers["location"].to_str().unwrap().to_owned();
    eventually("the call runs", || async {
        (bridge.get(&path).await["state"] == "running").then_some(())
    })
    .await;
    path
}

fn program_of(pid: Pid) -> Option<PathBuf> {
    std::fs::read_link(format!("/proc/{pid}/exe")).ok()
}

/// Ends the local agent, so that nothing outlives the test.
async fn end(bridge: &Bridge) {
    for (pid, _) in agents(bridge) {
        let mut all = processes_below(pid);
        all.push(pid.as_raw());
        kill(pid, Signal::SIGTERM).unwrap();
        wait_until_gone(&all).await;
    }
}

#[tokio::test]
async fn a_call_survives_kill_9_of_the_bridge_and_is_read_by_attaching_again() {
    let (mut bridge, _folder, effects) = start(60).await;
    let before = agent(&bridge);
    let children = processes_below(before);
    assert!(!children.is_empty());
    let path = begin(&bridge, "once", 60).await;
    bridge.crash_and_restart().await;
    assert!(lines(&effects).is_empty(), "the call was still running");
    let call = eventually("the call ended", || async {
        let call = bridge.get(&format!("{path}?wait_ms=5000")).await;
        (call["state"] != "running").then_some(call)
    })
    .await;
    assert_eq!(call["state"], "succeeded", "{call}\n{}", bridge.log());
    assert!(call.to_string().contains("bumped"), "{call}");
    assert_eq!(lines(&effects), ["once"]);
    assert_eq!(
        (agent(&bridge), processes_below(before)),
        (before, children),
        "nothing was restarted"
    );
    let busy = cpu_ticks(before);
    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    assert!(
        cpu_ticks(before) - busy < 20,
        "an agent with nothing to do does nothing"
    );
    // And it goes on being used.
    let body = json!({"ref": "fixture.echo", "arguments": {"message": "still here"}});
    let echoed = bridge.post("/v1/calls", body).await;
    assert!(echoed.to_string().contains("still here"), "{echoed}");
    end(&bridge).await;
}

#[tokio::test]
async fn without_a_bridge_the_agent_ends_itself_and_its_children() {
    let (mut bridge, _folder, _effects) = start(1).await;
    let pid = agent(&bridge);
    let mut all = processes_below(pid);
    assert!(!all.is_empty());
    all.push(pid.as_raw());
    bridge.signal(Signal::SIGKILL);
    bridge.wait_exit().await;
    wait_until_gone(&all).await;
    assert!(agents(&bridge).is_empty());
}

#[tokio::test]
async fn a_killed_agent_is_started_again_and_its_call_is_not_run_twice() {
    let (bridge, _folder, effects) = start(60).await;
    let before = agent(&bridge);
    let children = processes_below(before);
    let path = begin(&bridge, "once", 600).await;
    kill(before, Signal::SIGKILL).unwrap();
    wait_until_gone(&children).await;
    let call = eventually("the call ended", || async {
        let call = bridge.get(&format!("{path}?wait_ms=5000")).await;
        (call["state"] != "running").then_some(call)
    })
    .await;
    assert_eq!(call["state"], "outcome_unknown", "{call}");
    let body = json!({"ref": "fixture.bump", "arguments": {"line": "other"}});
    eventually("the server is back", || async {
        let reply = bridge.send("POST", "/v1/calls", Some(body.clone())).await;
        (reply.status == 200).then_some(())
    })
    .await;
    assert_eq!(lines(&effects), ["other"]);
    assert_ne!(agent(&bridge), before);
    end(&bridge).await;
}

#[tokio::test]
async fn a_secret_crosses_to_the_agent_by_the_socket_alone() {
    use std::os::unix::fs::PermissionsExt as _;
    let (bridge, _folder, _effects) = start(60).await;
    let (pid, line) = agents(&bridge).remove(0);
    assert!(!line.contains("never-on-an-argv"), "{line}");
    let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap();
    assert!(!String::from_utf8_lossy(&environment).contains("never-on-an-argv"));
    let folder = bridge.home().join("state/paperbot/local-agent");
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(
        (mode(&folder), mode(&folder.join("socket"))),
        (0o700, 0o600)
    );
    for file in ["log", "spool/spool.log"] {
        let text = std::fs::read_to_string(folder.join(file)).unwrap_or_default();
        assert!(!text.contains("never-on-an-argv"), "{file}");
    }
    // Its own session: what is sent to the daemon's group or terminal is not for it.
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<_> = stat
        .rsplit(')')
        .next()
        .unwrap()
        .split_whitespace()
        .collect();
    assert_eq!(
        (fields[2], fields[3]),
        (pid.to_string().as_str(), pid.to_string().as_str())
    );
    end(&bridge).await;
}

#[tokio::test]
async fn an_agent_of_another_program_makes_room_for_one_of_this() {
    let (bridge, folder, effects) = start(60).await;
    let (before, line) = agents(&bridge).remove(0);
    // While the daemon cannot look, its agent becomes one of another program.
    bridge.signal(Signal::SIGSTOP);
    let mut gone = processes_below(before);
    gone.push(before.as_raw());
    kill(before, Signal::SIGKILL).unwrap();
    wait_until_gone(&gone).await;
    let other = folder.path().join("paperbot-mcpd");
    std::fs::copy(upstreams::built("paperbot-mcpd"), &other).unwrap();
    let mut old = tokio::process::Command::new(&other)
        .args(line.split_whitespace().skip(1))
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let socket = bridge.home().join("state/paperbot/local-agent/socket");
    eventually("the other program listens", || async {
        tokio::net::UnixStream::connect(&socket)
            .await
            .ok()
            .map(drop)
    })
    .await;
    bridge.signal(Signal::SIGCONT);
    let ended = tokio::time::timeout(testkit::PATIENCE, old.wait()).await;
    assert!(ended.unwrap().unwrap().success(), "it finished and left");
    let body = json!({"ref": "fixture.bump", "arguments": {"line": "new"}});
    eventually("the new one runs the server", || async {
        let reply = bridge.send("POST", "/v1/calls", Some(body.clone())).await;
        (reply.status == 200).then_some(())
    })
    .await;
    assert_eq!(lines(&effects), ["new"]);
    let program = std::fs::read_link(format!("/proc/{}/exe", agent(&bridge))).unwrap();
    assert_ne!(program, other);
    end(&bridge).await;
}

#[tokio::test]
async fn an_upgrade_leaves_a_running_call_to_the_old_agent_and_the_next_to_the_new() {
    let folder = tempfile::tempdir().unwrap();
    let old = folder.path().join("paperbot-mcpd");
    let new = upstreams::built("paperbot-mcpd").canonicalize().unwrap();
    std::fs::copy(&new, &old).unwrap();
    let (mut bridge, _folder, effects) = start_of(Some(old.clone()), 60, folder).await;
    let before = agent(&bridge);
    let children = processes_below(before);
    assert_eq!(program_of(before), Some(old.canonicalize().unwrap()));
    assert!(!children.is_empty());
    let path = begin(&bridge, "once", 100).await;
    bridge.crash_and_restart().await;
    let own = Pid::from_raw(i32::try_from(bridge.pid()).unwrap());
    assert_eq!(program_of(own).as_ref(), Some(&new));
    assert!(lines(&effects).is_empty(), "the call was still running");
    let call = eventually("the call ended", || async {
        // What is there before a call is seen to run was there while it ran.
        let seen = (agents(&bridge), processes_below(before));
        let call = bridge.get(&format!("{path}?wait_ms=50")).await;
        if call["state"] != "running" {
            return Some(call);
        }
        let (agents, below) = seen;
        assert_eq!((agents.len(), agents[0].0), (1, before), "{agents:?}");
        assert_eq!(below, children, "nothing was restarted");
        None
    })
    .await;
    assert_eq!(call["state"], "succeeded", "{call}\n{}", bridge.log());
    assert!(call.to_string().contains("bumped"), "{call}");
    let told = bridge.send("GET", &format!("{path}/events"), None).await;
    let ends = told.text().matches("\"type\":\"tool_result\"").count();
    assert_eq!(ends, 1, "{}", told.text());

    eventually("an agent of the new program", || async {
        let agents = agents(&bridge);
        let [(pid, _)] = agents.as_slice() else {
            return None;
        };
        (*pid != before && program_of(*pid).as_ref() == Some(&new)).then_some(())
    })
    .await;
    wait_until_gone(&children).await;
    let body = json!({"ref": "fixture.bump", "arguments": {"line": "new"}});
    eventually("the new one runs the server", || async {
        let reply = bridge.send("POST", "/v1/calls", Some(body.clone())).await;
        (reply.status == 200).then_some(())
    })
    .await;
    assert_eq!(lines(&effects), ["once", "new"]);
    end(&bridge).await;
}

/// Another user's process that connects to the socket, says so, and tells what it read when it was let go.
async fn foreigner(socket: &Path) -> tokio::io::BufReader<tokio::process::ChildStdout> {
    use tokio::io::AsyncBufReadExt as _;
    const NOBODY: u32 = 65534;
    const SCRIPT: &str = "import socket, sys\n\
        s = socket.socket(socket.AF_UNIX)\n\
        s.connect(sys.argv[1])\n\
        print('connected', flush=True)\n\
        print('read', s.makefile('rb').read())\n";
    let mut child = tokio::process::Command::new("python3")
        .args(["-I", "-c", SCRIPT])
        .arg(socket)
        .current_dir("/")
        .uid(NOBODY)
        .gid(NOBODY)
        .stdin(std::process::Stdio::null())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = tokio::io::BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    let connected = tokio::time::timeout(testkit::PATIENCE, said.read_line(&mut line)).await;
    connected.expect("it connects").unwrap();
    assert_eq!(line, "connected\n");
    said
}

async fn was_turned_away(mut said: tokio::io::BufReader<tokio::process::ChildStdout>) {
    use tokio::io::AsyncReadExt as _;
    let mut rest = String::new();
    let ended = tokio::time::timeout(testkit::PATIENCE, said.read_to_string(&mut rest)).await;
    ended.expect("it is let go").unwrap();
    assert_eq!(rest, "read b''\n");
}

#[tokio::test]
async fn another_users_process_is_turned_away_from_the_agents_socket() {
    use std::os::unix::fs::PermissionsExt as _;
    if !nix::unistd::geteuid().is_root() {
        eprintln!("not run: only root can be another user as well");
        return;
    }
    let (mut bridge, _folder, _effects) = start(60).await;
    let before = agent(&bridge);
    let folder = bridge.home().join("state/paperbot/local-agent");
    let socket = folder.join("socket");
    let open = |path: &Path, mode| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    // Permissions keep others out already; here they do not.
    for path in folder.ancestors() {
        open(path, 0o711);
        if path == bridge.home() {
            break;
        }
    }
    open(&socket, 0o666);
    let echo = async |bridge: &Bridge| {
        let body = json!({"ref": "fixture.echo", "arguments": {"message": "still here"}});
        eventually("the agent's server answers", || async {
            let reply = bridge.send("POST", "/v1/calls", Some(body.clone())).await;
            (reply.status == 200).then_some(())
        })
        .await;
    };
    // One waits while the daemon has the agent's ear, and is before the next daemon in the queue.
    let waiting = foreigner(&socket).await;
    echo(&bridge).await;
    let path = begin(&bridge, "once", 60).await;
    bridge.signal(Signal::SIGKILL);
    bridge.wait_exit().await;
    was_turned_away(waiting).await;
    // Another comes while no daemon is there.
    was_turned_away(foreigner(&socket).await).await;
    bridge.restart().await;
    let call = eventually("the call ended", || async {
        let call = bridge.get(&format!("{path}?wait_ms=5000")).await;
        (call["state"] != "running").then_some(call)
    })
    .await;
    assert_eq!(call["state"], "succeeded", "{call}\n{}", bridge.log());
    echo(&bridge).await;
    assert_eq!(agent(&bridge), before);
    let log = std::fs::read_to_string(folder.join("log")).unwrap();
    assert_eq!(log.matches("another user").count(), 2, "{log}");
    end(&bridge).await;
}
