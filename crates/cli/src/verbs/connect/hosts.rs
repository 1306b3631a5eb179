//! Which file each host reads for its MCP servers, and how an entry there looks. What is written here was
//! read in the hosts' own documentation and sources; see `docs/hosts.md`. Reads the environment, no file.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::entry::{Entry, Member, PROGRAM, TOKEN_INPUT, TOKEN_VARIABLE};
use crate::options::{Host, Scope, Via};
use crate::places::Places;

/// How the host is to reach the bridge.
#[derive(Debug)]
pub(crate) struct Way<'a> {
    /// Over HTTP or by starting this program.
    pub(crate) via: Via,
    /// The MCP endpoint.
    pub(crate) url: String,
    /// The workspace, where it is not the key's own.
    pub(crate) workspace: Option<&'a str>,
    /// This program's arguments.
    pub(crate) arguments: Vec<String>,
}

/// The file a host reads, existing or not.
pub(crate) fn file(host: Host, scope: Scope, places: &Places) -> PathBuf {
    let home = |path: &str| places.home.join(path);
    let own = |variable: &str, default: PathBuf| {
        let set = std::env::var_os(variable).filter(|value| !value.is_empty());
        set.map_or(default, PathBuf::from)
    };
    match (host, scope) {
        (Host::ClaudeCode, Scope::User) => {
            own("CLAUDE_CONFIG_DIR", places.home.clone()).join(".claude.json")
        }
        (Host::ClaudeCode, Scope::Project) => PathBuf::from(".mcp.json"),
        (Host::Codex, Scope::User) => own("CODEX_HOME", home(".codex")).join("config.toml"),
        (Host::Codex, Scope::Project) => PathBuf::from(".codex/config.toml"),
        (Host::Opencode, Scope::User) => opencode(&[places.config_home.join("opencode")]),
        (Host::Opencode, Scope::Project) => opencode(&[PathBuf::new(), PathBuf::from(".opencode")]),
        (Host::Cursor, Scope::User) => home(".cursor/mcp.json"),
        (Host::Cursor, Scope::Project) => PathBuf::from(".cursor/mcp.json"),
        (Host::Vscode, Scope::User) => code(places).join("Code/User/mcp.json"),
        (Host::Vscode, Scope::Project) => PathBuf::from(".vscode/mcp.json"),
        (Host::Gemini, Scope::User) => home(".gemini/settings.json"),
        (Host::Gemini, Scope::Project) => PathBuf::from(".gemini/settings.json"),
    }
}

/// The entry as the host wants it; `document` is what its file says so far.
pub(crate) fn entry(host: Host, name: String, way: &Way<'_>, document: &Value) -> Entry {
    let http = way.via == Via::Http;
    let members = match (host, http) {
        (Host::Codex, true) => codex_http(way),
        (Host::Codex, false) => {
            let mut members = started(way);
            // Codex starts servers with a short list of variables, and this one is not on it.
            let passed = Member::List(vec![TOKEN_VARIABLE.to_owned()]);
            members.push(("env_vars", passed));
            members
        }
        (Host::Opencode, _) => opencode_members(way, flat(document)),
        (Host::ClaudeCode | Host::Vscode, true) => {
            let mut members = vec![("type", text("http")), ("url", text(&way.url))];
            let token = match host {
                Host::Vscode => format!("${{input:{TOKEN_INPUT}}}"),
                _ => format!("${{{TOKEN_VARIABLE}}}"),
            };
            members.push(("headers", headers(&token, way)));
            members
        }
        (Host::ClaudeCode | Host::Vscode, false) => {
            let mut members = vec![("type", text("stdio"))];
            members.extend(started(way));
            members
        }
        (Host::Cursor, true) => vec![
            ("url", text(&way.url)),
            (
                "headers",
                headers(&format!("${{env:{TOKEN_VARIABLE}}}"), way),
            ),
        ],
        (Host::Gemini, true) => vec![
            ("httpUrl", text(&way.url)),
            ("headers", headers(&format!("${{{TOKEN_VARIABLE}}}"), way)),
        ],
        (Host::Cursor | Host::Gemini, false) => started(way),
    };
    let place: &[&str] = match host {
        Host::Codex => &["mcp_servers"],
        Host::Opencode if flat(document) => &["mcp"],
        Host::Opencode => &["mcp", "servers"],
        Host::Vscode => &["servers"],
        Host::ClaudeCode | Host::Cursor | Host::Gemini => &["mcpServers"],
    };
    Entry {
        place,
        name,
        members,
        input: (host == Host::Vscode && http).then(vscode_input),
    }
}

