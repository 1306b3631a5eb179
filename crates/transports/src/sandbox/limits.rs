//! How much each process of a server may use. Inherited by whatever it starts.

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::unistd::Uid;

use super::{DEFAULT_FILE_BYTES, DEFAULT_MEMORY_BYTES, DEFAULT_OPEN_FILES, Sandbox};

/// Sets every limit; what could not be set is told.
pub(super) fn set(asked: &Sandbox, lacking: &mut Vec<String>) {
    let mut limits = vec![
        ("core dumps", Resource::RLIMIT_CORE, 0),
        (
            "memory",
            Resource::RLIMIT_DATA,
            asked.memory_bytes.unwrap_or(DEFAULT_MEMORY_BYTES),
        ),
        (
            "file size",
            Resource::RLIMIT_FSIZE,
            asked.file_bytes.unwrap_or(DEFAULT_FILE_BYTES),
        ),
        (
            "open files",
            Resource::RLIMIT_NOFILE,
            asked.open_files.unwrap_or(DEFAULT_OPEN_FILES),
        ),
    ];
    if let Some(most) = asked
        .most_processes()
        .filter(|_| !Uid::effective().is_root())
    {
        // The kernel counts all tasks of the user, not the tree's, and never root's: the supervisor counts, too.
        let all = tasks_of(Uid::effective().as_raw()).saturating_add(most);
        limits.push(("processes", Resource::RLIMIT_NPROC, all));
    }
    for (name, resource, most) in limits {
        // A lower limit that holds already stays.
        let held = getrlimit(resource).map_or(u64::MAX, |(_, hard)| hard);
        let most = most.min(held);
        if let Err(error) = setrlimit(resource, most, most) {
            lacking.push(format!("limit of {name}: {}", error.desc()));
        }
    }
}

/// Processes and threads a user has now.
fn tasks_of(user: u32) -> u64 {
    use std::os::unix::fs::MetadataExt as _;
    let processes = std::fs::read_dir("/proc").into_iter().flatten();
    let own = processes.filter_map(Result::ok).filter(|process| {
        let numbered = process.file_name().as_encoded_bytes()[0].is_ascii_digit();
        numbered && process.metadata().is_ok_and(|data| data.uid() == user)
    });
    own.map(|process| crate::tree::threads_in(&process.path()))
        .sum()
}
