//! The shape of an agent's `config.yaml` (docs/tunnel.md § The agent's file). Reads; decides nothing.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Deserializer};
use serde_saphyr::Spanned;

use super::fault::{self, Fault};
use super::setting::Setting;
use crate::failure::Failure;
use crate::moment;

/// Largest file read; a thousand servers take a quarter of it.
const MAX_FILE_BYTES: u64 = 1024 * 1024;

/// The whole file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct AgentFile {
    /// 1.
    pub(crate) version: Spanned<u64>,
    /// The bridge.
    pub(crate) server: Spanned<Server>,
    /// Who this agent is.
    pub(crate) agent: Agent,
    /// What it offers.
    #[serde(default)]
    pub(crate) mcp_servers: Vec<Spanned<McpServer>>,
}

/// The bridge.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Server {
    /// `wss://…`, or `ws://` on loopback; `https` and `http` are understood.
    pub(crate) url: Spanned<String>,
    /// The token itself or a reference.
    #[serde(default)]
    pub(crate) token: Option<Spanned<Setting>>,
    /// A file that holds nothing but the token; read again whenever the agent connects.
    #[serde(default)]
    pub(crate) token_file: Option<Spanned<PathBuf>>,
    /// The first pause after a lost connection.
    #[serde(default)]
    pub(crate) reconnect_initial: Option<Spanned<Pause>>,
    /// The longest pause.
    #[serde(default)]
    pub(crate) reconnect_max: Option<Spanned<Pause>>,
}

/// Who this agent is.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Agent {
    /// `[A-Za-z0-9][A-Za-z0-9_-]{2,63}`.
    pub(crate) id: Spanned<String>,
    /// For people.
    #[serde(default)]
    pub(crate) label: Option<Spanned<String>>,
    /// Progress and log text waiting for the line, in bytes.
    #[serde(default)]
    pub(crate) chunk_buffer_bytes: Option<Spanned<usize>>,
    /// The largest piece of it in one frame, in bytes.
    #[serde(default)]
    pub(crate) chunk_max_frame_bytes: Option<Spanned<usize>>,
}

/// How a server is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Reached {
    /// A child process on stdio.
    Command,
    /// `command` or `url` tells; a URL is tried as streamable HTTP, then as HTTP+SSE.
    Auto,
    /// Streamable HTTP.
    StreamableHttp,
    /// HTTP+SSE of 2024-11-05.
    Sse,
}

/// One server.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct McpServer {
    /// `[a-z0-9][a-z0-9-]{0,62}`.
    pub(crate) name: Spanned<String>,
    /// How it is reached.
    #[serde(default, rename = "type")]
    pub(crate) reached: Option<Spanned<Reached>>,
    /// The program.
    #[serde(default)]
    pub(crate) command: Option<Spanned<String>>,
    /// Its arguments.
    #[serde(default)]
    pub(crate) args: Vec<Spanned<String>>,
    /// Variables added for it.
    #[serde(default)]
    pub(crate) env: BTreeMap<String, Spanned<Setting>>,
    /// Its working directory.
    #[serde(default)]
    pub(crate) cwd: Option<Spanned<PathBuf>>,
    /// Where it is.
    #[serde(default)]
    pub(crate) url: Option<Spanned<String>>,
    /// Sent with every request.
    #[serde(default)]
    pub(crate) headers: BTreeMap<String, Spanned<Setting>>,
    /// Only tools one of these patterns fits; all when left out.
    #[serde(default)]
    pub(crate) allow_tools: Vec<Spanned<String>>,
    /// No tool one of these patterns fits, whatever is allowed.
    #[serde(default)]
    pub(crate) deny_tools: Vec<Spanned<String>>,
}

/// `1s`, `500ms`, `2m`: a duration with its unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Pause(pub(crate) Duration);

impl<'de> Deserialize<'de> for Pause {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let unit = text.ends_with(|c: char| c.is_ascii_alphabetic());
        match moment::duration(&text) {
            Ok(pause) if unit => Ok(Self(pause)),
            _ => Err(serde::de::Error::custom(
                "a duration is a number with its unit: 500ms, 1s, 2m",
            )),
        }
    }
}

impl AgentFile {
    /// Reads the text of a file.
    ///
    /// # Errors
    /// The first complaint, with its place.
    pub(crate) fn parse(text: &str) -> Result<Self, Fault> {
        crate::yaml::read(text).map_err(|error| Fault::read(&error))
    }

    /// Reads a file.
    ///
    /// # Errors
    /// A usage failure that names the place.
    pub(crate) fn load(path: &Path) -> Result<Self, Failure> {
        let text = read(path)?;
        Self::parse(&text).map_err(|fault| fault::failure(&name_of(path), &[fault]))
    }
}

/// A file's text, within the bound.
///
/// # Errors
/// A usage failure that names the file.
pub(crate) fn read(path: &Path) -> Result<String, Failure> {
    use std::io::Read as _;
    let failed = |why: String| Failure::usage(format!("{}: {why}", path.display()));
    let file = std::fs::File::open(path).map_err(|error| failed(error.to_string()))?;
    let mut text = String::new();
    let read = file.take(MAX_FILE_BYTES + 1).read_to_string(&mut text);
    let size = read.map_err(|error| failed(error.to_string()))?;
    if u64::try_from(size).unwrap_or(u64::MAX) > MAX_FILE_BYTES {
        return Err(failed(format!("is larger than {MAX_FILE_BYTES} bytes")));
    }
    Ok(text)
}

/// A file's own name, for complaints.
pub(crate) fn name_of(path: &Path) -> String {
    path.file_name().map_or_else(
        || path.display().to_string(),
        |name| name.to_string_lossy().into_owned(),
    )
}
