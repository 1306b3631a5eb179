//! `config validate`: runs the daemon's own check, because only the daemon knows its schema.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::failure::Failure;

const DAEMON: &str = "paperbot-mcpd";

/// Checks a configuration file; the daemon's output and exit code pass through.
///
/// # Errors
/// When there is no daemon program, or the file is not valid.
pub(crate) fn validate(file: &Path) -> Result<(), Failure> {
    let Some(program) = find_daemon() else {
        return Err(Failure::usage(format!(
            "`{DAEMON}` is neither beside this program nor in PATH, and only it knows the schema"
        ))
        .hint("install it, or validate where the bridge runs"));
    };
    let status = Command::new(&program)
        .args(["config", "check"])
        .arg(file)
        .status()
        .map_err(|error| Failure::local_io(&program.display().to_string(), &error))?;
    match status.code() {
        Some(0) => Ok(()),
        code => {
            let exit = code.and_then(|code| u8::try_from(code).ok()).unwrap_or(1);
            let message = format!("{} is not a valid configuration", file.display());
            let mut failure = Failure::usage(message).hint(format!("see what {DAEMON} said above"));
            failure.exit = exit;
            Err(failure)
        }
    }
}

fn find_daemon() -> Option<PathBuf> {
    let beside = std::env::current_exe()
        .ok()
        .and_then(|own| Some(own.parent()?.join(DAEMON)));
    let path = std::env::var_os("PATH").unwrap_or_default();
    beside
        .into_iter()
        .chain(std::env::split_paths(&path).map(|directory| directory.join(DAEMON)))
        .find(|candidate| candidate.is_file())
}
