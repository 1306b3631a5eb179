//! What no type can say about an agent's file, and what it means once it is right: a [`Plan`].
//! Reads no secret; those are resolved when the agent starts.

mod server;

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_saphyr::{Location, Spanned};
use transports::ServerName;
use url::{Host, Url};

pub(crate) use self::server::PlannedServer;
use super::fault::Fault;
use super::file::{AgentFile, Server};
use super::setting::Setting;

/// The only version of the file there is.
const VERSION: u64 = 1;
/// Where the bridge takes agents.
const TUNNEL_PATH: &str = "/v1/agents/tunnel";
/// Servers of one agent.
const MAX_SERVERS: usize = 256;
/// Longest label, in characters.
const MAX_LABEL_CHARS: usize = 128;
/// Pauses between attempts to connect: less is a busy loop, more is as good as off.
const PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_hours(1));
/// Bytes of one CHUNK frame's data.
const CHUNK_FRAME: (usize, usize) = (1024, 256 * 1024);
/// Bytes of progress and logs waiting for the line.
const MAX_CHUNK_BUFFER: usize = 64 * 1024 * 1024;

/// Where the agent's token comes from.
#[derive(Debug, Clone)]
pub(crate) enum TokenSource {
    /// The file itself, or a reference in it.
    Setting(Setting),
    /// A file that holds nothing else.
    File(PathBuf),
}

/// A file that is right, and what it asks for.
#[derive(Debug)]
pub(crate) struct Plan {
    /// `ws` or `wss`.
    pub(crate) url: Url,
    /// How the bridge knows that it is us.
    pub(crate) token: TokenSource,
    /// Who we are.
    pub(crate) id: String,
    /// For people.
    pub(crate) label: Option<String>,
    /// The first pause after a lost connection.
    pub(crate) reconnect_initial: Option<Duration>,
    /// The longest.
    pub(crate) reconnect_max: Option<Duration>,
    /// Progress and logs waiting for the line, in bytes.
    pub(crate) chunk_buffer_bytes: Option<usize>,
    /// In one frame.
    pub(crate) chunk_frame_bytes: Option<usize>,
    /// What it offers, in the order of the file.
    pub(crate) servers: Vec<PlannedServer>,
}

/// Checks the whole; `folder` is where the file lies, from which relative paths go.
///
/// # Errors
/// Every complaint at once, each with its place.
pub(crate) fn check(file: &AgentFile, folder: &Path) -> Result<Plan, Vec<Fault>> {
    let mut faults = Faults::default();
    if file.version.value != VERSION {
        faults.add(file.version.referenced, "this program knows version 1 only");
    }
    let server = &file.server.value;
    let url = faults.keep(server.url.referenced, tunnel_url(&server.url.value));
    let token = token(file, folder, &mut faults);
    pauses(server, &mut faults);
    chunks(file, &mut faults);
    let id = &file.agent.id;
    if !is_agent_id(&id.value) {
        faults.add(
            id.referenced,
            "an agent's id has 3 to 64 of A-Z, a-z, 0-9, `_`, `-` and begins with a letter or digit",
        );
    }
    let label = file.agent.label.as_ref();
    if let Some(label) = label.filter(|label| !is_label(&label.value)) {
        faults.add(
            label.referenced,
            "a label has 1 to 128 printable characters",
        );
    }
    let servers = servers(file, folder, &mut faults);
    let (Some(url), Some(token), true) = (url, token, faults.0.is_empty()) else {
        return Err(faults.0);
    };
    let pause = |pause: &Spanned<super::file::Pause>| pause.value.0;
    Ok(Plan {
        url,
        token,
        id: id.value.clone(),
        label: label.map(|label| label.value.clone()),
        reconnect_initial: server.reconnect_initial.as_ref().map(pause),
        reconnect_max: server.reconnect_max.as_ref().map(pause),
        chunk_buffer_bytes: file.agent.chunk_buffer_bytes.as_ref().map(|n| n.value),
        chunk_frame_bytes: file.agent.chunk_max_frame_bytes.as_ref().map(|n| n.value),
        servers,
    })
}

/// The complaints so far.
#[derive(Debug, Default)]
struct Faults(Vec<Fault>);

impl Faults {
    fn add(&mut self, at: Location, detail: impl Into<String>) {
        self.0.push(Fault::at(at, detail));
    }

    /// The value, or the complaint about it noted.
    fn keep<T>(&mut self, at: Location, value: Result<T, String>) -> Option<T> {
        match value {
            Ok(value) => Some(value),
            Err(why) => {
                self.add(at, why);
                None
            }
        }
    }
}

