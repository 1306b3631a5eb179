//! A server that is a child process.

use std::process::{Command, ExitStatus, Stdio};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;
use secrecy::ExposeSecret as _;
use tokio::io::AsyncReadExt as _;
use tokio::process::{Child, ChildStderr};
use tokio::sync::{mpsc, watch};

use crate::connection::{Inbound, ProcessFacts, Supervision};
use crate::error::{CloseReason, ConnectError, RequestError};
use crate::pipe::Pipe;
use crate::spec::{StdioSpec, WireLimits};
use crate::stderr_ring::StderrRing;
use crate::supervise;

/// Variables of the bridge a server gets without asking; the rest stays with the bridge, for it may hold secrets.
const INHERITED: &[&str] = &[
    "HOME", "LANG", "LANGUAGE", "LOGNAME", "PATH", "SHELL", "TERM", "TMPDIR", "TZ", "USER",
];
/// Prefixes of such variables.
const INHERITED_PREFIXES: &[&str] = &["LC_", "XDG_"];
/// How long after SIGTERM the supervisor itself may take before it is killed; its own grace is one second.
const SUPERVISOR_GRACE: Duration = Duration::from_secs(3);
/// How long the last words on stderr are waited for once the process left.
const STDERR_GRACE: Duration = Duration::from_millis(200);
/// How long after the stream's end its process's exit status is waited for, to tell why.
const STATUS_GRACE: Duration = Duration::from_millis(500);

/// A running child and its pipe.
#[derive(Debug)]
pub(crate) struct StdioCarrier {
    pub(crate) pipe: Pipe,
    pid: u32,
    supervised: bool,
    stderr: Arc<StderrRing>,
    exit: watch::Receiver<Option<ExitStatus>>,
    reason: OnceLock<CloseReason>,
}

impl StdioCarrier {
    /// Starts the process.
    pub(crate) async fn start(
        spec: &StdioSpec,
        limits: WireLimits,
        inbound: mpsc::Sender<Inbound>,
    ) -> Result<Self, ConnectError> {
        let spawn = |detail: String| ConnectError::Spawn {
            detail,
            stderr: Vec::new(),
        };
        let program = spec
            .argv
            .first()
            .ok_or_else(|| spawn("the command is empty".to_owned()))?;
        find_program(program, spec).map_err(spawn)?;
        let supervised = supervise::command(&spec.argv);
        let is_supervised = supervised.is_some();
        let command = supervised.unwrap_or_else(|| {
            let mut command = Command::new(program);
            command.args(&spec.argv[1..]);
            command
        });
        let failed = |error: std::io::Error| ConnectError::Spawn {
            detail: format!("{program} could not be started: {}", error.kind()),
            stderr: Vec::new(),
        };
        let mut child = supervise::spawn_from_lasting_thread(prepare(command, spec))
            .await
            .map_err(failed)?;
        let (Some(pid), Some(stdin), Some(stdout), Some(errors)) = (
            child.id(),
            child.stdin.take(),
            child.stdout.take(),
            child.stderr.take(),
        ) else {
            return Err(spawn("the pipes of the process are missing".to_owned()));
        };
        let stderr = Arc::new(StderrRing::default());
        let drained = tokio::spawn(drain(errors, Arc::clone(&stderr)));
        let (exited, exit) = watch::channel(None);
        tokio::spawn(await_exit(child, drained, exited));
        let pipe = Pipe::start(stdout, stdin, limits, inbound);
        Ok(Self {
            pipe,
            pid,
            supervised: is_supervised,
            stderr,
            exit,
            reason: OnceLock::new(),
        })
    }

    /// Why the process or its stream ended; waits until it did.
    pub(crate) async fn closed(&self) -> CloseReason {
        let ended = self.pipe.ended().await;
        if let Some(reason) = self.reason.get() {
            return reason.clone();
        }
        let mut exit = self.exit.clone();
        let status = tokio::time::timeout(STATUS_GRACE, exit.wait_for(Option::is_some)).await;
        let exited = status.ok().and_then(Result::ok).and_then(|status| *status);
        let reason = match (ended, exited) {
            (CloseReason::Asked, _) => CloseReason::Asked,
            (_, Some(status)) => {
                CloseReason::Exited(format!("the process {}", supervise::describe(status)))
            }
            (lost, None) => lost,
        };
        self.reason.get_or_init(|| reason).clone()
    }

    /// Waits for the end and fails everything in flight with its reason.
    pub(crate) async fn watch(&self) {
        let reason = self.closed().await;
        let stderr = self.stderr.tail();
        self.pipe.pending.end(|| match &reason {
            CloseReason::Asked => RequestError::Closed {
                executed: crate::error::Executed::Unknown,
            },
            CloseReason::Exited(detail) => RequestError::Exited {
                detail: detail.clone(),
                stderr: stderr.clone(),
            },
            CloseReason::Lost(detail) => RequestError::Protocol {
                detail: detail.clone(),
            },
        });
    }

    /// Whether the process has left.
    pub(crate) fn has_exited(&self) -> bool {
        self.exit.borrow().is_some() || self.pipe.is_ended()
    }

