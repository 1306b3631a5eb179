//! Which agent's file is meant: `--config`, the project's `.paperbot/config.yaml`, the user's.

use std::path::{Path, PathBuf};

use crate::failure::Failure;
use crate::places::Places;

/// The file below a project's directory.
const IN_PROJECT: &str = ".paperbot/config.yaml";
/// What marks the root of a repository.
const ROOT_MARK: &str = ".git";
/// Directories looked at upwards; deeper trees than this are no project.
const MAX_STEPS: usize = 64;

/// The first of them that is there.
///
/// # Errors
/// A usage failure that names every place looked at.
pub(crate) fn find(named: Option<&Path>, places: &Places) -> Result<PathBuf, Failure> {
    if let Some(path) = named {
        return Ok(path.to_path_buf());
    }
    let here = std::env::current_dir().unwrap_or_default();
    let user = places.agent_config();
    match in_project(&here).or_else(|| user.is_file().then(|| user.clone())) {
        Some(path) => Ok(path),
        None => Err(Failure::usage(format!(
            "no agent configuration: neither --config, nor {IN_PROJECT} from here up to the repository's root, nor {}",
            user.display()
        ))
        .hint("`paperbot-mcp agent pair` gets a token and prints a first file; `paperbot-mcp config apply --file FILE` puts one in place")),
    }
}

/// Upwards to the repository's root; without a repository only here, so that no file of somebody else's
/// directory above decides what runs.
fn in_project(here: &Path) -> Option<PathBuf> {
    let root = here
        .ancestors()
        .take(MAX_STEPS)
        .find(|directory| directory.join(ROOT_MARK).exists());
    let last = root.unwrap_or(here);
    for directory in here.ancestors().take(MAX_STEPS) {
        let candidate = directory.join(IN_PROJECT);
        if candidate.is_file() {
            return Some(candidate);
        }
        if directory == last {
            break;
        }
    }
    None
}
