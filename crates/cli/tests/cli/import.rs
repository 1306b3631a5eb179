//! `config import`: every host's file becomes ours, and no secret comes along.

use crate::program::{Ended, Program};

const CLAUDE: &str = r#"{"mcpServers": {
  "github": {"type": "http", "url": "https://api.example/mcp", "headers": {"Authorization": "Bearer ${GITHUB_TOKEN}"}},
  "My_Files": {"command": "npx", "args": ["-y", "server-filesystem", "/data"], "env": {"MODE": "fast", "API_KEY": "literal-hunter2"}},
  "old": {"type": "sse", "url": "http://localhost:3001/sse", "autoApprove": ["x"]},
  "odd": {"type": "ws", "url": "ws://x/"}
}}"#;

const VSCODE: &str = r#"{
  // a comment
  "inputs": [{"type": "promptString", "id": "gh-token", "password": true}],
  "servers": {
    "gh": {"type": "http", "url": "https://x.example/mcp", "headers": {"X-Api-Key": "${input:gh-token}"}},
    "here": {"type": "stdio", "command": "${workspaceFolder}/run.sh", "envFile": ".env",},
  },
}"#;

const CODEX: &str = r#"
model = "x"
[mcp_servers.docs]
url = "https://docs.example/mcp"
bearer_token_env_var = "DOCS_TOKEN"
tool_timeout_sec = 30
enabled_tools = ["a"]
[mcp_servers.docs.env_http_headers]
X-Team = "TEAM"
[mcp_servers.local]
command = "uvx"
args = ["thing", "--token", "literal-hunter2"]
env_vars = ["HOME_DIR"]
enabled = false
"#;

const OPENCODE_1: &str = r#"{"mcp": {"fs": {"type": "local", "command": ["bun", "x", "fs"], "environment": {"T_TOKEN": "{env:T}"}, "enabled": true}}}"#;
const OPENCODE_2: &str = r#"{"mcp": {"servers": {"web": {"type": "remote", "url": "https://w.example/mcp?api_key=literal-hunter2&v=1", "disabled": true}}}}"#;
const CURSOR: &str = r#"{"mcpServers": {"c": {"command": "x", "env": {"K_TOKEN": "${env:K}"}}, "d": {"url": "http://127.0.0.1:9/mcp", "headers": {"Authorization": "Bearer literal-hunter2"}}}}"#;

fn import(files: &[(&str, &str)], arguments: &[&str]) -> Ended {
    let program = Program::alone();
    for (path, text) in files {
        program.file(path, text);
    }
    let ended = program.run(arguments);
    assert!(!format!("{ended:?}").contains("hunter2"), "{ended:?}");
    ended
}

