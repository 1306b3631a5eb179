//! One foreign server as one of ours, and the lists of what the user still has to know.

use std::collections::BTreeMap;
use std::path::PathBuf;

use indexmap::IndexMap;
use serde::Serialize;
use serde_json::{Map, Value};

use super::clean;
use super::foreign::Entry;
use super::members::{has_url, is_private, our_name, take_pairs, take_text, texts};
use super::secrets::{self, Text};

/// A server as under `servers:` of the bridge's file.
#[derive(Debug, Default, Serialize, PartialEq)]
pub(crate) struct Server {
    transport: &'static str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    command: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cwd: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    url: Option<String>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    allow_private: bool,
    #[serde(skip_serializing_if = "IndexMap::is_empty")]
    env: IndexMap<String, Setting>,
    #[serde(skip_serializing_if = "IndexMap::is_empty")]
    headers: IndexMap<String, Setting>,
    #[serde(skip_serializing_if = "Option::is_none")]
    timeout_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<String>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    disabled: bool,
}

/// A plain value or a reference to a secret.
#[derive(Debug, Clone, Serialize, PartialEq)]
#[serde(untagged)]
enum Setting {
    Plain(String),
    Secret {
        secret: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        prefix: Option<String>,
    },
}

/// Which field of which server, for the lists.
#[derive(Debug, Clone, Copy)]
struct Place<'a> {
    server: &'a str,
    field: &'a str,
}

impl<'a> Place<'a> {
    fn of(server: &'a str, field: &'a str) -> Self {
        Self { server, field }
    }
}

/// Everything imported so far.
#[derive(Debug)]
pub(crate) struct Import {
    /// By our name, in the order found.
    pub(crate) servers: IndexMap<String, Server>,
    /// Variables the bridge needs, and what for.
    pub(crate) to_set: BTreeMap<String, Vec<String>>,
    /// What has no place in ours.
    pub(crate) left_out: Vec<String>,
    /// What was changed on the way.
    pub(crate) notes: Vec<String>,
    home: PathBuf,
    /// Literal secrets by the variable chosen, in memory only: two different ones need two variables.
    literals: BTreeMap<String, String>,
}

impl Import {
    /// Nothing yet.
    pub(crate) fn new(home: PathBuf) -> Self {
        Self {
            servers: IndexMap::new(),
            to_set: BTreeMap::new(),
            left_out: Vec::new(),
            notes: Vec::new(),
            home,
            literals: BTreeMap::new(),
        }
    }

    /// Adds one server, unless there is one of its name already or it cannot be one of ours.
    pub(crate) fn add(&mut self, entry: &Entry) {
        let name = our_name(&entry.name);
        if name.is_empty() || self.servers.contains_key(&name) {
            let why = if name.is_empty() {
                "its name has no letter or digit"
            } else {
                "the name is taken"
            };
            self.left_out.push(format!("{} ({why})", entry.name));
            return;
        }
        if name != entry.name {
            self.notes
                .push(format!("`{}` is named `{name}` here", entry.name));
        }
        let mut members = entry.members.clone();
        let mut server = Server::default();
        let reached = if has_url(&members) {
            self.http(&name, &mut members, &mut server)
        } else {
            self.stdio(&name, &mut members, &mut server)
        };
        if let Err(why) = reached {
            self.left_out.push(format!("{name} ({why})"));
            return;
        }
        Self::usual(&mut members, &mut server);
        for left in members.keys() {
            self.left_out.push(format!("{name}.{left}"));
        }
        self.servers.insert(name, server);
    }

