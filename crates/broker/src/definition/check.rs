//! Holds a definition against its gate: every complaint at once, then the target. Reads secrets, opens nothing.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use http::{HeaderName, HeaderValue};
use secrecy::{ExposeSecret, SecretString};
use sessions::{Isolation, Target};
use transports::outbound::{OutboundError, check_url};
use transports::{
    Endpoint, HttpSpec, OutboundPolicy, ServerName, ServerSpec, StdioSpec, Timeouts, WireLimits,
};
use url::Url;

use super::names::{is_loader_variable, looks_secret};
use super::{
    Author, Checked, Definition, DefinitionError, Gate, Lead, Need, Needs, PinRule, Redactions,
    Runner, TransportKind, Value,
};
use crate::error::PointerDetail;

/// Longest deadline a definition may set: a day.
const MAX_TIMEOUT_MS: u64 = 24 * 3600 * 1000;
/// Longest command line, environment and header list: what execve and proxies take everywhere.
const MAX_ITEMS: usize = 256;

/// Headers the transport itself owns.
const OWN_HEADERS: [&str; 15] = [
    "host",
    "expect",
    "mcp-method",
    "mcp-name",
    "content-length",
    "transfer-encoding",
    "connection",
    "upgrade",
    "te",
    "trailer",
    "accept",
    "content-type",
    "mcp-session-id",
    "mcp-protocol-version",
    "last-event-id",
];

pub(super) struct Complaints<'a> {
    pub(super) gate: &'a Gate<'a>,
    /// What is left for each caller.
    pub(super) needs: Needs,
    errors: Vec<PointerDetail>,
    secrets: Vec<SecretString>,
}

/// A value, as far as it is known when a definition is checked.
pub(super) enum Given {
    Now(SecretString),
    Later(Need),
}

pub(super) fn run(
    definition: &Definition,
    name: &ServerName,
    version: u64,
    gate: &Gate<'_>,
) -> Result<Checked, DefinitionError> {
    let mut complaints = Complaints {
        gate,
        needs: Needs::default(),
        errors: Vec::new(),
        secrets: Vec::new(),
    };
    complaints.general(definition);
    let target = |endpoint| Target {
        spec: Arc::new(ServerSpec {
            name: name.clone(),
            endpoint,
            era: definition.era,
            timeouts: Timeouts::default(),
            limits: WireLimits::default(),
        }),
        isolation: definition.isolation,
        version,
    };
    let lead = match definition.transport {
        TransportKind::Stdio => {
            let target = target(Endpoint::Stdio(complaints.stdio(definition)));
            Some(match definition.runner {
                Runner::Bridge => Lead::Server(target),
                Runner::Agent => Lead::Local(target),
            })
        }
        TransportKind::StreamableHttp => complaints
            .http(definition)
            .map(|http| Lead::Server(target(Endpoint::StreamableHttp(http)))),
        TransportKind::Sse => complaints
            .http(definition)
            .map(|http| Lead::Server(target(Endpoint::LegacySse(http)))),
        TransportKind::Tunnel => complaints.tunnel(definition, version).map(Lead::Agents),
    };
    match lead {
        Some(lead) if complaints.errors.is_empty() => Ok(Checked {
            lead,
            child: None,
            redactions: Redactions::new(&complaints.secrets),
            needs: (!complaints.needs.is_empty()).then(|| Arc::new(complaints.needs)),
        }),
        _ => Err(DefinitionError {
            errors: complaints.errors,
        }),
    }
}

