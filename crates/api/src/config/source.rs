//! Where the configuration comes from: one YAML file, then the environment. Errors name the place and
//! never quote a value.

use std::path::{Path, PathBuf};

use serde_json::Value;
use url::Url;

use super::{File, MAX_CONFIRM_TTL_S, NOT_IN_THIS_VERSION};
use crate::suggestion;

/// Environment variables that override keys: `PAPERBOT__SESSIONS__IDLE_S=60`.
const PREFIX: &str = "PAPERBOT__";
/// What every variable of these programs begins with.
const FAMILY: &str = "PAPERBOT_";
/// Largest file read; a thousand servers take a tenth of it.
const MAX_FILE_BYTES: u64 = 4 * 1024 * 1024;

/// The configuration cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {detail}")]
pub struct ConfigError {
    /// `bridge.yaml:3:7`, a JSON pointer, or a variable.
    pub place: String,
    /// What is wrong there.
    pub detail: String,
}

impl ConfigError {
    /// A complaint about one place.
    #[must_use]
    pub fn at(place: &str, detail: &str) -> Self {
        Self {
            place: place.to_owned(),
            detail: detail.to_owned(),
        }
    }
}

/// Where the configuration comes from.
#[derive(Debug, Clone, Default)]
pub struct Source {
    /// The file, if any.
    pub path: Option<PathBuf>,
    /// Overrides: (variable, value).
    pub environment: Vec<(String, String)>,
}

impl Source {
    /// A file and this process's environment.
    #[must_use]
    pub fn new(path: Option<PathBuf>) -> Self {
        let mut environment: Vec<_> = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .filter(|(name, _)| name.starts_with(PREFIX) || meant_by(name).is_some())
            .collect();
        environment.sort();
        Self { path, environment }
    }

    /// Reads and checks the whole.
    ///
    /// # Errors
    /// [`ConfigError`] with the first complaint.
    pub fn load(&self) -> Result<File, ConfigError> {
        let mut file = match &self.path {
            Some(path) => parse(&read(path)?, &shown(path))?,
            None => File::default(),
        };
        for (name, value) in &self.environment {
            if let Some(meant) = meant_by(name) {
                let detail = format!("sets nothing; did you mean {meant}?");
                return Err(ConfigError::at(name, &detail));
            }
            file = overridden(&file, name, value)?;
        }
        check(&file).map_err(|error| self.named(error))?;
        Ok(file)
    }

    /// A complaint whose place is a pointer, with the name of the file it points into.
    #[must_use]
    pub fn named(&self, error: ConfigError) -> ConfigError {
        match &self.path {
            Some(path) if error.place.starts_with('/') => {
                ConfigError::at(&format!("{}: {}", shown(path), error.place), &error.detail)
            }
            _ => error,
        }
    }
}

/// The variable that was meant by one with a single underscore after the programs' name: `PAPERBOT_LISTEN`.
pub(super) fn meant_by(name: &str) -> Option<String> {
    if name.starts_with(PREFIX) {
        return None;
    }
    let rest = name.strip_prefix(FAMILY)?;
    let section = rest.split("__").next()?.to_ascii_lowercase();
    let tree = serde_json::to_value(File::default()).ok()?;
    tree.get(&section).map(|_| format!("{PREFIX}{rest}"))
}

fn shown(path: &Path) -> String {
    path.file_name().map_or_else(
        || "config".to_owned(),
        |name| name.to_string_lossy().into_owned(),
    )
}

fn read(path: &Path) -> Result<String, ConfigError> {
    let place = shown(path);
    let failed =
        |error: std::io::Error| ConfigError::at(&place, &format!("cannot be read: {error}"));
    let size = std::fs::metadata(path).map_err(failed)?.len();
    if size > MAX_FILE_BYTES {
        let detail = format!("is larger than {MAX_FILE_BYTES} bytes");
        return Err(ConfigError::at(&place, &detail));
    }
    std::fs::read_to_string(path).map_err(failed)
}

