//! A PostgreSQL of a test's own, which it may freeze and stop. Ended when dropped.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, User, geteuid};
use tempfile::TempDir;

/// Where Debian puts the programs of each version.
const VERSIONS: &str = "/usr/lib/postgresql";

/// The server.
#[derive(Debug)]
pub struct Postgres {
    folder: TempDir,
    port: u16,
    child: Child,
}

impl Postgres {
    /// Makes a cluster and starts it. It answers a moment later.
    ///
    /// # Panics
    /// When PostgreSQL is not installed or a cluster cannot be made.
    #[must_use]
    pub fn start() -> Self {
        let folder = tempfile::tempdir().unwrap_or_else(|error| panic!("{error}"));
        if let Some(user) = owner() {
            let (uid, gid) = (Some(user.uid.as_raw()), Some(user.gid.as_raw()));
            std::os::unix::fs::chown(folder.path(), uid, gid)
                .unwrap_or_else(|error| panic!("{error}"));
        }
        let made = program("initdb")
            .args(["-U", "postgres", "-A", "trust", "--no-sync", "-D"])
            .arg(folder.path().join("data"))
            .output()
            .unwrap_or_else(|error| panic!("initdb: {error}"));
        assert!(
            made.status.success(),
            "initdb: {}",
            String::from_utf8_lossy(&made.stderr)
        );
        let port = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
        let port = port.unwrap_or_else(|error| panic!("{error}")).port();
        let child = run(folder.path(), port);
        Self {
            folder,
            port,
            child,
        }
    }

    /// For the bridge's configuration.
    #[must_use]
    pub fn url(&self) -> String {
        format!("postgres://postgres@127.0.0.1:{}/postgres", self.port)
    }

    /// Stops or continues every process of the server.
    pub fn freeze(&self, frozen: bool) {
        let signal = if frozen {
            Signal::SIGSTOP
        } else {
            Signal::SIGCONT
        };
        for pid in self.pids() {
            let _ = kill(pid, signal);
        }
    }

    /// Ends it at once, as after a crash.
    pub fn crash(&mut self) {
        let _ = kill(self.postmaster(), Signal::SIGQUIT);
        let _ = self.child.wait();
    }

    /// Starts it again after [`Postgres::crash`].
    pub fn restart(&mut self) {
        self.child = run(self.folder.path(), self.port);
    }

    fn postmaster(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.child.id()).unwrap_or(i32::MAX))
    }

    /// The postmaster and its children.
    fn pids(&self) -> Vec<Pid> {
        let parent = self.postmaster();
        let mut pids = vec![parent];
        for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
            let stat = std::fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
            let after_name = stat.rsplit(')').next().unwrap_or_default();
            let of = after_name.split_whitespace().nth(1);
            let pid = entry.file_name().to_string_lossy().parse().ok();
            if let (Some(of), Some(pid)) = (of, pid)
                && of == parent.to_string()
            {
                pids.push(Pid::from_raw(pid));
            }
        }
        pids
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.freeze(false);
        self.crash();
    }
}

/// PostgreSQL refuses to run as root; then it is run as the user its package made.
fn owner() -> Option<User> {
    if !geteuid().is_root() {
        return None;
    }
    let user = User::from_name("postgres").ok().flatten();
    assert!(
        user.is_some(),
        "there is no user postgres: tests/postgres.sh installs it"
    );
    user
}

fn program(name: &str) -> Command {
    let mut versions: Vec<PathBuf> = std::fs::read_dir(VERSIONS)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path().join("bin").join(name))
        .filter(|program| program.exists())
        .collect();
    versions.sort();
    let newest = versions
        .pop()
        .unwrap_or_else(|| panic!("{name} is missing: tests/postgres.sh installs it"));
    let mut command = match owner() {
        Some(_) => {
            let mut command = Command::new("setpriv");
            command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups"]);
            command.arg(newest);
            command
        }
        None => Command::new(newest),
    };
    command
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::null());
    command
}

fn run(folder: &Path, port: u16) -> Child {
    let log = std::fs::File::options()
        .create(true)
        .append(true)
        .open(folder.join("log"))
        .unwrap_or_else(|error| panic!("{error}"));
    let mut command = program("postgres");
    command.arg("-D").arg(folder.join("data"));
    command.args([
        "-p",
        &port.to_string(),
        "-c",
        "listen_addresses=127.0.0.1",
        "-c",
    ]);
    command.arg(format!("unix_socket_directories={}", folder.display()));
    command
        .stderr(log)
        .spawn()
        .unwrap_or_else(|error| panic!("postgres: {error}"))
}