#[test]
fn claude_code() {
    let ended = import(
        &[(".mcp.json", CLAUDE)],
        &["config", "import", "claude-code"],
    );
    insta::assert_snapshot!(ended.stdout, @r#"
    servers:
      my-files:
        transport: stdio
        command:
        - npx
        - -y
        - server-filesystem
        - /data
        env:
          API_KEY:
            secret: env:API_KEY
          MODE: fast
      github:
        transport: streamable_http
        url: https://api.example/mcp
        headers:
          Authorization:
            secret: env:GITHUB_TOKEN
            prefix: "Bearer "
      old:
        transport: sse
        url: http://localhost:3001/sse
        allow_private: true
    "#);
    insta::assert_snapshot!(ended.stderr, @r"
    read .mcp.json
    `My_Files` is named `my-files` here
    not carried over: odd (its transport is unknown)
    not carried over: old.autoApprove
    set API_KEY in the bridge's environment: my-files API_KEY
    set GITHUB_TOKEN in the bridge's environment: github Authorization
    ");
}

#[test]
fn vs_code() {
    let ended = import(
        &[(".vscode/mcp.json", VSCODE)],
        &["config", "import", "vscode"],
    );
    insta::assert_snapshot!(ended.stdout, @r"
    servers:
      gh:
        transport: streamable_http
        url: https://x.example/mcp
        headers:
          X-Api-Key:
            secret: env:GH_TOKEN
      here:
        transport: stdio
        command:
        - ${workspaceFolder}/run.sh
    ");
    insta::assert_snapshot!(ended.stderr, @r"
    read .vscode/mcp.json
    not carried over: here: `${…}` in its command or cwd stays as text; edit it
    not carried over: here.envFile
    set GH_TOKEN in the bridge's environment: gh X-Api-Key
    ");
}

#[test]
fn codex() {
    let ended = import(
        &[(".codex/config.toml", CODEX)],
        &["config", "import", "codex"],
    );
    insta::assert_snapshot!(ended.stdout, @r#"
    servers:
      docs:
        transport: streamable_http
        url: https://docs.example/mcp
        headers:
          X-Team:
            secret: env:TEAM
          Authorization:
            secret: env:DOCS_TOKEN
            prefix: "Bearer "
        timeout_ms: 30000
      local:
        transport: stdio
        command:
        - uvx
        - thing
        env:
          HOME_DIR:
            secret: env:HOME_DIR
        disabled: true
    "#);
    insta::assert_snapshot!(ended.stderr, @r"
    read .codex/config.toml
    not carried over: docs.enabled_tools
    not carried over: local: the secret after --token in its command; pass it by env
    set DOCS_TOKEN in the bridge's environment: docs Authorization
    set HOME_DIR in the bridge's environment: local HOME_DIR
    set TEAM in the bridge's environment: docs X-Team
    ");
}

#[test]
fn opencode_of_both_versions() {
    let files = [
        ("opencode.json", OPENCODE_1),
        (".config/opencode/opencode.jsonc", OPENCODE_2),
    ];
    let ended = import(&files, &["config", "import", "opencode"]);
    insta::assert_snapshot!(ended.stdout, @r"
    servers:
      fs:
        transport: stdio
        command:
        - bun
        - x
        - fs
        env:
          T_TOKEN:
            secret: env:T
      web:
        transport: streamable_http
        url: https://w.example/mcp?v=1
        disabled: true
    ");
}

#[test]
fn cursor_and_a_file_named_by_its_path() {
    let ended = import(
        &[(".cursor/mcp.json", CURSOR)],
        &["config", "import", "cursor"],
    );
    insta::assert_snapshot!(ended.stdout, @r#"
    servers:
      c:
        transport: stdio
        command:
        - x
        env:
          K_TOKEN:
            secret: env:K
      d:
        transport: streamable_http
        url: http://127.0.0.1:9/mcp
        allow_private: true
        headers:
          Authorization:
            secret: env:D_AUTHORIZATION
            prefix: "Bearer "
    "#);
    let named = import(&[("any.json", CURSOR)], &["config", "import", "any.json"]);
    assert_eq!(named.stdout, ended.stdout);
}

#[test]
fn the_projects_file_goes_before_the_users() {
    let user = r#"{"mcpServers": {"a": {"command": "user"}}, "projects": {}}"#;
    let project = r#"{"mcpServers": {"a": {"command": "project"}}}"#;
    let ended = import(
        &[(".claude.json", user), (".mcp.json", project)],
        &["config", "import", "claude-code"],
    );
    assert!(ended.stdout.contains("- project"), "{ended:?}");
    assert!(
        ended
            .stderr
            .contains("not carried over: a (the name is taken)"),
        "{ended:?}"
    );
}

#[test]
fn write_adds_to_a_file_and_keeps_the_old_one() {
    let program = Program::alone();
    program.file(".cursor/mcp.json", CURSOR);
    program.file(
        "bridge.yaml",
        "# mine\nservers:\n  demo: {transport: sse, url: http://x/}\n",
    );
    program
        .run(&["config", "import", "cursor", "--write", "bridge.yaml"])
        .ok();
    let text = program.read("bridge.yaml");
    assert!(
        text.starts_with("# mine\nservers:\n  c:\n    transport: stdio\n"),
        "{text}"
    );
    assert!(
        text.ends_with("  demo: {transport: sse, url: http://x/}\n"),
        "{text}"
    );
    assert!(
        program
            .read("bridge.yaml.bak")
            .starts_with("# mine\nservers:\n  demo")
    );
    let again = program.run(&["config", "import", "cursor", "--write", "bridge.yaml"]);
    assert_eq!(again.code, 2);
    assert!(
        again.error()["message"]
            .as_str()
            .unwrap()
            .contains("a server named `c` already")
    );
    assert_eq!(program.read("bridge.yaml"), text);
}

#[test]
fn what_is_not_there_or_not_readable_is_told() {
    let program = Program::alone();
    let absent = program.run(&["config", "import", "codex"]);
    assert_eq!(absent.code, 2);
    assert!(
        absent.error()["message"]
            .as_str()
            .unwrap()
            .contains(".codex/config.toml")
    );
    program.file("bad.json", "{\"mcpServers\": {\"a\": \"hunter2\" ?}}");
    let bad = program.run(&["config", "import", "bad.json"]);
    assert_eq!(bad.code, 2);
    assert!(bad.stderr.contains("line 1, column "), "{bad:?}");
    assert!(!bad.stderr.contains("hunter2"), "{bad:?}");
    program.file("tools.yaml", "server: {}\n");
    assert!(
        program
            .run(&["config", "import", "tools.yaml"])
            .stderr
            .contains("not in this version")
    );
}
