//! What a definition says of its child's sandbox, held against what makes sense.

use std::path::{Component, Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use transports::{Level, Sandbox};

use super::check::Complaints;

/// Most paths of one list; a server needs a handful.
const MAX_PATHS: usize = 64;
/// Least memory with which any server starts.
const MIN_MEMORY_BYTES: u64 = 32 * 1024 * 1024;
/// Least open files with which any server starts.
const MIN_OPEN_FILES: u64 = 16;

/// `sandbox` of a stdio server.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct SandboxWish {
    /// `none`, `basic` (default) or `strict`.
    #[schemars(with = "String")]
    pub level: Level,
    /// `strict`: files and folders it may read and run, beside the system's programs.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub read: Vec<String>,
    /// `strict`: files and folders it may also change.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub write: Vec<String>,
    /// Whether it may use a network.
    pub network: Network,
    /// Private writable memory of each of its processes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_bytes: Option<u64>,
    /// Processes and threads it may have at once, with all it starts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub processes: Option<u64>,
    /// Files each of its processes may have open.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub open_files: Option<u64>,
    /// Largest file it may write.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file_bytes: Option<u64>,
}

/// Which networks a child may use.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Network {
    /// Whatever the host has.
    #[default]
    Any,
    /// None: Unix sockets only.
    None,
}

impl Complaints<'_> {
    /// What is asked of the transport; complaints where it cannot mean what it says.
    pub(super) fn sandbox(&mut self, wish: Option<&SandboxWish>) -> Sandbox {
        let Some(wish) = wish else {
            return Sandbox::default();
        };
        for (field, paths) in [("read", &wish.read), ("write", &wish.write)] {
            if wish.level != Level::Strict && !paths.is_empty() {
                let pointer = format!("/sandbox/{field}");
                self.add(pointer, "has a meaning at level `strict` only");
            }
            if paths.len() > MAX_PATHS {
                let pointer = format!("/sandbox/{field}");
                self.add(pointer, format!("holds more than {MAX_PATHS} paths"));
            }
            for (index, path) in paths.iter().enumerate() {
                if let Some(why) = refused(path) {
                    self.add(format!("/sandbox/{field}/{index}"), why);
                }
            }
        }
        for (field, value, least) in [
            ("memory_bytes", wish.memory_bytes, MIN_MEMORY_BYTES),
            ("processes", wish.processes, 1),
            ("open_files", wish.open_files, MIN_OPEN_FILES),
            ("file_bytes", wish.file_bytes, 1),
        ] {
            if value.is_some_and(|value| value < least) {
                let pointer = format!("/sandbox/{field}");
                self.add(pointer, format!("must be at least {least}"));
            }
            if wish.level == Level::None && value.is_some() {
                let pointer = format!("/sandbox/{field}");
                self.add(pointer, "has no meaning at level `none`");
            }
        }
        if wish.level == Level::None && wish.network == Network::None {
            self.add("/sandbox/network", "has no meaning at level `none`");
        }
        let paths = |list: &[String]| list.iter().map(PathBuf::from).collect();
        Sandbox {
            level: wish.level,
            read: paths(&wish.read),
            write: paths(&wish.write),
            no_network: wish.network == Network::None,
            memory_bytes: wish.memory_bytes,
            processes: wish.processes,
            open_files: wish.open_files,
            file_bytes: wish.file_bytes,
        }
    }
}

/// Why a path cannot be listed.
fn refused(path: &str) -> Option<&'static str> {
    let path = Path::new(path);
    let plain = path
        .components()
        .all(|part| matches!(part, Component::RootDir | Component::Normal(_)));
    if path.as_os_str().as_encoded_bytes().contains(&0) || !path.is_absolute() || !plain {
        return Some("must be an absolute path without `..`");
    }
    // With all of it there would be nothing left to keep from.
    let all = path.parent().is_none() || path.starts_with("/proc") || path.starts_with("/sys");
    all.then_some("is too much: name the folders the server needs")
}
