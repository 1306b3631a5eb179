use std::path::Path;

use super::check::{Plan, check, tunnel_url};
use super::file::AgentFile;
use super::kind::{Kind, of};

const HEAD: &str =
    "version: 1\nserver: {url: \"wss://bridge.example\", token_file: /t}\nagent: {id: my-laptop}\n";

fn plan(text: &str) -> Result<Plan, Vec<String>> {
    let named = |fault: &super::fault::Fault| fault.line("config.yaml");
    let file = AgentFile::parse(text).map_err(|fault| vec![named(&fault)])?;
    check(&file, Path::new("/home/ann")).map_err(|faults| faults.iter().map(named).collect())
}

fn complaint(text: &str) -> String {
    match plan(text) {
        Ok(plan) => panic!("it was taken: {plan:?}"),
        Err(faults) => faults.join("\n"),
    }
}

#[test]
fn a_whole_file_is_understood() {
    let text = "\
version: 1
server:
  url: https://bridge.example
  token: {secret: \"env:AGENT_TOKEN\"}
  reconnect_initial: 500ms
  reconnect_max: 2m
agent: {id: my-laptop, label: Ann's laptop, chunk_buffer_bytes: 1048576, chunk_max_frame_bytes: 4096}
mcp_servers:
  - name: files
    type: command
    command: npx
    args: [-y, server-filesystem, /data]
    env: {API_KEY: {secret: \"file:/run/key\"}, MODE: plain}
    deny_tools: [\"write_*\"]
  - {name: wiki, url: \"http://intranet.example/mcp\", headers: {Authorization: {secret: \"env:WIKI\", prefix: \"Bearer \"}}}
  - {name: old, type: sse, url: \"http://intranet.example/sse\"}
";
    let plan = plan(text).unwrap();
    assert_eq!(plan.url.as_str(), "wss://bridge.example/v1/agents/tunnel");
    assert_eq!(plan.reconnect_initial.unwrap().as_millis(), 500);
    assert_eq!(plan.servers.len(), 3);
    assert_eq!(plan.servers[0].deny_tools, ["write_*"]);
}

/// Each text's complaint must hold what is expected of it, and begin with a place.
fn told(mistakes: &[(String, &str)]) {
    let mut wrong = Vec::new();
    for (text, told) in mistakes {
        let complaint = complaint(text);
        if !complaint.contains(told) || !complaint.starts_with("config.yaml:") {
            wrong.push(format!("{complaint}\n  is not: {told}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_mistake_about_the_agent_is_told_with_its_line_and_column() {
    told(&[
        (
            "version: 2\nserver: {url: \"wss://b\", token_file: t}\nagent: {id: abc}\n".to_owned(),
            "config.yaml:1:10: this program knows version 1 only",
        ),
        (
            HEAD.replace("agent:", "agnet:"),
            "config.yaml:3:1: unknown key `agnet`; did you mean `agent`?",
        ),
        (
            HEAD.replace("token_file", "token_fiel"),
            "config.yaml:2:39: unknown key `token_fiel`; did you mean `token_file`?",
        ),
        (
            HEAD.replace("my-laptop", "a b"),
            "config.yaml:3:13: an agent's id has 3 to 64",
        ),
        (
            HEAD.replace("wss://", "ws://"),
            "config.yaml:2:15: is not encrypted",
        ),
        (
            HEAD.replace("token_file: /t", "reconnect_max: 60"),
            "a duration is a number with its unit",
        ),
    ]);
}

#[test]
fn every_mistake_about_a_server_is_told_with_its_line_and_column() {
    let server = |server: &str| format!("{HEAD}mcp_servers:\n  - {server}\n");
    told(&[
        (
            server("{name: A, command: x}"),
            "config.yaml:5:12: a server's name has 1 to 63",
        ),
        (
            server("{name: a}"),
            "config.yaml:5:5: the server has neither `command` nor `url`",
        ),
        (
            server("{name: a, command: x, url: \"http://x\"}"),
            "config.yaml:5:32: `command` and `url` exclude each other",
        ),
        (
            server("{name: a, type: comand, command: x}"),
            "unknown value `comand`; did you mean `command`?",
        ),
        (
            server("{name: a, command: \"npx -y thing\"}"),
            "config.yaml:5:24: is one program without a shell",
        ),
        (
            server("{name: a, command: x, args: [--api-key, abc]}"),
            "config.yaml:5:34: a secret in a command line",
        ),
        (
            server("{name: a, command: x, env: {PORT: 8080}}"),
            "config.yaml:5:39: a number or truth value stands here",
        ),
        (
            server("{name: a, command: x, env: {K: {secrt: \"env:X\"}}}"),
            "unknown key `secrt`; did you mean `secret`?",
        ),
        (
            server("{name: a, command: x, env: {K: {secret: \"store:x\"}}}"),
            "config.yaml:5:36: store: and vault: references are the bridge's",
        ),
        (
            server("{name: a, url: \"http://u:p@x/mcp\"}"),
            "config.yaml:5:20: holds a user or password",
        ),
        (
            format!(
                "{HEAD}mcp_servers:\n  - {{name: a, command: x}}\n  - {{name: a, command: y}}\n"
            ),
            "config.yaml:6:12: another server has this name already",
        ),
        (format!("{HEAD}mcp_servers: [\n"), "config.yaml:"),
    ]);
}

#[test]
fn all_mistakes_are_told_at_once() {
    let text = "version: 1\nserver: {url: \"ftp://b\"}\nagent: {id: x}\nmcp_servers: [{name: a}]\n";
    assert_eq!(complaint(text).lines().count(), 4);
}

#[test]
fn no_complaint_quotes_a_value() {
    for text in [
        format!("{HEAD}mcp_servers: [{{name: a, command: x, env: {{K: [s3cr3t-value]}}}}]\n"),
        HEAD.replace("token_file: /t", "token: [s3cr3t-value]"),
        HEAD.replace("version: 1", "version: s3cr3t-value"),
        format!("{HEAD}mcp_servers: s3cr3t-value\n"),
    ] {
        assert!(!complaint(&text).contains("s3cr3t"), "{}", complaint(&text));
    }
}

#[test]
fn an_address_gets_the_bridges_path_unless_it_has_one() {
    for (text, url) in [
        ("wss://b.example", "wss://b.example/v1/agents/tunnel"),
        (
            "http://127.0.0.1:8787/",
            "ws://127.0.0.1:8787/v1/agents/tunnel",
        ),
        (
            "https://b.example/paperbot/v1/agents/tunnel",
            "wss://b.example/paperbot/v1/agents/tunnel",
        ),
        ("ws://[::1]:8787", "ws://[::1]:8787/v1/agents/tunnel"),
    ] {
        assert_eq!(tunnel_url(text).unwrap().as_str(), url);
    }
    for bad in [
        "ws://192.0.2.1/",
        "wss://u:p@b.example",
        "wss://b.example?token=x",
        "b.example",
    ] {
        assert!(tunnel_url(bad).is_err(), "{bad}");
    }
}

#[test]
fn content_tells_whose_a_file_is() {
    assert_eq!(of(HEAD), Kind::Agent);
    assert_eq!(of("{\"version\": 1, \"agent\": {}}"), Kind::Agent);
    assert_eq!(of("mcp_servers:\n\t- broken: ["), Kind::Agent);
    assert_eq!(
        of("listen: 127.0.0.1:1\nservers: {agent: {transport: stdio}}\n"),
        Kind::Bridge
    );
    assert_eq!(of(""), Kind::Bridge);
}