fn token(file: &AgentFile, folder: &Path, faults: &mut Faults) -> Option<TokenSource> {
    let server = &file.server.value;
    match (&server.token, &server.token_file) {
        (Some(token), None) => {
            let right = token.value.check();
            faults.keep(token.referenced, right)?;
            Some(TokenSource::Setting(token.value.clone()))
        }
        (None, Some(path)) => Some(TokenSource::File(below(folder, &path.value))),
        (Some(_), Some(path)) => {
            faults.add(
                path.referenced,
                "`token` and `token_file` exclude each other",
            );
            None
        }
        (None, None) => {
            faults.add(
                file.server.referenced,
                "`token_file` is missing (or `token`); `paperbot-mcp agent pair` gets one",
            );
            None
        }
    }
}

fn pauses(server: &Server, faults: &mut Faults) {
    let both = [&server.reconnect_initial, &server.reconnect_max];
    for pause in both.into_iter().flatten() {
        if !(PAUSES.0..=PAUSES.1).contains(&pause.value.0) {
            faults.add(pause.referenced, "a pause is between 100ms and 1h");
        }
    }
    if let (Some(initial), Some(max)) = (&server.reconnect_initial, &server.reconnect_max)
        && initial.value.0 > max.value.0
    {
        faults.add(max.referenced, "is shorter than reconnect_initial");
    }
}

fn chunks(file: &AgentFile, faults: &mut Faults) {
    let frame = file.agent.chunk_max_frame_bytes.as_ref();
    if let Some(frame) = frame.filter(|n| !(CHUNK_FRAME.0..=CHUNK_FRAME.1).contains(&n.value)) {
        faults.add(frame.referenced, "must be 1024 to 262144");
    }
    let least = frame.map_or(CHUNK_FRAME.0, |frame| frame.value);
    let buffer = file.agent.chunk_buffer_bytes.as_ref();
    if let Some(buffer) = buffer.filter(|n| !(least..=MAX_CHUNK_BUFFER).contains(&n.value)) {
        faults.add(
            buffer.referenced,
            format!("must be at least one frame ({least}) and at most {MAX_CHUNK_BUFFER}"),
        );
    }
}

fn servers(file: &AgentFile, folder: &Path, faults: &mut Faults) -> Vec<PlannedServer> {
    if let Some(one_more) = file.mcp_servers.get(MAX_SERVERS) {
        faults.add(one_more.referenced, "an agent offers at most 256 servers");
    }
    let mut names = BTreeSet::new();
    let mut planned = Vec::new();
    for server in file.mcp_servers.iter().take(MAX_SERVERS) {
        let name = &server.value.name;
        match ServerName::new(&name.value) {
            Err(_) => faults.add(
                name.referenced,
                "a server's name has 1 to 63 of a-z, 0-9 and `-` and begins with a letter or digit",
            ),
            Ok(checked) => {
                if !names.insert(checked.clone()) {
                    faults.add(name.referenced, "another server has this name already");
                }
                planned.extend(server::check(server, checked, folder, faults));
            }
        }
    }
    planned
}

/// `ws` or `wss`, with the bridge's own path when none is given.
///
/// # Errors
/// What is wrong with it, in words.
pub(crate) fn tunnel_url(text: &str) -> Result<Url, String> {
    let mut url = Url::parse(text).map_err(|error| format!("is no URL: {error}"))?;
    let scheme = match url.scheme() {
        "wss" | "https" => "wss",
        "ws" | "http" => "ws",
        _ => return Err("is neither wss:// nor ws://".to_owned()),
    };
    if url.host().is_none() {
        return Err("names no host".to_owned());
    }
    if !url.username().is_empty() || url.password().is_some() || url.query().is_some() {
        return Err("holds a user, a password or a query; the token has its own place".to_owned());
    }
    if scheme == "ws" && !is_loopback(&url) {
        return Err("is not encrypted: beyond this machine write wss://".to_owned());
    }
    if url.set_scheme(scheme).is_err() {
        return Err("is neither wss:// nor ws://".to_owned());
    }
    if url.path().is_empty() || url.path() == "/" {
        url.set_path(TUNNEL_PATH);
    }
    url.set_fragment(None);
    Ok(url)
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => IpAddr::from(address).is_loopback(),
        Some(Host::Ipv6(address)) => IpAddr::from(address).is_loopback(),
        None => false,
    }
}

/// `[A-Za-z0-9][A-Za-z0-9_-]{2,63}`.
pub(crate) fn is_agent_id(text: &str) -> bool {
    let bytes = text.as_bytes();
    let first = bytes.first().is_some_and(u8::is_ascii_alphanumeric);
    let rest = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    first && bytes.iter().all(rest) && (3..=64).contains(&bytes.len())
}

fn is_label(text: &str) -> bool {
    let length = text.chars().count();
    (1..=MAX_LABEL_CHARS).contains(&length) && !text.chars().any(char::is_control)
}

/// A path of the file: `~/` is the home, anything relative starts where the file lies.
fn below(folder: &Path, path: &Path) -> PathBuf {
    match (path.strip_prefix("~"), std::env::var_os("HOME")) {
        (Ok(rest), Some(home)) => Path::new(&home).join(rest),
        _ => folder.join(path),
    }
}