/// Reads YAML; `name` is told in errors.
///
/// # Errors
/// [`ConfigError`] at `name:line:column`.
pub fn parse(text: &str, name: &str) -> Result<File, ConfigError> {
    let blank = text
        .lines()
        .all(|line| line.trim().is_empty() || line.trim_start().starts_with('#'));
    if blank {
        return Ok(File::default());
    }
    let options = serde_saphyr::options! { with_snippet: false };
    serde_saphyr::from_str_with_options(text, options).map_err(|error| {
        let place = match error.location() {
            Some(at) if at.line() > 0 => format!("{name}:{}:{}", at.line(), at.column()),
            _ => name.to_owned(),
        };
        let line = error.location().and_then(|at| {
            let before = usize::try_from(at.line()).ok()?.checked_sub(1)?;
            text.lines().nth(before)
        });
        ConfigError::at(&place, &told(&error, line.unwrap_or_default()))
    })
}

/// A complaint of the reader in our words; `line` is the one it is about, never quoted.
fn told(error: &serde_saphyr::Error, line: &str) -> String {
    use serde_saphyr::Error;
    match error.without_snippet() {
        Error::DuplicateMappingKey { key, .. } => match key {
            Some(key) => format!("the key `{}` is there twice", suggestion::shorten(key)),
            None => "a key is there twice".to_owned(),
        },
        Error::SerdeUnknownField {
            field, expected, ..
        } => unknown_key("key", field, expected),
        Error::SerdeUnknownVariant {
            variant, expected, ..
        } => unknown_key("value", variant, expected),
        Error::SerdeMissingField { field, .. } => format!("the key `{field}` is missing"),
        other => {
            let text = other.render_with_options(serde_saphyr::render_options! {
                snippets: serde_saphyr::SnippetMode::Off
            });
            if text.contains("untagged enum Value") {
                return "expected text in quotes, or {secret: NAME} with a reference such as env:NAME"
                    .to_owned();
            }
            if text.contains("sequence start") {
                return if line.contains("command:") {
                    "expected a list, the program and each argument by itself: [npx, -y, PACKAGE]"
                } else {
                    "expected a list: [ONE, OTHER]"
                }
                .to_owned();
            }
            unquoted(&text)
        }
    }
}

/// Messages may quote a value, and a value may be a secret: what stands in double quotes is left out.
fn unquoted(text: &str) -> String {
    let first = text.lines().next().unwrap_or_default();
    let mut parts = first.split('"');
    let mut clean = parts.next().unwrap_or_default().to_owned();
    for (place, part) in parts.enumerate() {
        clean.push_str(if place % 2 == 0 { "…" } else { part });
    }
    clean
}