impl Complaints<'_> {
    pub(super) fn add(&mut self, pointer: impl Into<String>, detail: impl Into<String>) {
        self.errors.push(PointerDetail {
            pointer: pointer.into(),
            detail: detail.into(),
        });
    }

    fn general(&mut self, definition: &Definition) {
        if let Err(error) = definition.workspace() {
            self.errors.extend(error.errors);
        }
        if definition
            .timeout_ms
            .is_some_and(|ms| ms == 0 || ms > MAX_TIMEOUT_MS)
        {
            self.add("/timeout_ms", format!("must be 1 to {MAX_TIMEOUT_MS}"));
        }
        if !definition.hints.is_empty() && self.gate.author == Author::Operator {
            self.add("/hints", "only an admin may correct a server's hints");
        }
        if definition.pins == PinRule::Off && self.gate.author == Author::Operator {
            self.add("/pins", "only an admin may turn pins off");
        }
        if definition.allow_private && self.gate.author != Author::File {
            self.add("/allow_private", "only the admin's own file may set it");
        }
        for (field, length) in [
            ("/command", definition.command.len()),
            ("/env", definition.env.len()),
            ("/headers", definition.headers.len()),
        ] {
            if length > MAX_ITEMS {
                self.add(field, format!("holds more than {MAX_ITEMS} members"));
            }
        }
    }

    fn stdio(&mut self, definition: &Definition) -> StdioSpec {
        self.unused("/url", definition.url.is_some(), "stdio");
        self.unused("/headers", !definition.headers.is_empty(), "stdio");
        self.unused("/auth", definition.auth.is_some(), "stdio");
        self.unused("/agent", definition.agent.is_some(), "stdio");
        self.unused("/server", definition.server.is_some(), "stdio");
        if self.gate.author == Author::Operator {
            self.add("/command", "only an admin may name commands");
        }
        match definition.command.first() {
            None => self.add("/command", "is needed for transport stdio"),
            Some(program) if program.trim().is_empty() => self.add("/command/0", "is empty"),
            Some(_) => self.arguments(&definition.command),
        }
        let mut env = BTreeMap::new();
        for (name, value) in &definition.env {
            let pointer = format!("/env/{}", escape(name));
            if let Some(why) = self.refused_variable(name) {
                self.add(&pointer, why);
                continue;
            }
            match self.value(&pointer, name, value) {
                None => {}
                Some(Given::Later(_)) if definition.runner == Runner::Agent => {
                    self.add(
                        pointer,
                        "store: differs for each caller; runner must be bridge",
                    );
                }
                Some(Given::Later(need)) => self.needs.env.push((name.clone(), need)),
                Some(Given::Now(value)) if value.expose_secret().contains('\0') => {
                    self.add(pointer, "holds a NUL");
                }
                Some(Given::Now(value)) => {
                    env.insert(name.clone(), value);
                }
            }
        }
        StdioSpec {
            argv: definition.command.clone(),
            env,
            cwd: definition.cwd.as_ref().map(PathBuf::from),
            sandbox: self.sandbox(definition.sandbox.as_ref()),
        }
    }

    /// An argv is world-readable on most systems, so it must hold no secret.
    fn arguments(&mut self, command: &[String]) {
        for (index, argument) in command.iter().enumerate() {
            let pointer = format!("/command/{index}");
            if argument.contains('\0') {
                self.add(&pointer, "holds a NUL");
            }
            let Some(flag) = argument.strip_prefix("--") else {
                continue;
            };
            let (flag, inline) = match flag.split_once('=') {
                Some((flag, value)) => (flag, Some(value)),
                None => (flag, None),
            };
            let follows = command.get(index + 1).filter(|next| !next.starts_with('-'));
            if looks_secret(flag) && (inline.is_some_and(|v| !v.is_empty()) || follows.is_some()) {
                self.add(
                    pointer,
                    "a secret must not stand in a command; pass it by env",
                );
            }
        }
    }

    fn http(&mut self, definition: &Definition) -> Option<HttpSpec> {
        self.no_child(definition, "HTTP");
        self.unused("/agent", definition.agent.is_some(), "HTTP");
        self.unused("/server", definition.server.is_some(), "HTTP");
        if definition.isolation == Isolation::Shared
            && self.gate.author == Author::Operator
            && !definition.headers.is_empty()
        {
            self.add(
                "/isolation",
                "only an admin may share a session that holds headers",
            );
        }
        let mut headers = Vec::new();
        for (name, value) in &definition.headers {
            let pointer = format!("/headers/{}", escape(name));
            match self.header(&pointer, name, value) {
                Some((header, Given::Now(value))) => headers.push((header, value)),
                Some((header, Given::Later(need))) => self.needs.headers.push((header, need)),
                None => {}
            }
        }
        let authorized = |name: &HeaderName| *name == http::header::AUTHORIZATION;
        let authorized = headers.iter().any(|(name, _)| authorized(name))
            || self.needs.headers.iter().any(|(name, _)| authorized(name));
        self.oauth(definition, authorized);
        let outbound = OutboundPolicy {
            allow_private: definition.allow_private || self.gate.outbound.allow_private,
            ..self.gate.outbound.clone()
        };
        let url = self.url(definition.url.as_deref(), &outbound)?;
        Some(HttpSpec {
            url,
            headers,
            outbound,
            bearer: None,
        })
    }

    fn url(&mut self, text: Option<&str>, outbound: &OutboundPolicy) -> Option<Url> {
        let Some(text) = text else {
            self.add("/url", "is needed for an HTTP transport");
            return None;
        };
        let Ok(url) = Url::parse(text) else {
            self.add("/url", "is no URL");
            return None;
        };
        if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
            self.add("/url", "must be http:// or https:// with a host");
        } else if !url.username().is_empty() || url.password().is_some() {
            self.add(
                "/url",
                "must hold no user or password; use headers with a secret",
            );
        } else if let Err(error) = check_url(&url, outbound) {
            let way = match error {
                OutboundError::Refused { .. } if !outbound.allow_private => {
                    "; set `allow_private: true` for it in the bridge's file"
                }
                _ => "",
            };
            self.add("/url", format!("{error}{way}"));
        }
        if url.query_pairs().any(|(key, _)| looks_secret(&key)) {
            self.add(
                "/url",
                "must hold no secret in its query; use headers with a secret",
            );
        }
        Some(url)
    }

    fn header(&mut self, pointer: &str, name: &str, value: &Value) -> Option<(HeaderName, Given)> {
        let Ok(header) = HeaderName::from_bytes(name.as_bytes()) else {
            self.add(pointer, "is no header name");
            return None;
        };
        let own = OWN_HEADERS.contains(&header.as_str());
        let derived = ["proxy-", "mcp-param-"]
            .iter()
            .any(|prefix| header.as_str().starts_with(prefix));
        if own || derived {
            self.add(pointer, "belongs to the transport and cannot be set");
            return None;
        }
        let value = self.value(pointer, name, value)?;
        if let Given::Now(value) = &value
            && HeaderValue::from_str(value.expose_secret()).is_err()
        {
            self.add(pointer, "holds characters a header cannot carry");
            return None;
        }
        Some((header, value))
    }

    pub(super) fn value(&mut self, pointer: &str, name: &str, value: &Value) -> Option<Given> {
        match value {
            Value::Plain(text) if looks_secret(name) && !text.is_empty() => {
                self.add(
                    pointer,
                    "looks like a secret; write {secret: \"env:NAME\"} or {secret: \"file:/path\"}",
                );
                None
            }
            Value::Plain(text) => Some(Given::Now(SecretString::from(text.as_str()))),
            // Each caller's own, or what an admin put for the workspace and this address: no secret of the bridge.
            Value::Secret { secret, prefix } if secret.starts_with("store:") => {
                let name = secret.trim_start_matches("store:");
                self.stored(pointer, name, prefix.as_deref())
                    .map(Given::Later)
            }
            Value::Secret { .. } if self.gate.author == Author::Operator => {
                self.add(pointer, "only an admin may refer to secrets of the bridge");
                None
            }
            Value::Secret { secret, prefix } => match self.gate.secrets.read(secret) {
                Ok(found) => {
                    self.secrets.push(found.clone());
                    let prefix = prefix.as_deref().unwrap_or_default();
                    let text = format!("{prefix}{}", found.expose_secret());
                    Some(Given::Now(SecretString::from(text)))
                }
                Err(why) => {
                    self.add(format!("{pointer}/secret"), why);
                    None
                }
            },
        }
    }

    pub(super) fn unused(&mut self, pointer: &str, present: bool, transport: &str) {
        if present {
            self.add(pointer, format!("has no meaning for transport {transport}"));
        }
    }

    fn refused_variable(&self, name: &str) -> Option<&'static str> {
        if name.is_empty() || name.contains(['=', '\0']) {
            return Some("is no environment name");
        }
        (self.gate.author != Author::File && is_loader_variable(name)).then_some(
            "this variable can change what program runs; only the admin's file may set it",
        )
    }
}

/// A member name inside a JSON pointer.
fn escape(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}
