//! Where each program's file keeps its servers: JSON, JSONC or TOML, whatever the program. Pure.

use std::path::Path;

use serde_json::{Map, Value};

use crate::position::line_and_column;

/// One server as its file has it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Entry {
    /// As in the file.
    pub(crate) name: String,
    /// Its members, in whatever dialect.
    pub(crate) members: Map<String, Value>,
}

/// Why a file gives no servers. Never quotes the file.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unreadable {
    /// The syntax is wrong.
    #[error("line {line}, column {column}: {what}")]
    Syntax {
        /// From 1.
        line: usize,
        /// From 1.
        column: usize,
        /// In words.
        what: String,
    },
    /// YAML files describe REST tools, which this version cannot serve.
    #[error(
        "YAML templates of REST tools are not in this version; give a JSON, JSONC or TOML file"
    )]
    Templates,
    /// None of the known places is there.
    #[error("holds none of mcpServers, servers, mcp, [mcp_servers]")]
    NoServers,
}

/// Reads the text by the file's name.
pub(crate) fn document(path: &Path, text: &str) -> Result<Value, Unreadable> {
    let extension = path.extension().and_then(|extension| extension.to_str());
    match extension {
        Some("toml") => toml_edit::de::from_str(text).map_err(|error| {
            let at = error.span().map_or(0, |span| span.start);
            let (line, column) = line_and_column(text, at);
            let what = error.message().to_owned();
            Unreadable::Syntax { line, column, what }
        }),
        Some("yaml" | "yml") => Err(Unreadable::Templates),
        _ => jsonc_parser::parse_to_serde_value(text, &jsonc_parser::ParseOptions::default())
            .map_err(|error| {
                let (line, column) = line_and_column(text, error.range().start);
                let what = error.kind().to_string();
                Unreadable::Syntax { line, column, what }
            }),
    }
}

/// Every server of a document. `here` is the project whose own servers Claude Code keeps in the user's file.
pub(crate) fn entries(document: &Value, here: &str) -> Result<Vec<Entry>, Unreadable> {
    let project = document
        .get("projects")
        .and_then(|projects| projects.get(here));
    let mcp = document.get("mcp");
    let places = [
        project.and_then(|project| project.get("mcpServers")),
        document.get("mcpServers"),
        document.get("servers"),
        document.get("mcp_servers"),
        mcp.and_then(|mcp| mcp.get("servers")),
        mcp.filter(|mcp| mcp.get("servers").is_none()),
    ];
    let found: Vec<&Map<String, Value>> = places
        .into_iter()
        .flatten()
        .filter_map(Value::as_object)
        .collect();
    if found.is_empty() {
        return Err(Unreadable::NoServers);
    }
    let all = found.into_iter().flatten();
    Ok(all
        .filter_map(|(name, members)| {
            Some(Entry {
                name: name.clone(),
                members: members.as_object()?.clone(),
            })
        })
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(file: &str, text: &str) -> Vec<String> {
        let document = document(Path::new(file), text).unwrap();
        let entries = entries(&document, "/project").unwrap();
        entries.into_iter().map(|entry| entry.name).collect()
    }

    #[test]
    fn each_program_keeps_its_servers_elsewhere() {
        let server = r#"{"a": {"command": "x"}}"#;
        for key in ["mcpServers", "servers", "mcp"] {
            let text = format!("// a comment\n{{\"{key}\": {server},}}");
            assert_eq!(names("x.json", &text), ["a"], "{key}");
        }
        assert_eq!(
            names("x.jsonc", &format!("{{\"mcp\":{{\"servers\":{server}}}}}")),
            ["a"]
        );
        assert_eq!(names("x.toml", "[mcp_servers.a]\ncommand = \"x\"\n"), ["a"]);
        let claude = format!(
            "{{\"mcpServers\":{{\"u\":{{}}}},\"projects\":{{\"/project\":{{\"mcpServers\":{server}}},\"/other\":{{\"mcpServers\":{{\"o\":{{}}}}}}}}}}"
        );
        assert_eq!(names(".claude.json", &claude), ["a", "u"]);
    }

    #[test]
    fn what_cannot_be_read_says_where_and_quotes_nothing() {
        let secret = "{\n  \"mcpServers\": {\"a\": {\"env\": {\"K\": \"hunter2\" ? }}}}";
        let error = document(Path::new("x.json"), secret)
            .unwrap_err()
            .to_string();
        assert!(error.starts_with("line 2, column "), "{error}");
        assert!(!error.contains("hunter2"), "{error}");
        let error = document(Path::new("x.toml"), "a = \"hunter2\"\nb = = 1\n").unwrap_err();
        assert!(error.to_string().starts_with("line 2, column "), "{error}");
        assert!(!error.to_string().contains("hunter2"), "{error}");
        assert!(entries(&serde_json::json!({"theme": "dark"}), "/").is_err());
    }
}