/// Whether OpenCode's file is one of version 1, which has servers right under `mcp`. Without any sign it
/// is taken for version 2, whose documentation is the current one.
pub(crate) fn flat(document: &Value) -> bool {
    let mcp = document.get("mcp").and_then(Value::as_object);
    for (name, value) in mcp.into_iter().flatten() {
        match value.as_object() {
            // A server of version 1 may itself be called `servers`; then it has a type or a switch.
            Some(servers) if name == "servers" => return !servers.values().all(Value::is_object),
            Some(_server) => return true,
            None => {}
        }
    }
    let has = |names: [&str; 3]| names.iter().any(|name| document.get(*name).is_some());
    has(["agent", "command", "permission"]) && !has(["agents", "commands", "permissions"])
}

fn opencode_members(way: &Way<'_>, flat: bool) -> Vec<(&'static str, Member)> {
    let mut members = if way.via == Via::Http {
        vec![
            ("type", text("remote")),
            ("url", text(&way.url)),
            (
                "headers",
                headers(&format!("{{env:{TOKEN_VARIABLE}}}"), way),
            ),
        ]
    } else {
        let mut command = vec![PROGRAM.to_owned()];
        command.extend_from_slice(&way.arguments);
        vec![("type", text("local")), ("command", Member::List(command))]
    };
    if flat {
        members.push(("enabled", Member::Flag(true)));
    }
    members
}

fn codex_http(way: &Way<'_>) -> Vec<(&'static str, Member)> {
    let mut members = vec![
        ("url", text(&way.url)),
        ("bearer_token_env_var", text(TOKEN_VARIABLE)),
    ];
    if let Some(workspace) = way.workspace {
        let headers = Member::Table(vec![("X-Workspace", text(workspace))]);
        members.push(("http_headers", headers));
    }
    members
}

fn started(way: &Way<'_>) -> Vec<(&'static str, Member)> {
    vec![
        ("command", text(PROGRAM)),
        ("args", Member::List(way.arguments.clone())),
    ]
}

fn headers(token: &str, way: &Way<'_>) -> Member {
    let mut headers = vec![("Authorization", text(&format!("Bearer {token}")))];
    headers.extend(
        way.workspace
            .map(|workspace| ("X-Workspace", text(workspace))),
    );
    Member::Table(headers)
}

fn vscode_input() -> Member {
    Member::Table(vec![
        ("type", text("promptString")),
        ("id", text(TOKEN_INPUT)),
        ("description", text("Key of the PaperBot MCP bridge")),
        ("password", Member::Flag(true)),
    ])
}

fn text(text: &str) -> Member {
    Member::Text(text.to_owned())
}

/// The first of OpenCode's files that is there; its own preference where none is.
fn opencode(directories: &[PathBuf]) -> PathBuf {
    let candidates = directories
        .iter()
        .flat_map(|directory| ["opencode.jsonc", "opencode.json"].map(|name| directory.join(name)));
    let there = candidates.into_iter().find(|path| path.is_file());
    let first = directories.first().map(PathBuf::as_path);
    there.unwrap_or_else(|| first.unwrap_or(Path::new("")).join("opencode.json"))
}

/// Where editors of this kind keep their users' data.
fn code(places: &Places) -> PathBuf {
    if cfg!(target_os = "macos") {
        places.home.join("Library/Application Support")
    } else if let (true, Some(data)) = (cfg!(windows), std::env::var_os("APPDATA")) {
        PathBuf::from(data)
    } else {
        places.config_home.clone()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn opencodes_version_shows_in_its_file() {
        for version_1 in [
            json!({"mcp": {"jira": {"type": "remote", "url": "https://x"}}}),
            json!({"mcp": {"servers": {"type": "local", "command": ["x"], "enabled": true}}}),
            json!({"agent": {}, "mcp": {}}),
        ] {
            assert!(flat(&version_1), "{version_1}");
        }
        for version_2 in [
            json!({}),
            json!({"mcp": {"servers": {"a": {"type": "local"}}}}),
            json!({"mcp": {"servers": {}}}),
            json!({"mcp": {"timeout": 5}}),
            json!({"agents": {}, "permission": {}}),
        ] {
            assert!(!flat(&version_2), "{version_2}");
        }
    }
}