    /// Ends the process tree: end of input, then SIGTERM, then SIGKILL. Nothing is left when this returns.
    pub(crate) async fn close(&self, grace: Duration) {
        let _ = self.reason.set(CloseReason::Asked);
        self.pipe.stop();
        let mut exit = self.exit.clone();
        if tokio::time::timeout(grace, exit.wait_for(Option::is_some))
            .await
            .is_err()
        {
            self.signal(Signal::SIGTERM);
            if tokio::time::timeout(SUPERVISOR_GRACE, exit.wait_for(Option::is_some))
                .await
                .is_err()
            {
                self.signal(Signal::SIGKILL);
                let _ = exit.wait_for(Option::is_some).await;
            }
        } else if !self.supervised {
            // The server left by itself; what it started may have stayed in its group.
            self.signal(Signal::SIGKILL);
        }
        self.pipe.stopped().await;
    }

    fn signal(&self, signal: Signal) {
        let Ok(pid) = i32::try_from(self.pid) else {
            return;
        };
        if self.supervised && signal != Signal::SIGKILL {
            let _ = kill(Pid::from_raw(pid), signal);
            return;
        }
        if self.supervised {
            for child in supervise::children_of(self.pid) {
                let _ = killpg(Pid::from_raw(child), signal);
            }
            let _ = kill(Pid::from_raw(pid), signal);
        } else {
            let _ = killpg(Pid::from_raw(pid), signal);
        }
    }

    pub(crate) fn facts(&self) -> ProcessFacts {
        let server = if self.supervised {
            supervise::children_of(self.pid)
                .first()
                .and_then(|pid| u32::try_from(*pid).ok())
                .unwrap_or(self.pid)
        } else {
            self.pid
        };
        let supervision = if self.supervised {
            Supervision::Subreaper
        } else {
            Supervision::ProcessGroup
        };
        ProcessFacts {
            pid: server,
            pgid: server,
            supervision,
            rss_bytes: tree_rss(self.pid),
        }
    }

    pub(crate) fn stderr_tail(&self) -> Vec<String> {
        self.stderr.tail()
    }
}

impl Drop for StdioCarrier {
    fn drop(&mut self) {
        // The last handle went without `close`: the supervisor ends the tree by itself.
        if self.exit.borrow().is_none() {
            self.signal(Signal::SIGTERM);
        }
    }
}

fn prepare(mut command: Command, spec: &StdioSpec) -> Command {
    use std::os::unix::process::CommandExt as _;
    command.env_clear();
    for (name, value) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if INHERITED.contains(&&*text)
            || INHERITED_PREFIXES
                .iter()
                .any(|prefix| text.starts_with(prefix))
        {
            command.env(&name, value);
        }
    }
    for (name, value) in &spec.env {
        command.env(name, value.expose_secret());
    }
    if let Some(folder) = &spec.cwd {
        command.current_dir(folder);
    }
    // A group of its own, so that a Ctrl-C at the bridge's terminal is not the server's.
    command.process_group(0);
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// Finds the program as `execvp` would, so that a missing one is told before anything is started.
fn find_program(program: &str, spec: &StdioSpec) -> Result<(), String> {
    use std::os::unix::fs::PermissionsExt as _;
    let runnable = |path: &std::path::Path| {
        path.metadata()
            .is_ok_and(|data| data.is_file() && data.permissions().mode() & 0o111 != 0)
    };
    if let Some(folder) = spec.cwd.as_ref().filter(|folder| !folder.is_dir()) {
        let name = folder.file_name().unwrap_or_default().to_string_lossy();
        return Err(format!("the working directory `{name}` does not exist"));
    }
    let found = if program.contains('/') {
        let path = std::path::Path::new(program);
        runnable(
            &spec
                .cwd
                .as_ref()
                .map_or_else(|| path.to_owned(), |folder| folder.join(path)),
        )
    } else {
        let inherited = std::env::var_os("PATH").unwrap_or_default();
        let own = spec.env.get("PATH").map(|path| path.expose_secret().into());
        std::env::split_paths(&own.unwrap_or(inherited))
            .any(|folder| runnable(&folder.join(program)))
    };
    let name = program.rsplit('/').next().unwrap_or_default();
    if found {
        Ok(())
    } else {
        Err(format!(
            "the command `{name}` does not exist or is not executable"
        ))
    }
}

async fn drain(mut errors: ChildStderr, ring: Arc<StderrRing>) {
    let mut chunk = vec![0; 4096];
    while let Ok(count @ 1..) = errors.read(&mut chunk).await {
        ring.push(&chunk[..count]);
    }
}

/// Waits for the child, then for its last words.
async fn await_exit(
    mut child: Child,
    mut drained: tokio::task::JoinHandle<()>,
    exited: watch::Sender<Option<ExitStatus>>,
) {
    let status = child.wait().await.unwrap_or_default();
    if tokio::time::timeout(STDERR_GRACE, &mut drained)
        .await
        .is_err()
    {
        drained.abort();
    }
    exited.send_replace(Some(status));
}

/// Resident memory of a process and everything below it.
fn tree_rss(root: u32) -> Option<u64> {
    /// Processes looked at; a tree larger than this is told as what was seen.
    const MAX_PROCESSES: usize = 256;
    let mut total_bytes = None;
    let mut queue = vec![i32::try_from(root).ok()?];
    let mut seen = 0;
    while let Some(pid) = queue.pop() {
        seen += 1;
        if seen > MAX_PROCESSES {
            break;
        }
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let kib = status.lines().find_map(|line| {
            line.strip_prefix("VmRSS:")?
                .trim()
                .strip_suffix(" kB")?
                .parse::<u64>()
                .ok()
        });
        total_bytes = kib
            .map(|kib| total_bytes.unwrap_or(0) + kib * 1024)
            .or(total_bytes);
        queue.extend(supervise::children_of(
            u32::try_from(pid).unwrap_or_default(),
        ));
    }
    total_bytes
}
