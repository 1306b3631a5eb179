//! What a child process is started with: the program, its environment, its folder, its pipes.

use std::process::{Command, Stdio};

use secrecy::ExposeSecret as _;

use crate::spec::StdioSpec;

/// Variables of the bridge a server gets without asking; the rest stays with the bridge, for it may hold secrets.
const INHERITED: &[&str] = &[
    "HOME", "LANG", "LANGUAGE", "LOGNAME", "PATH", "SHELL", "TERM", "TMPDIR", "TZ", "USER",
];
/// Prefixes of such variables.
const INHERITED_PREFIXES: &[&str] = &["LC_", "XDG_"];

/// Whether a variable of this process is passed on to a server without asking.
#[must_use]
pub fn is_inherited(name: &std::ffi::OsStr) -> bool {
    let text = name.to_string_lossy();
    let mut prefixes = INHERITED_PREFIXES.iter();
    INHERITED.contains(&&*text) || prefixes.any(|prefix| text.starts_with(prefix))
}

/// Gives a command its environment, its folder, its group and its pipes.
pub(super) fn prepare(mut command: Command, spec: &StdioSpec) -> Command {
    use std::os::unix::process::CommandExt as _;
    command.env_clear();
    for (name, value) in std::env::vars_os() {
        if is_inherited(&name) {
            command.env(&name, value);
        }
    }
    for (name, value) in &spec.env {
        command.env(name, value.expose_secret());
    }
    if let Some(folder) = &spec.cwd {
        command.current_dir(folder);
    }
    // A group of its own, so that a Ctrl-C at the bridge's terminal is not the server's.
    command.process_group(0);
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// Finds the program as `execvp` would, so that a missing one is told before anything is started.
pub(super) fn find_program(program: &str, spec: &StdioSpec) -> Result<(), String> {
    use std::os::unix::fs::PermissionsExt as _;
    let runnable = |path: &std::path::Path| {
        path.metadata()
            .is_ok_and(|data| data.is_file() && data.permissions().mode() & 0o111 != 0)
    };
    if let Some(folder) = spec.cwd.as_ref().filter(|folder| !folder.is_dir()) {
        let name = folder.file_name().unwrap_or_default().to_string_lossy();
        return Err(format!("the working directory `{name}` does not exist"));
    }
    let found = if program.contains('/') {
        let path = std::path::Path::new(program);
        runnable(
            &spec
                .cwd
                .as_ref()
                .map_or_else(|| path.to_owned(), |folder| folder.join(path)),
        )
    } else {
        let inherited = std::env::var_os("PATH").unwrap_or_default();
        let own = spec.env.get("PATH").map(|path| path.expose_secret().into());
        std::env::split_paths(&own.unwrap_or(inherited))
            .any(|folder| runnable(&folder.join(program)))
    };
    let name = program.rsplit('/').next().unwrap_or_default();
    if found {
        Ok(())
    } else {
        Err(format!(
            "the command `{name}` does not exist or is not executable"
        ))
    }
}
