//! A server that is a child process.

mod launch;

use std::process::{Command, ExitStatus};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;
use tokio::io::AsyncReadExt as _;
use tokio::process::{Child, ChildStderr};
use tokio::sync::{mpsc, watch};

use crate::connection::{Inbound, ProcessFacts, Supervision};
use crate::error::{CloseReason, ConnectError, RequestError};
use crate::pipe::Pipe;
use crate::sandbox::{Level, ReportReader, SandboxFacts};
use crate::spec::{StdioSpec, WireLimits};
use crate::stderr_ring::StderrRing;
use crate::supervise;
use crate::tree::{self, MARK_VARIABLE, Mark};
pub use launch::is_inherited;
use launch::{find_program, prepare};

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
    /// The server below the supervisor, once it was seen.
    server: Arc<OnceLock<i32>>,
    supervised: bool,
    stderr: Arc<StderrRing>,
    sandbox: Arc<OnceLock<SandboxFacts>>,
    asked: Level,
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
        let mark = Mark::new();
        let (mut child, is_supervised) = launched(spec, &mark).await?;
        let (Some(pid), Some(stdin), Some(stdout), Some(errors)) = (
            child.id(),
            child.stdin.take(),
            child.stdout.take(),
            child.stderr.take(),
        ) else {
            return Err(not_spawned(
                "the pipes of the process are missing".to_owned(),
            ));
        };
        let stderr = Arc::new(StderrRing::default());
        let sandbox = Arc::new(OnceLock::new());
        let kept = (Arc::clone(&stderr), Arc::clone(&sandbox));
        let drained = tokio::spawn(drain(errors, kept));
        let (exited, exit) = watch::channel(None);
        let server = Arc::new(OnceLock::new());
        let sweep = {
            let server = Arc::clone(&server);
            async move { mark.sweep(server.get().copied()).await }
        };
        tokio::spawn(await_exit(
            child,
            drained,
            is_supervised.then_some(sweep),
            exited,
        ));
        let pipe = Pipe::start(stdout, stdin, limits, inbound);
        Ok(Self {
            pipe,
            pid,
            server,
            supervised: is_supervised,
            stderr,
            sandbox,
            asked: spec.sandbox.level,
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
        let status = self.exit.borrow().and_then(supervise::shell_status);
        self.pipe.pending.end(|| match &reason {
            CloseReason::Asked => RequestError::Closed {
                executed: crate::error::Executed::Unknown,
            },
            CloseReason::Exited(detail) => RequestError::Exited {
                detail: detail.clone(),
                status,
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
            for child in tree::children_of(self.pid) {
                let _ = killpg(Pid::from_raw(child), signal);
            }
            let _ = kill(Pid::from_raw(pid), signal);
        } else {
            let _ = killpg(Pid::from_raw(pid), signal);
        }
    }

    /// Remembers the server's own process. It has spoken by now, so it is there to be seen.
    pub(crate) fn note_server(&self) {
        let _ = self.server();
    }

    /// The server's own process, once it is there: below a supervisor, the first child.
    fn server(&self) -> Option<u32> {
        if !self.supervised {
            return Some(self.pid);
        }
        let found = || tree::children_of(self.pid).first().copied();
        let server = self.server.get().copied().or_else(|| {
            let found = found()?;
            Some(*self.server.get_or_init(|| found))
        });
        server.and_then(|pid| u32::try_from(pid).ok())
    }

    pub(crate) fn facts(&self) -> ProcessFacts {
        let server = self.server().unwrap_or(self.pid);
        let supervision = if self.supervised {
            Supervision::Subreaper
        } else {
            Supervision::ProcessGroup
        };
        ProcessFacts {
            pid: server,
            pgid: server,
            supervision,
            sandbox: self.sandbox_facts(),
            rss_bytes: tree::resident_bytes(self.pid),
        }
    }

    /// What the process said of its sandbox before it became the server.
    fn sandbox_facts(&self) -> SandboxFacts {
        let told = || self.sandbox.get().cloned();
        let why = if self.supervised {
            "the process said nothing of it"
        } else {
            "this program cannot start itself again to apply it"
        };
        told().unwrap_or_else(|| SandboxFacts::nothing(self.asked, why))
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

fn not_spawned(detail: String) -> ConnectError {
    ConnectError::Spawn {
        detail,
        stderr: Vec::new(),
    }
}

/// Starts the process, and whether a supervisor stands above it.
async fn launched(spec: &StdioSpec, mark: &Mark) -> Result<(Child, bool), ConnectError> {
    let program = spec
        .argv
        .first()
        .ok_or_else(|| not_spawned("the command is empty".to_owned()))?;
    find_program(program, spec).map_err(not_spawned)?;
    let supervised = supervise::command(&spec.argv, &spec.sandbox);
    let is_supervised = supervised.is_some();
    let command = supervised.unwrap_or_else(|| {
        let mut command = Command::new(program);
        command.args(&spec.argv[1..]);
        command
    });
    let mut command = prepare(command, spec);
    command.env(MARK_VARIABLE, mark.value());
    let child = supervise::spawn_from_lasting_thread(command)
        .await
        .map_err(|error| {
            not_spawned(format!("{program} could not be started: {}", error.kind()))
        })?;
    Ok((child, is_supervised))
}

async fn drain(
    mut errors: ChildStderr,
    (ring, sandbox): (Arc<StderrRing>, Arc<OnceLock<SandboxFacts>>),
) {
    let mut chunk = vec![0; 4096];
    let mut report = ReportReader::default();
    while let Ok(count @ 1..) = errors.read(&mut chunk).await {
        let (facts, rest) = report.split(&chunk[..count]);
        if let Some(facts) = facts {
            let _ = sandbox.set(facts);
        }
        ring.push(&rest);
    }
}

/// Waits for the child, then for its last words. A supervisor that was killed could kill nothing below
/// it, so that is done here.
async fn await_exit(
    mut child: Child,
    mut drained: tokio::task::JoinHandle<()>,
    sweep: Option<impl Future<Output = ()>>,
    exited: watch::Sender<Option<ExitStatus>>,
) {
    use std::os::unix::process::ExitStatusExt as _;
    let status = child.wait().await.unwrap_or_default();
    if let Some(sweep) = sweep.filter(|_| status.signal().is_some()) {
        sweep.await;
    }
    if tokio::time::timeout(STDERR_GRACE, &mut drained)
        .await
        .is_err()
    {
        drained.abort();
    }
    exited.send_replace(Some(status));
}
