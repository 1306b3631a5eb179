//! Where things lie on this machine: configuration, state and cache under the XDG directories.
//! Never creates anything by itself; writing is `files`' work.

use std::path::PathBuf;

/// The directory name below each XDG base, shared with the daemon.
const OURS: &str = "paperbot";

/// The bases, read once from the environment.
#[derive(Debug, Clone)]
pub(crate) struct Places {
    /// The user's home; `.` when there is none.
    pub(crate) home: PathBuf,
    config: PathBuf,
    state: PathBuf,
    cache: PathBuf,
    /// `$XDG_CONFIG_HOME`, for other programs' files.
    pub(crate) config_home: PathBuf,
}

impl Places {
    /// Reads `HOME` and the `XDG_*_HOME` variables; relative values are ignored, as the XDG text asks.
    #[must_use]
    pub(crate) fn from_env() -> Self {
        let home = std::env::var_os("HOME").map_or_else(|| PathBuf::from("."), PathBuf::from);
        let base = |name: &str, default: &str| {
            std::env::var_os(name)
                .map(PathBuf::from)
                .filter(|path| path.is_absolute())
                .unwrap_or_else(|| home.join(default))
        };
        let config_home = base("XDG_CONFIG_HOME", ".config");
        Self {
            config: config_home.join(OURS),
            state: base("XDG_STATE_HOME", ".local/state").join(OURS),
            cache: base("XDG_CACHE_HOME", ".cache").join(OURS),
            config_home,
            home,
        }
    }

    /// The client's profiles.
    #[must_use]
    pub(crate) fn profiles(&self) -> PathBuf {
        self.config.join("cli.yaml")
    }

    /// The user's agent's file.
    #[must_use]
    pub(crate) fn agent_config(&self) -> PathBuf {
        self.config.join("config.yaml")
    }

    /// Tokens of this machine's agents.
    #[must_use]
    pub(crate) fn agent_tokens(&self) -> PathBuf {
        self.config.join("agents")
    }

    /// What this machine's agents keep, a directory each: spool, lock, status.
    #[must_use]
    pub(crate) fn agents(&self) -> PathBuf {
        self.state.join("agents")
    }

    /// Where the daemon's first start leaves the key.
    #[must_use]
    pub(crate) fn admin_key(&self) -> PathBuf {
        self.state.join("admin.key")
    }

    /// Whole results of which only a part was printed, and binary content.
    #[must_use]
    pub(crate) fn results(&self) -> PathBuf {
        self.state.join("results")
    }

    /// Schemas of tools called before.
    #[must_use]
    pub(crate) fn schemas(&self) -> PathBuf {
        self.cache.join("schemas")
    }
}
