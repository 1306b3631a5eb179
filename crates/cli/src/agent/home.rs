//! The directory of one agent: its spool, and what it says of itself.

use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use transports::tunnel::agent::{AgentStatus, Spool};

use super::check::Plan;
use crate::files::{self, Access};
use crate::places::Places;

/// What an agent says of itself, for `agent status`.
const STATUS: &str = "status.json";
/// Where its spool is.
const SPOOL: &str = "spool";
/// A larger file than this is none of ours.
const MAX_STATUS_BYTES: u64 = 1024 * 1024;
/// Agents of one machine that are looked at.
const MAX_AGENTS: usize = 256;

/// What an agent wrote down last.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Written {
    /// Who.
    pub(crate) agent_id: String,
    /// Its bridge.
    pub(crate) url: String,
    /// The file it was started with.
    pub(crate) config: PathBuf,
    /// Its process.
    pub(crate) pid: u32,
    /// Its version.
    pub(crate) version: String,
    /// When it was started, in unix seconds.
    pub(crate) started: u64,
    /// How it was then.
    #[serde(flatten)]
    pub(crate) status: AgentStatus,
}

/// One agent's directory.
#[derive(Debug, Clone)]
pub(crate) struct Home(PathBuf);

impl Home {
    /// That of a plan: one for each agent and bridge, so that two bridges never share a spool.
    pub(crate) fn of(plan: &Plan, places: &Places) -> Self {
        let host = plan.url.host_str().unwrap_or_default();
        let port = plan.url.port_or_known_default().unwrap_or_default();
        let clean: String = host
            .chars()
            .map(|c| {
                if c.is_ascii_alphanumeric() || matches!(c, '.' | '-') {
                    c
                } else {
                    '_'
                }
            })
            .collect();
        Self(places.agents().join(format!("{}@{clean}-{port}", plan.id)))
    }

    /// All there are on this machine, by name.
    pub(crate) fn all(places: &Places) -> Vec<Self> {
        let Ok(entries) = fs::read_dir(places.agents()) else {
            return Vec::new();
        };
        let folders = entries.filter_map(|entry| Some(entry.ok()?.path()));
        let mut all: Vec<_> = folders
            .filter(|path| path.is_dir())
            .take(MAX_AGENTS)
            .collect();
        all.sort();
        all.into_iter().map(Self).collect()
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// Where its spool is.
    pub(crate) fn spool(&self) -> PathBuf {
        self.0.join(SPOOL)
    }

    /// Whether an agent runs with it now.
    pub(crate) fn is_running(&self) -> bool {
        Spool::is_in_use(&self.spool())
    }

    /// What was written last.
    pub(crate) fn read(&self) -> Option<Written> {
        let path = self.0.join(STATUS);
        let size = fs::metadata(&path).ok()?.len();
        let bytes = (size <= MAX_STATUS_BYTES).then(|| fs::read(&path))?.ok()?;
        serde_json::from_slice(&bytes).ok()
    }

    /// Writes it anew.
    ///
    /// # Errors
    /// Whatever the file system says.
    pub(crate) fn write(&self, written: &Written) -> std::io::Result<()> {
        let text = serde_json::to_vec(written)?;
        files::replace(&self.0.join(STATUS), &text, Access::Private)
    }
}
