//! The processes of one server, seen through `/proc`: found, measured, and killed when their supervisor
//! cannot do it any more.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;

/// The variable by which whatever a server started is known again, wherever it went: a process that left
/// its group, its session and its parent still has the environment it was started with.
pub(crate) const MARK_VARIABLE: &str = "PAPERBOT_TREE";
/// Looks for what is left before a tree that forks faster than it dies is given up, and the pause between.
const MAX_LOOKS: usize = 100;
const BETWEEN_LOOKS: Duration = Duration::from_millis(5);
/// Processes looked at below one root; a tree larger than this is told as what was seen.
const MAX_PROCESSES: usize = 256;

/// What one server's processes have in their environment, and no others.
#[derive(Debug, Clone)]
pub(crate) struct Mark(String);

impl Mark {
    /// One that nothing has yet.
    pub(crate) fn new() -> Self {
        Self(format!("{:032x}", rand::random::<u128>()))
    }

    /// The value of [`MARK_VARIABLE`].
    pub(crate) fn value(&self) -> &str {
        &self.0
    }

    /// Kills every process that has the mark, what is below those, and the server's group where it is
    /// known, until nothing is found.
    pub(crate) async fn sweep(self, group: Option<i32>) {
        let entry = Arc::new(format!("{MARK_VARIABLE}={}", self.0));
        for _ in 0..MAX_LOOKS {
            let entry = Arc::clone(&entry);
            let look = tokio::task::spawn_blocking(move || kill_marked(&entry, group));
            if look.await.unwrap_or_default() == 0 {
                return;
            }
            tokio::time::sleep(BETWEEN_LOOKS).await;
        }
    }
}

/// One look; how many were found.
fn kill_marked(entry: &str, group: Option<i32>) -> usize {
    if let Some(group) = group {
        // Whether it was there tells nothing: it stays until somebody waited for its dead.
        let _ = killpg(Pid::from_raw(group), Signal::SIGKILL);
    }
    let mut found = Vec::new();
    for root in marked(entry.as_bytes()) {
        below(root, &mut found);
    }
    for pid in &found {
        let _ = kill(Pid::from_raw(*pid), Signal::SIGKILL);
    }
    found.len()
}

/// Processes with this entry in their environment. One that ended but was not waited for has none.
fn marked(entry: &[u8]) -> Vec<i32> {
    let Ok(processes) = std::fs::read_dir("/proc") else {
        return Vec::new();
    };
    let ours = std::process::id().to_string();
    let has_mark = |folder: &Path| {
        std::fs::read(folder.join("environ")).is_ok_and(|environment| {
            environment
                .split(|byte| *byte == 0)
                .any(|text| text == entry)
        })
    };
    processes
        .filter_map(Result::ok)
        .filter(|process| process.file_name() != *ours)
        .filter_map(|process| {
            let pid = process.file_name().to_str()?.parse().ok()?;
            has_mark(&process.path()).then_some(pid)
        })
        .collect()
}

/// Adds a process and everything below it.
fn below(root: i32, found: &mut Vec<i32>) {
    let mut next = found.len();
    found.push(root);
    while next < found.len() && found.len() < MAX_PROCESSES {
        found.extend(children_of(u32::try_from(found[next]).unwrap_or_default()));
        next += 1;
    }
}

/// The direct children of a process, from the kernel's own list.
#[must_use]
pub(crate) fn children_of(pid: u32) -> Vec<i32> {
    let list =
        std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    list.split_ascii_whitespace()
        .filter_map(|child| child.parse().ok())
        .collect()
}

/// Processes and threads of a tree, without its root. Counted no further than past `most`.
pub(crate) fn tasks_below(root: u32, most: u64) -> u64 {
    let mut found = children_of(root);
    let (mut next, mut tasks) = (0, 0);
    while next < found.len() && tasks <= most {
        let folder = format!("/proc/{}", found[next]);
        tasks += threads_in(Path::new(&folder));
        let children = children_of(u32::try_from(found[next]).unwrap_or_default());
        found.extend(children);
        next += 1;
    }
    tasks
}

/// Threads of the process with this folder under `/proc`; 0 when it left.
pub(crate) fn threads_in(process: &Path) -> u64 {
    let status = std::fs::read_to_string(process.join("status")).unwrap_or_default();
    let count = status
        .lines()
        .find_map(|line| line.strip_prefix("Threads:")?.trim().parse().ok());
    count.unwrap_or_default()
}

/// Resident memory of a process and everything below it.
pub(crate) fn resident_bytes(root: u32) -> Option<u64> {
    let mut tree = Vec::new();
    below(i32::try_from(root).ok()?, &mut tree);
    let resident = tree.into_iter().filter_map(|pid| {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        status.lines().find_map(|line| {
            let kib = line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB")?;
            Some(kib.parse::<u64>().ok()? * 1024)
        })
    });
    resident.reduce(|sum, bytes| sum + bytes)
}
