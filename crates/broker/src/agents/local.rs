//! The bridge's own agent: which children it is wanted to run. Who starts it and speaks to it is the daemon's.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use chrono::Utc;
use secrecy::ExposeSecret as _;
use sessions::WorkspaceId;
use sha2::{Digest as _, Sha256};
use tokio::sync::watch;
use transports::tunnel::bridge::Agent;
use transports::{Endpoint, ServerSpec, StdioSpec};

use super::Agents;
use super::offered::tunnel_target;
use crate::definition::{DefinitionError, Lead};
use crate::error::PointerDetail;
use crate::registry::Servers;

/// Under which id the bridge's own agent stands in the ledger and in events. No agent of a user can have it.
pub const LOCAL_AGENT: &str = "@local";
/// Hex digits of the digest in a child's name.
const DIGEST_DIGITS: usize = 16;

/// A server the bridge's own agent is to run.
#[derive(Debug, Clone)]
pub struct LocalServer {
    /// `<workspace>/<server>#<digest of how it is started>`: the same after a restart of the bridge, another when the
    /// definition changes, so that calls on the old child finish there.
    pub name: String,
    /// How it is started.
    pub spec: Arc<ServerSpec>,
}

/// What the daemon's local runner is given: the agent, and what it is to run.
#[derive(Debug, Clone)]
pub struct LocalRunner {
    agents: Agents,
    agent: Agent,
    wanted: watch::Receiver<Arc<Vec<LocalServer>>>,
    /// Above every epoch of an earlier process: it begins with the time.
    epoch: Arc<AtomicU64>,
}

impl LocalRunner {
    /// `None` where the bridge has no agent of its own.
    pub(crate) fn new(agents: &Agents) -> Option<Self> {
        let start = u64::try_from(Utc::now().timestamp_millis()).unwrap_or(0);
        Some(Self {
            agents: agents.clone(),
            agent: agents.own()?.clone(),
            wanted: agents.shared.ground.registry.local_children(),
            epoch: Arc::new(AtomicU64::new(start)),
        })
    }

    pub(super) fn agents(&self) -> &Agents {
        &self.agents
    }

    pub(super) fn next_epoch(&self) -> u64 {
        self.epoch.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// The agent, for the connection the runner makes.
    #[must_use]
    pub fn agent(&self) -> &Agent {
        &self.agent
    }

    /// What it is to run, now and after each change of definitions.
    #[must_use]
    pub fn wanted(&self) -> watch::Receiver<Arc<Vec<LocalServer>>> {
        self.wanted.clone()
    }
}

/// Turns definitions with `runner: agent` into servers of the bridge's own agent, and keeps the list of them.
#[derive(Debug)]
pub(crate) struct LocalServers {
    agent: Option<Agent>,
    wanted: watch::Sender<Arc<Vec<LocalServer>>>,
}

impl LocalServers {
    /// Of this agent.
    pub(crate) fn of(agent: Agent) -> Self {
        Self {
            agent: Some(agent),
            ..Self::none()
        }
    }

    /// There is no agent: such definitions are refused.
    pub(crate) fn none() -> Self {
        Self {
            agent: None,
            wanted: watch::Sender::default(),
        }
    }

    /// What the agent is to run.
    pub(crate) fn wanted(&self) -> watch::Receiver<Arc<Vec<LocalServer>>> {
        self.wanted.subscribe()
    }

    /// Leads a child's definition to the agent. There is no falling back to a child of the bridge: whoever asked for
    /// one that outlives the bridge would not get it, and would not know.
    pub(crate) fn lead(
        &self,
        workspace: &WorkspaceId,
        lead: Lead,
    ) -> Result<(Lead, Option<Arc<LocalServer>>), DefinitionError> {
        let Lead::Local(target) = lead else {
            return Ok((lead, None));
        };
        let Some(agent) = &self.agent else {
            return Err(DefinitionError {
                errors: vec![PointerDetail {
                    pointer: "/runner".to_owned(),
                    detail: "this bridge has no agent of its own (local_agent.enabled: false)"
                        .to_owned(),
                }],
            });
        };
        let child = LocalServer {
            name: child_name(workspace, &target.spec),
            spec: target.spec,
        };
        let way = (agent, child.name.as_str());
        let keeping = (target.isolation, target.version);
        let target = tunnel_target(&child.spec.name, way, keeping);
        Ok((Lead::Server(target), Some(Arc::new(child))))
    }

    /// Lists what is wanted of the servers there are; told only when it changed.
    pub(crate) fn want(&self, servers: &Servers) {
        let all = servers.values().flat_map(BTreeMap::values);
        let enabled = all.filter(|server| !server.definition.disabled);
        let children = enabled.filter_map(|server| server.checked.as_ref().ok()?.child.as_deref());
        let mut wanted: Vec<LocalServer> = children.cloned().collect();
        wanted.sort_by(|one, other| one.name.cmp(&other.name));
        self.wanted.send_if_modified(|held| {
            let names = |list: &[LocalServer]| list.iter().map(|one| one.name.clone()).collect();
            let (before, after): (Vec<String>, Vec<String>) = (names(held), names(&wanted));
            if before == after {
                return false;
            }
            *held = Arc::new(wanted);
            true
        });
    }
}

fn child_name(workspace: &WorkspaceId, spec: &ServerSpec) -> String {
    let mut digest = Sha256::new();
    if let Endpoint::Stdio(StdioSpec {
        argv,
        env,
        cwd,
        sandbox,
    }) = &spec.endpoint
    {
        for part in argv {
            digest.update(part);
            digest.update([0]);
        }
        for (name, value) in env {
            digest.update(name);
            digest.update([1]);
            digest.update(value.expose_secret());
            digest.update([0]);
        }
        digest.update([2]);
        digest.update(
            cwd.as_deref()
                .map_or(&b""[..], |cwd| cwd.as_os_str().as_encoded_bytes()),
        );
        digest.update(format!("{sandbox:?}"));
    }
    digest.update(format!("{:?}", spec.era));
    let digest: [u8; 32] = digest.finalize().into();
    let digest = &catalog::Hash(digest).hex()[..DIGEST_DIGITS];
    format!("{workspace}/{}#{digest}", spec.name)
}