fn unknown_key(what: &str, word: &str, known: &[&'static str]) -> String {
    if NOT_IN_THIS_VERSION.contains(&word) {
        return format!("`{word}` is not in this version");
    }
    match word {
        "args" if known.contains(&"command") => {
            "unknown key `args`; arguments belong in `command`: [npx, -y, PACKAGE]".to_owned()
        }
        "mcpServers" if known.contains(&"servers") => {
            "unknown key `mcpServers`; here it is `servers`; `paperbot-mcp config import FILE` turns such a file into ours"
                .to_owned()
        }
        _ => suggestion::unknown(what, word, known.iter().copied()),
    }
}

/// The configuration with one key overridden.
fn overridden(file: &File, name: &str, value: &str) -> Result<File, ConfigError> {
    let path = key_path(name);
    let internal = |error: serde_json::Error| ConfigError::at(name, &error.to_string());
    let tree = serde_json::to_value(file).map_err(internal)?;
    // `8787` is a number where a number is wanted and text where text is wanted.
    let typed = serde_saphyr::from_str::<Value>(value).ok();
    let text = Value::String(value.to_owned());
    let candidates = typed
        .into_iter()
        .filter(|typed| *typed != text)
        .chain([text.clone()]);
    let mut complaint = String::new();
    for candidate in candidates {
        let mut tree = tree.clone();
        place(&mut tree, &path, candidate).ok_or_else(|| ConfigError::at(name, "names no key"))?;
        match serde_json::from_value::<File>(tree) {
            Ok(file) => return Ok(file),
            Err(error) if complaint.is_empty() => complaint = environment_complaint(&error),
            Err(_) => {}
        }
    }
    Err(ConfigError::at(name, &complaint))
}

/// The key a variable names. Below `env` and `headers` of a server the names are the server's: their case stays.
fn key_path(name: &str) -> Vec<String> {
    let parts = name.trim_start_matches(PREFIX).split("__");
    let mut path: Vec<String> = Vec::new();
    for part in parts {
        let lower = part.to_ascii_lowercase();
        let given = matches!(
            path.iter()
                .map(String::as_str)
                .collect::<Vec<_>>()
                .as_slice(),
            ["servers", _, "env" | "headers"]
        );
        path.push(if given { part.to_owned() } else { lower });
    }
    path
}

fn environment_complaint(error: &serde_json::Error) -> String {
    let message = error.to_string();
    let quoted: Vec<&str> = message.split('`').skip(1).step_by(2).collect();
    match quoted.split_first() {
        Some((word, known)) if message.starts_with("unknown") => {
            if NOT_IN_THIS_VERSION.contains(word) {
                format!("`{word}` is not in this version")
            } else {
                suggestion::unknown("key", word, known.iter().copied())
            }
        }
        _ => match message.split_once("expected ") {
            Some((_, expected)) => format!("expected {expected}"),
            None => "the value does not fit".to_owned(),
        },
    }
}

fn place(tree: &mut Value, path: &[String], value: Value) -> Option<()> {
    let (last, parents) = path.split_last()?;
    let mut node = tree;
    for key in parents {
        let members = node.as_object_mut()?;
        node = members
            .entry(key.clone())
            .or_insert_with(|| Value::Object(serde_json::Map::new()));
    }
    node.as_object_mut()?.insert(last.clone(), value);
    Some(())
}

/// What no type can say.
fn check(file: &File) -> Result<(), ConfigError> {
    let port = file
        .listen
        .rsplit_once(':')
        .filter(|(host, _)| !host.is_empty())
        .map(|(_, port)| port.parse::<u16>());
    if !matches!(port, Some(Ok(_))) {
        let detail = "expected host:port, such as 127.0.0.1:8787";
        return Err(ConfigError::at("/listen", detail));
    }
    let stores = ["sqlite://", "postgres://", "postgresql://"];
    if let Some(store) = &file.store
        && !stores.iter().any(|scheme| store.starts_with(scheme))
    {
        let detail = "expected sqlite://PATH or postgres://…";
        return Err(ConfigError::at("/store", detail));
    }
    if let Some(url) = &file.public_url {
        let parsed =
            Url::parse(url).map_err(|error| ConfigError::at("/public_url", &error.to_string()))?;
        if parsed.host_str().is_none() || !matches!(parsed.scheme(), "http" | "https") {
            return Err(ConfigError::at(
                "/public_url",
                "expected http://… or https://…",
            ));
        }
    }
    file.auth.check()?;
    crate::logging::check(&file.telemetry.log.level)
        .map_err(|detail| ConfigError::at("/telemetry/log/level", &detail))?;
    for (place, zero) in [
        ("/limits/body_bytes", file.limits.body_bytes == 0),
        ("/limits/result_bytes", file.limits.result_bytes == 0),
        (
            "/limits/in_flight_per_user",
            file.limits.in_flight_per_user == 0,
        ),
        ("/limits/input_wait_s", file.limits.input_wait_s == 0),
        ("/local_agent/orphan_s", file.local_agent.orphan_s == 0),
        ("/sessions/max", file.sessions.max == 0),
        ("/sessions/max_per_user", file.sessions.max_per_user == 0),
        (
            "/sessions/reconnect/initial_ms",
            file.sessions.reconnect.initial_ms == 0,
        ),
    ] {
        if zero {
            return Err(ConfigError::at(place, "must be at least 1"));
        }
    }
    if !(1..=MAX_CONFIRM_TTL_S).contains(&file.confirm_ttl_s) {
        let detail = format!("must be 1 to {MAX_CONFIRM_TTL_S}");
        return Err(ConfigError::at("/confirm_ttl_s", &detail));
    }
    file.policy()?;
    file.servers().map(drop)
}
