//! An agent's file as it may be shown to anybody: every literal that could be a secret is masked.

use serde_json::{Map, Value, json};
use serde_saphyr::Spanned;

use super::file::{AgentFile, McpServer, Pause, Reached};

/// What stands in place of a literal value.
pub(crate) const MASK: &str = "[set]";

/// The file without its secrets.
pub(crate) fn shown(file: &AgentFile) -> Value {
    let server = &file.server.value;
    let mut bridge = Map::new();
    put(&mut bridge, "url", Some(json!(server.url.value)));
    let token = server.token.as_ref().map(|token| token.value.shown());
    put(&mut bridge, "token", token);
    let token_file = server.token_file.as_ref();
    put(
        &mut bridge,
        "token_file",
        token_file.map(|file| json!(file.value)),
    );
    put(
        &mut bridge,
        "reconnect_initial",
        pause(server.reconnect_initial.as_ref()),
    );
    put(
        &mut bridge,
        "reconnect_max",
        pause(server.reconnect_max.as_ref()),
    );
    let mut agent = Map::new();
    put(&mut agent, "id", Some(json!(file.agent.id.value)));
    let text = |text: &Spanned<String>| json!(text.value);
    let number = |number: &Spanned<usize>| json!(number.value);
    put(&mut agent, "label", file.agent.label.as_ref().map(text));
    let buffer = file.agent.chunk_buffer_bytes.as_ref();
    put(&mut agent, "chunk_buffer_bytes", buffer.map(number));
    let frame = file.agent.chunk_max_frame_bytes.as_ref();
    put(&mut agent, "chunk_max_frame_bytes", frame.map(number));
    let servers = file.mcp_servers.iter().map(|server| one(&server.value));
    json!({
        "version": file.version.value,
        "server": bridge,
        "agent": agent,
        "mcp_servers": servers.collect::<Vec<_>>(),
    })
}

fn one(server: &McpServer) -> Value {
    let mut members = Map::new();
    put(&mut members, "name", Some(json!(server.name.value)));
    let reached = server.reached.as_ref().map(|reached| match reached.value {
        Reached::Command => json!("command"),
        Reached::Auto => json!("auto"),
        Reached::StreamableHttp => json!("streamable_http"),
        Reached::Sse => json!("sse"),
    });
    put(&mut members, "type", reached);
    put(
        &mut members,
        "command",
        server.command.as_ref().map(|c| json!(c.value)),
    );
    put(&mut members, "args", list(&server.args));
    let settings = |of: &std::collections::BTreeMap<String, Spanned<super::setting::Setting>>| {
        let shown: Map<String, Value> = of
            .iter()
            .map(|(name, setting)| (name.clone(), setting.value.shown()))
            .collect();
        (!shown.is_empty()).then_some(Value::Object(shown))
    };
    put(&mut members, "env", settings(&server.env));
    put(
        &mut members,
        "cwd",
        server.cwd.as_ref().map(|cwd| json!(cwd.value)),
    );
    put(
        &mut members,
        "url",
        server.url.as_ref().map(|url| json!(url.value)),
    );
    put(&mut members, "headers", settings(&server.headers));
    put(&mut members, "allow_tools", list(&server.allow_tools));
    put(&mut members, "deny_tools", list(&server.deny_tools));
    Value::Object(members)
}

fn put(members: &mut Map<String, Value>, name: &str, value: Option<Value>) {
    if let Some(value) = value {
        members.insert(name.to_owned(), value);
    }
}

fn list(words: &[Spanned<String>]) -> Option<Value> {
    let words: Vec<&str> = words.iter().map(|word| word.value.as_str()).collect();
    (!words.is_empty()).then(|| json!(words))
}

fn pause(pause: Option<&Spanned<Pause>>) -> Option<Value> {
    pause.map(|pause| json!(format!("{}ms", pause.value.0.as_millis())))
}