    fn stdio(
        &mut self,
        name: &str,
        members: &mut Map<String, Value>,
        server: &mut Server,
    ) -> Result<(), &'static str> {
        let kind = take_text(members, &["type"]).unwrap_or_default();
        if !matches!(kind.as_str(), "" | "stdio" | "local" | "command") {
            return Err("its transport is unknown");
        }
        let mut command = match members.remove("command") {
            Some(Value::String(program)) => vec![program],
            Some(Value::Array(words)) => texts(&words),
            _ => return Err("it has neither command nor url"),
        };
        if let Some(Value::Array(words)) = members.remove("args") {
            command.extend(texts(&words));
        }
        server.transport = "stdio";
        server.command = clean::command(command, &mut self.complaints(name));
        server.cwd = take_text(members, &["cwd"]);
        let unresolved = server.command.iter().chain(&server.cwd);
        if unresolved
            .filter(|word| secrets::read(word, &self.home) != Text::Plain)
            .count()
            > 0
        {
            self.left_out.push(format!(
                "{name}: `${{…}}` in its command or cwd stays as text; edit it"
            ));
        }
        for (variable, value) in take_pairs(members, &["env", "environment"]) {
            let setting = self.setting(Place::of(name, &variable), &value, &variable);
            server.env.insert(variable, setting);
        }
        if let Some(Value::Array(passed)) = members.remove("env_vars") {
            for variable in texts(&passed) {
                let setting = self.reference(
                    Place::of(name, &variable),
                    format!("env:{variable}"),
                    String::new(),
                );
                server.env.insert(variable, setting);
            }
        }
        Ok(())
    }

    fn http(
        &mut self,
        name: &str,
        members: &mut Map<String, Value>,
        server: &mut Server,
    ) -> Result<(), &'static str> {
        let kind = take_text(members, &["type", "transport"]).unwrap_or_default();
        server.transport = match kind.to_ascii_lowercase().as_str() {
            "sse" => "sse",
            "" | "http" | "streamable-http" | "streamablehttp" | "streamable_http" | "remote" => {
                "streamable_http"
            }
            _ => return Err("its transport is unknown"),
        };
        let text = take_text(members, &["url", "httpUrl", "serverUrl"]).unwrap_or_default();
        let mut url = url::Url::parse(&text).map_err(|_| "its URL is none, or holds `${…}`")?;
        clean::url(&mut url, &mut self.complaints(name));
        server.allow_private = is_private(&url);
        server.url = Some(url.to_string());
        for (header, value) in take_pairs(members, &["headers", "http_headers"]) {
            let variable = secrets::as_variable(&format!("{name}_{header}"));
            let setting = self.setting(Place::of(name, &header), &value, &variable);
            server.headers.insert(header, setting);
        }
        for (header, variable) in take_pairs(members, &["env_http_headers"]) {
            let setting = self.reference(
                Place::of(name, &header),
                format!("env:{variable}"),
                String::new(),
            );
            server.headers.insert(header, setting);
        }
        if let Some(variable) = take_text(members, &["bearer_token_env_var"]) {
            let setting = self.reference(
                Place::of(name, "Authorization"),
                format!("env:{variable}"),
                "Bearer ".to_owned(),
            );
            server.headers.insert("Authorization".to_owned(), setting);
        }
        Ok(())
    }

    /// Members every kind has.
    fn usual(members: &mut Map<String, Value>, server: &mut Server) {
        let off = members.remove("disabled") == Some(Value::Bool(true));
        server.disabled = members.remove("enabled") == Some(Value::Bool(false)) || off;
        server.description = take_text(members, &["description"]);
        let seconds = members
            .remove("tool_timeout_sec")
            .and_then(|value| value.as_f64());
        let millis = members.remove("timeout").and_then(|value| value.as_f64());
        let timeout = seconds.map(|seconds| seconds * 1000.0).or(millis);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "kept between a millisecond and a day first"
        )]
        let timeout = timeout.map(|millis| millis.clamp(1.0, 86_400_000.0) as u64);
        server.timeout_ms = timeout;
    }

    /// Adds to what is left out of one server.
    fn complaints(&mut self, server: &str) -> impl FnMut(String) {
        move |complaint| self.left_out.push(format!("{server}: {complaint}"))
    }

    /// A plain value stays; a reference is translated; a literal secret becomes a variable to set.
    fn setting(&mut self, place: Place<'_>, value: &str, variable: &str) -> Setting {
        let Place { server, field } = place;
        let secret = secrets::is_secret_name(field) || secrets::is_secret_value(value);
        match secrets::read(value, &self.home) {
            Text::Reference {
                prefix,
                reference,
                default_lost,
            } => {
                if default_lost {
                    self.left_out
                        .push(format!("{server}: the default of {field}"));
                }
                self.reference(place, reference, prefix)
            }
            Text::Plain if !secret => Setting::Plain(value.to_owned()),
            Text::Mixed if !secret => {
                self.left_out.push(format!(
                    "{server}: `${{…}}` in {field} stays as text; edit it"
                ));
                Setting::Plain(value.to_owned())
            }
            Text::Plain | Text::Mixed => {
                let bare = value.strip_prefix("Bearer ");
                let prefix = bare.map_or_else(String::new, |_| "Bearer ".to_owned());
                let chosen = self.free_variable(server, variable, bare.unwrap_or(value));
                self.reference(place, format!("env:{chosen}"), prefix)
            }
        }
    }

    /// The same variable serves two servers only when they had the same secret.
    fn free_variable(&mut self, server: &str, variable: &str, literal: &str) -> String {
        let same = |found: Option<&String>| found.is_none_or(|known| known == literal);
        let chosen = if same(self.literals.get(variable)) {
            variable.to_owned()
        } else {
            secrets::as_variable(&format!("{server}_{variable}"))
        };
        self.literals.insert(chosen.clone(), literal.to_owned());
        chosen
    }

    fn reference(&mut self, place: Place<'_>, secret: String, prefix: String) -> Setting {
        let Place { server, field } = place;
        if let Some(variable) = secret.strip_prefix("env:") {
            let uses = self.to_set.entry(variable.to_owned()).or_default();
            uses.push(format!("{server} {field}"));
        }
        let prefix = (!prefix.is_empty()).then_some(prefix);
        Setting::Secret { secret, prefix }
    }
}
