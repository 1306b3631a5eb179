//! What a child process may do once it is a server: how much it may use, which calls of the kernel it may make,
//! which files it sees.
//!
//! Decided by values (`Sandbox`), applied by the process that is about to become the server (`supervise`), told
//! in its first line on stderr. Never weakens silently: what the kernel did not grant is said in [`SandboxFacts`].

mod descriptors;
mod files;
mod limits;
mod report;
mod syscalls;

use std::ffi::OsStr;
use std::path::PathBuf;

use nix::sys::prctl;
use serde::{Deserialize, Serialize};

pub(crate) use self::report::ReportReader;

/// Processes and threads of one server's tree where its definition says nothing: a browser has some hundreds.
pub const DEFAULT_PROCESSES: u64 = 2_048;
/// Open files of one process: what Node.js and Chromium raise their own limit to, and more.
pub const DEFAULT_OPEN_FILES: u64 = 65_536;
/// Private writable memory of one process. Not address space, of which engines reserve terabytes.
pub const DEFAULT_MEMORY_BYTES: u64 = 4 * 1024 * 1024 * 1024 - 1024 * 1024;
/// Largest file one process may write.
pub const DEFAULT_FILE_BYTES: u64 = 4 * 1024 * 1024 * 1024;

/// How firmly a server is held, weakest first.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// Not at all beyond its own process group and environment.
    None,
    /// Bounded in memory, files, processes; no new privileges; no calls that reach into other processes or the kernel.
    #[default]
    Basic,
    /// Also sees no file but the system's programs and what is listed, and no process but its own.
    Strict,
}

/// What is asked for one server.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default)]
pub struct Sandbox {
    /// How firmly.
    pub level: Level,
    /// Files and folders it may read and run, at [`Level::Strict`].
    pub read: Vec<PathBuf>,
    /// Files and folders it may also change, at [`Level::Strict`].
    pub write: Vec<PathBuf>,
    /// No sockets but Unix ones.
    pub no_network: bool,
    /// Private writable memory of each of its processes; [`DEFAULT_MEMORY_BYTES`].
    pub memory_bytes: Option<u64>,
    /// Processes and threads of its tree; [`DEFAULT_PROCESSES`].
    pub processes: Option<u64>,
    /// Open files of each of its processes; [`DEFAULT_OPEN_FILES`].
    pub open_files: Option<u64>,
    /// Largest file it may write; [`DEFAULT_FILE_BYTES`].
    pub file_bytes: Option<u64>,
}

impl Sandbox {
    /// Holds nothing.
    #[must_use]
    pub fn none() -> Self {
        Self {
            level: Level::None,
            ..Self::default()
        }
    }

    /// Most processes and threads of the tree; `None` where nothing is held.
    pub(crate) fn most_processes(&self) -> Option<u64> {
        (self.level > Level::None).then(|| self.processes.unwrap_or(DEFAULT_PROCESSES))
    }
}

/// What became of it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SandboxFacts {
    /// The level asked for.
    pub asked: Level,
    /// The level reached.
    pub reached: Level,
    /// What was asked and not granted, in words.
    pub lacking: Vec<String>,
}

impl SandboxFacts {
    /// Nothing was reached, and why.
    pub(crate) fn nothing(asked: Level, why: &str) -> Self {
        let lacking = match asked {
            Level::None => Vec::new(),
            Level::Basic | Level::Strict => vec![why.to_owned()],
        };
        Self {
            asked,
            reached: Level::None,
            lacking,
        }
    }
}

/// Applies a sandbox to this process, which must have one thread, and to whatever it becomes or starts.
pub(crate) fn apply(asked: &Sandbox, program: &OsStr) -> SandboxFacts {
    if asked.level == Level::None {
        return SandboxFacts::nothing(Level::None, "");
    }
    let mut lacking = Vec::new();
    descriptors::close_inherited();
    limits::set(asked, &mut lacking);
    let mut reached = asked.level;
    if let Err(error) = prctl::set_no_new_privs() {
        lacking.push(format!("no_new_privs: {}", error.desc()));
        reached = Level::None;
    }
    if asked.level == Level::Strict
        && let Err(why) = files::restrict(asked, program, &mut lacking)
    {
        lacking.push(why);
        reached = reached.min(Level::Basic);
    }
    if let Err(why) = syscalls::deny(asked) {
        lacking.push(why);
        reached = Level::None;
    }
    SandboxFacts {
        asked: asked.level,
        reached,
        lacking,
    }
}

/// What a sandbox becomes on the command line of the process that applies it. It holds no secret.
pub(crate) fn to_argument(sandbox: &Sandbox) -> String {
    serde_json::to_string(sandbox).unwrap_or_default()
}

/// Reads it back; `None` for what this program did not write.
pub(crate) fn from_argument(text: &OsStr) -> Option<Sandbox> {
    serde_json::from_str(text.to_str()?).ok()
}

/// Says on stderr what was reached, before the server says anything.
pub(crate) fn tell(facts: &SandboxFacts) {
    report::write(facts);
}
