//! Where this daemon keeps things: XDG directories, with the defaults of the specification.

use std::ffi::OsString;
use std::path::PathBuf;

/// Where this daemon keeps things.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Places {
    /// The database.
    pub data: PathBuf,
    /// The admin key.
    pub state: PathBuf,
}

impl Places {
    /// From this process's environment.
    #[must_use]
    pub fn from_environment() -> Self {
        Self::from_lookup(|name| std::env::var_os(name))
    }

    /// From any environment. Relative directories are ignored, as the specification wants it.
    #[must_use]
    pub fn from_lookup(lookup: impl Fn(&str) -> Option<OsString>) -> Self {
        let home = lookup("HOME").map_or_else(|| PathBuf::from("."), PathBuf::from);
        let directory = |name: &str, default: &str| {
            let told = lookup(name)
                .map(PathBuf::from)
                .filter(|path| path.is_absolute());
            told.unwrap_or_else(|| home.join(default)).join("paperbot")
        };
        Self {
            data: directory("XDG_DATA_HOME", ".local/share"),
            state: directory("XDG_STATE_HOME", ".local/state"),
        }
    }

    /// The URL of the database without a word to the contrary.
    #[must_use]
    pub fn store_url(&self) -> String {
        format!("sqlite://{}", self.data.join("bridge.db").display())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directories_follow_the_environment_and_its_defaults() {
        let bare = Places::from_lookup(|name| (name == "HOME").then(|| "/h".into()));
        assert_eq!(bare.state, PathBuf::from("/h/.local/state/paperbot"));
        assert_eq!(
            bare.store_url(),
            "sqlite:///h/.local/share/paperbot/bridge.db"
        );
        let told = Places::from_lookup(|name| match name {
            "HOME" => Some("/h".into()),
            "XDG_DATA_HOME" => Some("/d".into()),
            "XDG_STATE_HOME" => Some("relative".into()),
            _ => None,
        });
        assert_eq!(told.data, PathBuf::from("/d/paperbot"));
        assert_eq!(told.state, PathBuf::from("/h/.local/state/paperbot"));
    }
}
