//! The servers a bridge gives its local agent, as text for one CONFIGURE. Holds secrets: it crosses a Unix socket
//! between two processes of one user, and nothing else.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::config::AgentServer;
use crate::name::ServerName;
use crate::sandbox::Sandbox;
use crate::spec::{Endpoint, EraChoice, ServerSpec, StdioSpec, Timeouts, WireLimits};

/// The text is no list of servers.
#[derive(Debug, thiserror::Error)]
#[error("the servers of a CONFIGURE cannot be read: {0}")]
pub struct BadConfigure(String);

#[derive(Serialize, Deserialize)]
struct Definition {
    name: String,
    server: String,
    argv: Vec<String>,
    #[serde(default)]
    env: BTreeMap<String, String>,
    #[serde(default)]
    cwd: Option<PathBuf>,
    #[serde(default)]
    sandbox: Sandbox,
    era: EraChoice,
    /// Connect, probe, initialize, close.
    timeouts_ms: [u64; 4],
    frame_bytes: usize,
    in_flight: usize,
}

/// Servers as text; those that are no child processes are left out, for only these need a local agent.
#[must_use]
pub fn encode(servers: &[AgentServer]) -> Box<RawValue> {
    let definitions: Vec<_> = servers.iter().filter_map(definition).collect();
    // Text, numbers and lists of them always serialise.
    serde_json::value::to_raw_value(&definitions).unwrap_or_else(|_| RawValue::NULL.to_owned())
}

/// The servers of a text.
///
/// # Errors
/// [`BadConfigure`].
pub fn decode(text: &RawValue) -> Result<Vec<AgentServer>, BadConfigure> {
    // serde's words could quote a value.
    let definitions: Vec<Definition> = serde_json::from_str(text.get())
        .map_err(|error| BadConfigure(format!("{:?}", error.classify())))?;
    definitions.into_iter().map(server).collect()
}

fn definition(server: &AgentServer) -> Option<Definition> {
    let Endpoint::Stdio(stdio) = &server.spec.endpoint else {
        return None;
    };
    let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    let env = stdio.env.iter();
    let timeouts = &server.spec.timeouts;
    Some(Definition {
        name: server.name.clone(),
        server: server.spec.name.to_string(),
        argv: stdio.argv.clone(),
        env: env
            .map(|(name, value)| (name.clone(), value.expose_secret().to_owned()))
            .collect(),
        cwd: stdio.cwd.clone(),
        sandbox: stdio.sandbox.clone(),
        era: server.spec.era,
        timeouts_ms: [
            timeouts.connect,
            timeouts.probe,
            timeouts.initialize,
            timeouts.close_grace,
        ]
        .map(millis),
        frame_bytes: server.spec.limits.frame_bytes,
        in_flight: server.spec.limits.in_flight,
    })
}

fn server(definition: Definition) -> Result<AgentServer, BadConfigure> {
    let name =
        ServerName::new(&definition.server).map_err(|error| BadConfigure(error.to_string()))?;
    let env = definition.env.into_iter();
    let [connect, probe, initialize, close_grace] =
        definition.timeouts_ms.map(Duration::from_millis);
    Ok(AgentServer {
        name: definition.name,
        spec: ServerSpec {
            name,
            endpoint: Endpoint::Stdio(StdioSpec {
                argv: definition.argv,
                env: env
                    .map(|(name, value)| (name, SecretString::from(value)))
                    .collect(),
                cwd: definition.cwd,
                sandbox: definition.sandbox,
            }),
            era: definition.era,
            timeouts: Timeouts {
                connect,
                probe,
                initialize,
                close_grace,
            },
            limits: WireLimits {
                frame_bytes: definition.frame_bytes,
                in_flight: definition.in_flight,
            },
        },
        allow_tools: Vec::new(),
        deny_tools: Vec::new(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_in_comes_out() {
        let spec = ServerSpec {
            name: ServerName::new("files").unwrap(),
            endpoint: Endpoint::Stdio(StdioSpec {
                argv: vec!["files".to_owned(), "--all".to_owned()],
                env: BTreeMap::from([("KEY".to_owned(), SecretString::from("s3cr3t"))]),
                cwd: Some(PathBuf::from("/data")),
                sandbox: Sandbox {
                    processes: Some(7),
                    ..Sandbox::none()
                },
            }),
            era: EraChoice::Legacy,
            timeouts: Timeouts::default(),
            limits: WireLimits::default(),
        };
        let server = AgentServer {
            name: "default/files#0a".to_owned(),
            spec,
            allow_tools: Vec::new(),
            deny_tools: Vec::new(),
        };
        let back = decode(&encode(std::slice::from_ref(&server))).unwrap();
        assert!(back.len() == 1 && back[0].same(&server), "{back:?}");
    }

    #[test]
    fn what_is_none_is_refused_without_a_quote() {
        let raw = RawValue::from_string("[{\"name\":\"s3cr3t\",\"argv\":7}]".to_owned()).unwrap();
        let refused = decode(&raw).unwrap_err().to_string();
        assert!(!refused.contains("s3cr3t"), "{refused}");
    }
}
