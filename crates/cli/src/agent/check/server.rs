//! One server of an agent's file: what may stand together, and what nobody may write.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use http::{HeaderName, HeaderValue};
use secrecy::{ExposeSecret as _, SecretString};
use serde_saphyr::Spanned;
use transports::{
    Endpoint, EraChoice, HttpSpec, OutboundPolicy, Sandbox, ServerName, ServerSpec, StdioSpec,
    Timeouts, WireLimits,
};
use url::Url;

use super::{Faults, below};
use crate::agent::file::{McpServer, Reached};
use crate::agent::setting::Setting;
use crate::verbs::import::secrets;

/// Arguments, variables, headers or patterns of one server.
const MAX_ITEMS: usize = 256;
/// Longest pattern, in bytes; tool names are shorter.
const MAX_PATTERN_BYTES: usize = 256;
/// Headers the transport sets itself.
const OWN_HEADERS: [&str; 9] = [
    "host",
    "content-length",
    "content-type",
    "transfer-encoding",
    "connection",
    "upgrade",
    "accept",
    "mcp-session-id",
    "mcp-protocol-version",
];

/// A server that is right. Its secrets are not read yet.
#[derive(Debug, Clone)]
pub(crate) struct PlannedServer {
    /// Its name.
    pub(crate) name: ServerName,
    /// How it is reached.
    way: Way,
    /// Only tools one of these fits.
    pub(crate) allow_tools: Vec<String>,
    /// No tool one of these fits.
    pub(crate) deny_tools: Vec<String>,
}

#[derive(Debug, Clone)]
enum Way {
    Command {
        argv: Vec<String>,
        env: BTreeMap<String, Setting>,
        cwd: Option<PathBuf>,
    },
    Http {
        url: Url,
        headers: BTreeMap<String, Setting>,
        sse: bool,
    },
}

impl PlannedServer {
    /// Reads its secrets; each is also told to `secrets`, so that no log shows it.
    ///
    /// # Errors
    /// Which of them cannot be had, in words.
    pub(crate) fn resolve(&self, secrets: &dyn Fn(SecretString)) -> Result<ServerSpec, String> {
        let endpoint = match &self.way {
            Way::Command { argv, env, cwd } => Endpoint::Stdio(StdioSpec {
                argv: argv.clone(),
                env: self.settings(env, "env", secrets)?,
                cwd: cwd.clone(),
                // The agent's file is its user's own word, and has none of this.
                sandbox: Sandbox::none(),
            }),
            Way::Http { url, headers, sse } => {
                let spec = HttpSpec {
                    url: url.clone(),
                    headers: self.headers(headers, secrets)?,
                    // The agent stands where these servers are; its file is its user's own word.
                    outbound: OutboundPolicy {
                        allow_private: true,
                        ..OutboundPolicy::default()
                    },
                    bearer: None,
                };
                if *sse {
                    Endpoint::LegacySse(spec)
                } else {
                    Endpoint::StreamableHttp(spec)
                }
            }
        };
        Ok(ServerSpec {
            name: self.name.clone(),
            endpoint,
            era: EraChoice::Auto,
            timeouts: Timeouts::default(),
            limits: WireLimits::default(),
        })
    }

    fn settings(
        &self,
        of: &BTreeMap<String, Setting>,
        field: &str,
        told: &dyn Fn(SecretString),
    ) -> Result<BTreeMap<String, SecretString>, String> {
        let resolved = of.iter().map(|(name, setting)| {
            let value = setting
                .resolve()
                .map_err(|why| format!("{}: {field}.{name}: {why}", self.name))?;
            if matches!(setting, Setting::Reference { .. }) || secrets::is_secret_name(name) {
                told(value.clone());
            }
            Ok((name.clone(), value))
        });
        resolved.collect()
    }

    fn headers(
        &self,
        of: &BTreeMap<String, Setting>,
        told: &dyn Fn(SecretString),
    ) -> Result<Vec<(HeaderName, SecretString)>, String> {
        let mut headers = Vec::with_capacity(of.len());
        for (name, value) in self.settings(of, "headers", told)? {
            let fits = HeaderValue::from_str(value.expose_secret()).is_ok();
            match HeaderName::try_from(&name) {
                Ok(header) if fits => headers.push((header, value)),
                _ => {
                    let server = &self.name;
                    return Err(format!(
                        "{server}: headers.{name}: holds what no header can"
                    ));
                }
            }
        }
        Ok(headers)
    }
}

/// Checks one server; complaints go to `faults`.
pub(super) fn check(
    server: &Spanned<McpServer>,
    name: ServerName,
    folder: &Path,
    faults: &mut Faults,
) -> Option<PlannedServer> {
    let one = &server.value;
    let before = faults.0.len();
    bounds(server, faults);
    let url = one.url.as_ref();
    let way = match (one.reached.as_ref().map(|r| r.value), &one.command, url) {
        (_, Some(_), Some(url)) => {
            faults.add(url.referenced, "`command` and `url` exclude each other");
            None
        }
        (None | Some(Reached::Command | Reached::Auto), Some(command), None) => {
            Some(command_way(one, command, folder, faults))
        }
        (kind, None, Some(url)) if kind != Some(Reached::Command) => {
            http_way(one, url, kind == Some(Reached::Sse), faults)
        }
        (Some(Reached::Command), None, _) => {
            faults.add(server.referenced, "`command` is missing for type command");
            None
        }
        (_, None, None) => {
            let place = server.referenced;
            faults.add(place, "the server has neither `command` nor `url`");
            None
        }
        (_, Some(command), None) => {
            faults.add(command.referenced, "`command` has no meaning for this type");
            None
        }
        (_, None, Some(url)) => {
            faults.add(url.referenced, "`url` has no meaning for this type");
            None
        }
    };
    let texts = |of: &[Spanned<String>]| of.iter().map(|text| text.value.clone()).collect();
    let right = faults.0.len() == before;
    way.filter(|_| right).map(|way| PlannedServer {
        name,
        way,
        allow_tools: texts(&one.allow_tools),
        deny_tools: texts(&one.deny_tools),
    })
}

