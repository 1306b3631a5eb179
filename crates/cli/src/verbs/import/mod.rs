//! `config import`: another program's servers as `servers:` of ours. Secrets are never copied: a literal one
//! becomes a reference to a variable that is listed, and what has no place in our file is listed too.

mod clean;
mod foreign;
mod insert;
mod members;
mod ours;
pub(crate) mod secrets;

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};

use indexmap::IndexMap;
use serde::Serialize;
use serde_json::json;

use self::foreign::Entry;
use self::ours::{Import, Server};
use crate::failure::Failure;
use crate::files::{self, Access};
use crate::output::{Mode, Output};
use crate::places::Places;
use crate::yaml;

/// A configuration file longer than this is no list of servers.
const MAX_FILE_BYTES: u64 = 64 * 1024 * 1024;

#[derive(Debug, Serialize)]
struct Document<'a> {
    servers: &'a IndexMap<String, Server>,
}

/// Prints what a host's configuration becomes, or adds it to a file.
///
/// # Errors
/// When nothing can be read, nothing is found, or the file cannot take it.
pub(crate) fn import(
    source: &str,
    write: Option<&Path>,
    output: &Output,
    places: &Places,
) -> Result<(), Failure> {
    let mut import = Import::new(places.home.clone());
    for path in sources(source, places)? {
        let shown = path.display().to_string();
        for entry in read(&path, &shown)? {
            import.add(&entry);
        }
        output.note(&format!("read {shown}"));
    }
    if import.servers.is_empty() && import.left_out.is_empty() {
        return Err(Failure::usage(format!("{source} names no MCP server")));
    }
    for note in &import.notes {
        output.note(note);
    }
    for left_out in &import.left_out {
        output.note(&format!("not carried over: {left_out}"));
    }
    for (variable, uses) in &import.to_set {
        output.note(&format!(
            "set {variable} in the bridge's environment: {}",
            uses.join(", ")
        ));
    }
    show(&import, write, output)
}

fn show(import: &Import, write: Option<&Path>, output: &Output) -> Result<(), Failure> {
    let document = Document {
        servers: &import.servers,
    };
    let text = yaml::write(&document)
        .map_err(|error| Failure::usage(format!("this cannot be written as YAML: {error}")))?;
    if let Some(path) = write {
        return add_to(path, &text, output);
    }
    if output.mode == Mode::Text {
        return output.raw(text.as_bytes());
    }
    let to_set: &BTreeMap<String, Vec<String>> = &import.to_set;
    let whole = json!({
        "servers": import.servers,
        "set": to_set,
        "not_carried_over": import.left_out,
    });
    output.raw_line(&whole.to_string())
}

fn add_to(path: &Path, text: &str, output: &Output) -> Result<(), Failure> {
    let shown = path.display().to_string();
    let failed = |error: std::io::Error| Failure::local_io(&shown, &error);
    let whole = match std::fs::read_to_string(path) {
        Ok(old) => insert::into(&old, text).map_err(|why| {
            Failure::usage(format!("{shown}: {why}"))
                .hint("without --write the servers are printed, to be put in by hand")
        })?,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => text.to_owned(),
        Err(error) => return Err(failed(error)),
    };
    if let Some(copy) = files::back_up(path).map_err(failed)? {
        output.note(&format!("the old file is kept as {}", copy.display()));
    }
    files::replace(path, whole.as_bytes(), Access::Private).map_err(failed)?;
    output.raw_line(&format!("wrote {shown}"))
}

/// The files a host reads that exist here: the project's first, because the first of two equal names wins.
fn sources(source: &str, places: &Places) -> Result<Vec<PathBuf>, Failure> {
    let home = |path: &str| places.home.join(path);
    let config = |path: &str| places.config_home.join(path);
    let candidates = match source {
        "claude-code" => vec![PathBuf::from(".mcp.json"), home(".claude.json")],
        "codex" => {
            let own = std::env::var_os("CODEX_HOME").map_or_else(|| home(".codex"), PathBuf::from);
            vec![PathBuf::from(".codex/config.toml"), own.join("config.toml")]
        }
        "opencode" => vec![
            PathBuf::from("opencode.json"),
            PathBuf::from("opencode.jsonc"),
            config("opencode/opencode.json"),
            config("opencode/opencode.jsonc"),
        ],
        "cursor" => vec![PathBuf::from(".cursor/mcp.json"), home(".cursor/mcp.json")],
        "vscode" => vec![
            PathBuf::from(".vscode/mcp.json"),
            config("Code/User/mcp.json"),
            home("Library/Application Support/Code/User/mcp.json"),
        ],
        file => {
            let path = PathBuf::from(file);
            if path.is_file() {
                return Ok(vec![path]);
            }
            return Err(Failure::usage(format!("there is no file {file}"))
                .hint("name a file, or claude-code, codex, opencode, cursor or vscode"));
        }
    };
    let mut there: Vec<PathBuf> = Vec::new();
    let mut seen = HashSet::new();
    for path in candidates.iter().filter(|path| path.is_file()) {
        // In the home directory the project's file and the user's may be one.
        if seen.insert(path.canonicalize().unwrap_or_else(|_gone| path.clone())) {
            there.push(path.clone());
        }
    }
    if there.is_empty() {
        let looked: Vec<String> = candidates
            .iter()
            .map(|path| path.display().to_string())
            .collect();
        return Err(Failure::usage(format!(
            "no configuration of {source} here; looked for {}",
            looked.join(", ")
        )));
    }
    Ok(there)
}

fn read(path: &Path, shown: &str) -> Result<Vec<Entry>, Failure> {
    let failed = |error: std::io::Error| Failure::usage(format!("{shown}: {error}"));
    let size_bytes = std::fs::metadata(path).map_err(failed)?.len();
    if size_bytes > MAX_FILE_BYTES {
        return Err(Failure::usage(format!(
            "{shown} is too long to be a configuration"
        )));
    }
    let text = std::fs::read_to_string(path).map_err(failed)?;
    let document =
        foreign::document(path, &text).map_err(|why| Failure::usage(format!("{shown}: {why}")))?;
    let here = std::env::current_dir().unwrap_or_default();
    foreign::entries(&document, &here.display().to_string())
        .map_err(|why| Failure::usage(format!("{shown}: {why}")))
}
