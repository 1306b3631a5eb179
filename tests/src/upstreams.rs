//! Where the pinned real MCP servers are, as `make test` installs them (`tests/upstreams/`).

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use tokio::process::{Child, Command};

use crate::{clients, eventually};

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

/// Our server that offers the tools of a file, and writes each call it gets to another.
#[must_use]
pub fn told(name: &'static str, tools: &Path, effects: &Path) -> Upstream {
    let program = built("told-server").display().to_string();
    let (tools, effects) = (tools.display().to_string(), effects.display().to_string());
    let mut upstream = stdio(name, &[&program, &tools, &effects]);
    upstream.yaml.push_str("    isolation: shared\n");
    upstream
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

/// Debian's Chromium, as `make test` installs it.
const CHROMIUM: &str = "/usr/bin/chromium";

/// Chromium's sandbox wants another user than root, as which CI runs.
fn without_sandbox(flag: &str) -> Option<&str> {
    nix::unistd::geteuid().is_root().then_some(flag)
}

/// `@playwright/mcp` with a browser; what it writes goes under `folder`.
#[must_use]
pub fn playwright_browsing(folder: &Path) -> Upstream {
    let script = node_script("@playwright/mcp/cli.js");
    let folder = folder.display().to_string();
    let mut command = vec!["node", &script, "--headless", "--isolated"];
    command.extend(["--browser", "chromium", "--executable-path", CHROMIUM]);
    command.extend(["--output-dir", &folder]);
    command.extend(without_sandbox("--no-sandbox"));
    stdio("playwright", &command)
}

/// `chrome-devtools-mcp`, which sends nothing home.
#[must_use]
pub fn chrome_devtools() -> Upstream {
    let node = clients::node();
    let script = clients::node_script("chrome-devtools-mcp/build/src/bin/chrome-devtools-mcp.js");
    let mut command = vec![node.as_str(), &script, "--headless", "--isolated"];
    command.extend(["--executablePath", CHROMIUM]);
    command.extend(["--no-usage-statistics", "--no-performance-crux"]);
    command.extend(without_sandbox("--chromeArg=--no-sandbox"));
    stdio("chrome", &command)
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

/// The server of the conformance suites over stdio, in one era.
#[must_use]
pub fn conformance(name: &'static str, era: &str) -> Upstream {
    let program = built("conformance-fixture").display().to_string();
    stdio(name, &[&program, "--stdio", "--era", era])
}

/// A server already listening on HTTP.
#[must_use]
pub fn http(name: &'static str, transport: &str, url: &str) -> Upstream {
    Upstream {
        name,
        yaml: format!("    transport: {transport}\n    url: {url}\n    allow_private: true\n"),
    }
}

/// Starts `server-everything` on HTTP and waits for its port. `mode`: `streamableHttp` or `sse`.
///
/// # Panics
/// When it does not start.
#[expect(clippy::unwrap_used, reason = "a step that fails is the test failing")]
pub async fn everything_on_http(mode: &str) -> (Child, u16) {
    let port = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let script = node_script("@modelcontextprotocol/server-everything/dist/index.js");
    let child = Command::new("node")
        .args([script.as_str(), mode])
        .env("PORT", port.to_string())
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    eventually("server-everything listens", || async {
        tokio::net::TcpStream::connect(("127.0.0.1", port))
            .await
            .ok()
    })
    .await;
    (child, port)
}