fn bounds(server: &Spanned<McpServer>, faults: &mut Faults) {
    let one = &server.value;
    let counts = [
        one.args.len(),
        one.env.len(),
        one.headers.len(),
        one.allow_tools.len(),
        one.deny_tools.len(),
    ];
    if counts.into_iter().any(|count| count > MAX_ITEMS) {
        let place = server.referenced;
        faults.add(
            place,
            format!("one of its lists has more than {MAX_ITEMS} members"),
        );
    }
    for pattern in one.allow_tools.iter().chain(&one.deny_tools) {
        if pattern.value.is_empty() || pattern.value.len() > MAX_PATTERN_BYTES {
            faults.add(pattern.referenced, "a pattern has 1 to 256 bytes");
        }
    }
}

fn command_way(
    one: &McpServer,
    command: &Spanned<String>,
    folder: &Path,
    faults: &mut Faults,
) -> Way {
    if command.value.trim().is_empty() {
        faults.add(command.referenced, "is empty");
    } else if command.value.contains(char::is_whitespace) && !command.value.contains('/') {
        faults.add(
            command.referenced,
            "is one program without a shell; its arguments belong into `args`",
        );
    }
    if let Some(header) = one.headers.values().next() {
        faults.add(header.referenced, "`headers` have no meaning for a command");
    }
    arguments(&one.args, faults);
    for (name, setting) in &one.env {
        if name.is_empty() || name.contains(['=', '\0']) {
            faults.add(setting.referenced, "is no name of a variable");
        }
        faults.keep(setting.referenced, setting.value.check());
    }
    let argv = std::iter::once(command).chain(&one.args);
    Way::Command {
        argv: argv.map(|word| word.value.clone()).collect(),
        env: values(&one.env),
        cwd: one.cwd.as_ref().map(|cwd| below(folder, &cwd.value)),
    }
}

/// A command line is visible to every process of the machine.
fn arguments(words: &[Spanned<String>], faults: &mut Faults) {
    for (index, word) in words.iter().enumerate() {
        let (flag, inline) = word.value.split_once('=').unwrap_or((&word.value, ""));
        let next = words.get(index + 1);
        let follows = next.is_some_and(|next| !next.value.starts_with('-'));
        // `--key-file PATH` names where a secret is.
        let names_file = ["file", "path", "dir"]
            .iter()
            .any(|end| flag.ends_with(end));
        let named = flag.starts_with('-') && secrets::is_secret_name(flag) && !names_file;
        if word.value.contains('\0') {
            faults.add(word.referenced, "holds a NUL");
        } else if secrets::is_secret_value(&word.value)
            || (named && (follows || !inline.is_empty()))
        {
            faults.add(
                word.referenced,
                "a secret in a command line is visible to every process; pass it by `env`",
            );
        }
    }
}

fn http_way(one: &McpServer, url: &Spanned<String>, sse: bool, faults: &mut Faults) -> Option<Way> {
    if let Some(first) = one.args.first() {
        faults.add(first.referenced, "`args` have no meaning for a URL");
    }
    if let Some(setting) = one.env.values().next() {
        faults.add(setting.referenced, "`env` has no meaning for a URL");
    }
    if let Some(cwd) = &one.cwd {
        faults.add(cwd.referenced, "`cwd` has no meaning for a URL");
    }
    for (name, setting) in &one.headers {
        match HeaderName::try_from(name) {
            Err(_) => faults.add(setting.referenced, "is no name of a header"),
            Ok(header) if OWN_HEADERS.contains(&header.as_str()) => faults.add(
                setting.referenced,
                "this header belongs to the transport and cannot be set",
            ),
            Ok(_) => {}
        }
        faults.keep(setting.referenced, setting.value.check());
    }
    let parsed = server_url(&url.value);
    Some(Way::Http {
        url: faults.keep(url.referenced, parsed)?,
        headers: values(&one.headers),
        sse,
    })
}

fn server_url(text: &str) -> Result<Url, String> {
    let url = Url::parse(text).map_err(|error| format!("is no URL: {error}"))?;
    let secret = |(name, value): (std::borrow::Cow<'_, str>, std::borrow::Cow<'_, str>)| {
        secrets::is_secret_name(&name) || secrets::is_secret_value(&value)
    };
    if !matches!(url.scheme(), "http" | "https") || url.host().is_none() {
        Err("is neither http:// nor https:// with a host".to_owned())
    } else if !url.username().is_empty() || url.password().is_some() {
        Err("holds a user or password; use `headers` with a secret".to_owned())
    } else if url.query_pairs().any(secret) {
        Err("holds a secret in its query; use `headers` with a secret".to_owned())
    } else {
        Ok(url)
    }
}

fn values(of: &BTreeMap<String, Spanned<Setting>>) -> BTreeMap<String, Setting> {
    let pairs = of.iter();
    pairs
        .map(|(name, setting)| (name.clone(), setting.value.clone()))
        .collect()
}
