//! Where the pinned real MCP servers are, as `make test` installs them (`tests/upstreams/`).

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// A definition of a real server, as YAML for the bridge's file.
#[derive(Debug, Clone)]
pub struct Upstream {
    /// Name in the bridge.
    pub name: &'static str,
    /// Indented body of its definition.
    pub yaml: String,
}

/// The folder with the lock files.
#[must_use]
pub fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("upstreams")
}

/// The script of an installed npm server.
///
/// # Panics
/// When it is not installed.
#[must_use]
pub fn node_script(path_in_modules: &str) -> String {
    let script = folder().join("node_modules").join(path_in_modules);
    assert!(
        script.exists(),
        "{} is missing: run `make upstreams`",
        script.display()
    );
    script.display().to_string()
}

/// A program of the installed Python environment.
///
/// # Panics
/// When it is not installed.
#[must_use]
pub fn python_program(name: &str) -> String {
    let program = folder().join(".venv/bin").join(name);
    assert!(
        program.exists(),
        "{} is missing: run `make upstreams`",
        program.display()
    );
    program.display().to_string()
}

/// A program this workspace builds, found beside the running test.
///
/// # Panics
/// When it was not built.
#[must_use]
pub fn built(name: &str) -> PathBuf {
    let mut folder = std::env::current_exe().unwrap_or_else(|error| panic!("{error}"));
    folder.pop();
    if folder.ends_with("deps") {
        folder.pop();
    }
    let program = folder.join(name);
    assert!(
        program.exists(),
        "{} is missing: run `cargo build --workspace --bins`",
        program.display()
    );
    program
}

fn stdio(name: &'static str, command: &[&str]) -> Upstream {
    let argv = serde_json::to_string(command).unwrap_or_default();
    Upstream {
        name,
        yaml: format!("    transport: stdio\n    command: {argv}\n"),
    }
}

/// `@modelcontextprotocol/server-everything` over stdio.
#[must_use]
pub fn everything() -> Upstream {
    let script = node_script("@modelcontextprotocol/server-everything/dist/index.js");
    stdio("everything", &["node", &script, "stdio"])
}

/// `@modelcontextprotocol/server-filesystem` on one folder.
#[must_use]
pub fn filesystem(root: &Path) -> Upstream {
    let script = node_script("@modelcontextprotocol/server-filesystem/dist/index.js");
    stdio("files", &["node", &script, &root.display().to_string()])
}

/// `@modelcontextprotocol/server-memory` keeping its graph in one file.
#[must_use]
pub fn memory(file: &Path) -> Upstream {
    let script = node_script("@modelcontextprotocol/server-memory/dist/index.js");
    let mut upstream = stdio("memory", &["node", &script]);
    let file = file.display().to_string();
    let _ = writeln!(upstream.yaml, "    env: {{MEMORY_FILE_PATH: {file:?}}}");
    upstream
}

/// `@playwright/mcp`; only its catalogue is used, no browser is started.
#[must_use]
pub fn playwright() -> Upstream {
    let script = node_script("@playwright/mcp/cli.js");
    stdio("playwright", &["node", &script, "--headless"])
}

/// PyPI `mcp-server-time`.
#[must_use]
pub fn time() -> Upstream {
    stdio(
        "time",
        &[
            &python_program("mcp-server-time"),
            "--local-timezone",
            "UTC",
        ],
    )
}

/// PyPI `mcp-server-git` on one repository.
#[must_use]
pub fn git(repository: &Path) -> Upstream {
    stdio(
        "git",
        &[
            &python_program("mcp-server-git"),
            "--repository",
            &repository.display().to_string(),
        ],
    )
}

/// Our rmcp fixture over stdio, in one era.
#[must_use]
pub fn fixture(era: &str) -> Upstream {
    let program = built("fixture-server").display().to_string();
    let name = if era == "modern" { "modern" } else { "fixture" };
    stdio(name, &[&program, "stdio"])
}

/// A server already listening on HTTP.
#[must_use]
pub fn http(name: &'static str, transport: &str, url: &str) -> Upstream {
    Upstream {
        name,
        yaml: format!("    transport: {transport}\n    url: {url}\n    allow_private: true\n"),
    }
}
