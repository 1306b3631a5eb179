//! `paperbot-mcpd local-agent`: runs the servers a daemon of the same user gives it, and ends when none came for
//! long. Started by the daemon, by nobody else.

use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use secrecy::SecretString;
use tokio::net::{UnixListener, UnixStream};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{OnceCell, watch};
use tokio_util::sync::CancellationToken;
use transports::tunnel::agent::{
    AgentConfig, AgentError, AgentStatus, DialError, Dialer, LineState, run as run_agent,
};
use transports::tunnel::{AgentId, LocalSocket};

/// What the bridge's own agent says in AUTH: nobody looks at it, for the kernel says who is at the other end.
const NO_TOKEN: &str = "local";
/// Where it keeps what it must not forget, beside its socket.
const SPOOL: &str = "spool";
/// Pause after the socket could not take a connection.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);

/// What it is started with.
#[derive(Debug, Clone)]
pub struct Start {
    /// Where it listens; the directory becomes 0700 and holds its spool.
    pub socket: PathBuf,
    /// Under which id the daemon knows it.
    pub id: AgentId,
    /// How long it lives without a daemon.
    pub orphan: Duration,
}

/// It cannot run.
#[derive(Debug, thiserror::Error)]
pub enum LocalAgentError {
    /// A directory, the socket or a signal cannot be had.
    #[error("{what}: {source}")]
    Io {
        /// Which.
        what: String,
        /// Why.
        source: std::io::Error,
    },
    /// What it must not forget has no place, or another one runs already.
    #[error(transparent)]
    Agent(#[from] AgentError),
}

/// Becomes the leader of a session of its own, so that no signal to the daemon's group or terminal is meant for
/// it. Must stand before a runtime. It fails only for the leader of a group, which is as good.
pub fn leave_session() {
    let _ = nix::unistd::setsid();
}

/// Runs until told to end, or until no daemon came for [`Start::orphan`].
///
/// # Errors
/// [`LocalAgentError`]; another agent with the same socket is one.
pub async fn run(start: Start) -> Result<(), LocalAgentError> {
    let io = |what: &Path| {
        let what = what.display().to_string();
        move |source| LocalAgentError::Io { what, source }
    };
    let folder = start.socket.parent().unwrap_or(Path::new("."));
    private_folder(folder).map_err(io(folder))?;
    let stop = CancellationToken::new();
    let told = |kind| signal(kind).map_err(io(Path::new("signals")));
    let (mut terminate, mut hangup) = (told(SignalKind::terminate())?, told(SignalKind::hangup())?);
    let mut interrupt = told(SignalKind::interrupt())?;
    let (status, seen) = watch::channel(AgentStatus::default());
    let config = AgentConfig {
        // It dials nobody: taking the next connection costs nothing, and a new daemon shall not wait.
        reconnect_initial: ACCEPT_AGAIN,
        reconnect_max: ACCEPT_AGAIN,
        ..AgentConfig::new(start.id.clone(), folder.join(SPOOL))
    };
    let dialer = Accepting::new(start.socket.clone());
    let running = run_agent(config, dialer, status, stop.clone());
    tokio::pin!(running);
    let orphaned = orphaned(seen, start.orphan);
    tokio::pin!(orphaned);
    let ended = loop {
        tokio::select! {
            ended = &mut running => break ended,
            _ = terminate.recv() => stop.cancel(),
            _ = interrupt.recv() => stop.cancel(),
            // Nobody's terminal is ours.
            _ = hangup.recv() => {}
            () = &mut orphaned, if !stop.is_cancelled() => {
                tracing::warn!(after = ?start.orphan, "no bridge came; ending");
                stop.cancel();
            }
        }
    };
    // The socket's file stays: by now it may be that of the next agent, which took over with the spool's lock.
    Ok(ended?)
}

/// A directory only its owner may enter; made, or made so.
fn private_folder(folder: &Path) -> std::io::Result<()> {
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true).mode(0o700).create(folder)?;
    std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o700))
}

/// Resolves when no daemon was there for so long.
async fn orphaned(mut status: watch::Receiver<AgentStatus>, limit: Duration) {
    loop {
        let away = tokio::time::sleep(limit);
        let mut is = async |online: bool| {
            let fits = |status: &AgentStatus| (status.line == LineState::Online) == online;
            status.wait_for(fits).await.is_ok()
        };
        let came = tokio::select! {
            () = away => return,
            came = is(true) => came,
        };
        // The agent ended: nobody is waited for.
        if !came || !is(false).await {
            return std::future::pending().await;
        }
    }
}

/// Takes a daemon's connection where another agent would dial. Listens from the first time on, which is after the
/// spool was had: so there is one agent, and its socket is nobody else's.
#[derive(Debug)]
struct Accepting {
    path: PathBuf,
    listener: OnceCell<UnixListener>,
}

impl Accepting {
    fn new(path: PathBuf) -> Self {
        Self {
            path,
            listener: OnceCell::new(),
        }
    }

    async fn listener(&self) -> Result<&UnixListener, DialError> {
        let listen = || async {
            // That of an agent that was killed; the spool's lock says that it is gone.
            let _ = std::fs::remove_file(&self.path);
            let listener = UnixListener::bind(&self.path)?;
            let private = std::fs::Permissions::from_mode(0o600);
            std::fs::set_permissions(&self.path, private)?;
            Ok(listener)
        };
        let had = self.listener.get_or_try_init(listen).await;
        had.map_err(|error: std::io::Error| DialError::Unreachable(error.to_string()))
    }
}

impl Dialer for Accepting {
    type Socket = LocalSocket;

    async fn dial(&self) -> Result<LocalSocket, DialError> {
        let listener = self.listener().await?;
        loop {
            match listener.accept().await {
                Ok((stream, _)) if is_ours(&stream) => return Ok(LocalSocket::new(stream)),
                Ok(_) => tracing::warn!("a process of another user was turned away"),
                Err(error) => {
                    tracing::warn!(%error, "the socket takes no connection");
                    tokio::time::sleep(ACCEPT_AGAIN).await;
                }
            }
        }
    }

    fn token(&self) -> Result<SecretString, DialError> {
        Ok(SecretString::from(NO_TOKEN))
    }
}

/// Whether the process at the other end is of the same user. Nobody else may speak here, whatever the permissions of
/// the socket's file are.
pub(super) fn is_ours(stream: &UnixStream) -> bool {
    let ours = nix::unistd::geteuid().as_raw();
    stream.peer_cred().is_ok_and(|peer| peer.uid() == ours)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_time_without_a_bridge_counts_from_its_last_going() {
        let (status, seen) = watch::channel(AgentStatus::default());
        let limit = Duration::from_mins(10);
        let orphaned = tokio::spawn(orphaned(seen, limit));
        let line = |line| status.send_modify(|status| status.line = line);
        tokio::time::sleep(limit.mul_f64(0.9)).await;
        line(LineState::Online);
        tokio::time::sleep(limit * 3).await;
        assert!(!orphaned.is_finished(), "a bridge is there");
        line(LineState::Offline);
        tokio::time::sleep(limit.mul_f64(0.9)).await;
        assert!(!orphaned.is_finished());
        tokio::time::sleep(limit.mul_f64(0.2)).await;
        assert!(orphaned.is_finished());
    }
}
