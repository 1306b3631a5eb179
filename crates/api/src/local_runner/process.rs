//! The local agent's process as the daemon sees it: where its socket is, how it is started, whether it is this
//! program.

use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::net::UnixStream;
use tokio::process::{Child, Command};
use transports::tunnel::AgentId;

use super::agent::is_ours;

/// This program, even after it was replaced on the disk.
const THIS_PROGRAM: &str = "/proc/self/exe";
/// Its directory below the state directory.
const FOLDER: &str = "local-agent";
/// Its socket, and its log, in there.
const SOCKET: &str = "socket";
const LOG: &str = "log";

/// Where a local agent is, and how it is started.
#[derive(Debug, Clone)]
pub(super) struct Process {
    folder: PathBuf,
    id: AgentId,
    orphan: Duration,
}

/// A connection to one.
#[derive(Debug)]
pub(super) struct Reached {
    pub(super) stream: UnixStream,
    /// The agent's process.
    pub(super) pid: Option<Pid>,
    /// It runs the same program as this daemon.
    pub(super) is_current: bool,
}

impl Process {
    pub(super) fn new(state: &Path, id: AgentId, orphan: Duration) -> Self {
        Self {
            folder: state.join(FOLDER),
            id,
            orphan,
        }
    }

    fn socket(&self) -> PathBuf {
        self.folder.join(SOCKET)
    }

    /// Connects to the one that runs.
    ///
    /// # Errors
    /// When none does, or somebody else's.
    pub(super) async fn reach(&self) -> io::Result<Reached> {
        let stream = UnixStream::connect(self.socket()).await?;
        if !is_ours(&stream) {
            return Err(io::Error::other("the socket is another user's"));
        }
        let pid = stream.peer_cred()?.pid().map(Pid::from_raw);
        Ok(Reached {
            stream,
            is_current: pid.is_none_or(is_this_program),
            pid,
        })
    }

    /// Starts one. It leaves this process's session by itself and outlives it.
    ///
    /// # Errors
    /// When its directory or the process cannot be had.
    pub(super) fn spawn(&self) -> io::Result<Child> {
        let mut builder = std::fs::DirBuilder::new();
        builder.recursive(true).mode(0o700).create(&self.folder)?;
        let mut options = std::fs::File::options();
        let log = options.create(true).write(true).truncate(true).mode(0o600);
        let log = log.open(self.folder.join(LOG))?;
        Command::new(THIS_PROGRAM)
            .arg("local-agent")
            .arg("--socket")
            .arg(self.socket())
            .arg("--id")
            .arg(self.id.as_str())
            .arg("--orphan-ms")
            .arg(self.orphan.as_millis().to_string())
            .env_clear()
            .envs(std::env::vars_os().filter(|(name, _)| transports::is_inherited(name)))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .kill_on_drop(false)
            .spawn()
    }
}

/// Asks it to finish what runs and end.
pub(super) fn ask_to_end(pid: Pid) {
    // One that is gone needs not be asked.
    let _ = kill(pid, Signal::SIGTERM);
}

/// Whether a process runs the very file this one does: after an upgrade it is another, even under the same name.
fn is_this_program(pid: Pid) -> bool {
    let file = |path: &str| {
        let data = std::fs::metadata(path).ok()?;
        Some((data.dev(), data.ino()))
    };
    let (theirs, ours) = (file(&format!("/proc/{pid}/exe")), file(THIS_PROGRAM));
    // What cannot be told is no reason to end anything.
    theirs.is_none() || theirs == ours
}
