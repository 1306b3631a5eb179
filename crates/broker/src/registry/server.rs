//! One server as callers use it: its definition, where it leads, and through which agent.

use sessions::{Target, WorkspaceId};
use transports::tunnel::bridge::Agent;
use transports::{Endpoint, ServerName};

use crate::agents::local::LOCAL_AGENT;
use crate::definition::{AgentRoute, Checked, Definition, DefinitionError, Lead, Redactions};
use crate::error::{BrokerError, ErrorCode, Fault};

/// Who keeps a definition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source {
    /// The admin's own file; it cannot be changed over the API.
    File,
    /// The store.
    Api,
    /// The user's own agent offers it.
    Agent,
}

/// One server, as callers use it. Immutable; a change makes a new one.
#[derive(Debug)]
pub(crate) struct Server {
    pub name: ServerName,
    pub workspace: WorkspaceId,
    pub version: u64,
    pub source: Source,
    pub definition: Definition,
    /// `Err` when what was saved no longer passes the gate, such as a secret that went away.
    pub checked: Result<Checked, DefinitionError>,
    pub created_at: Option<String>,
    pub created_by: Option<String>,
    /// The user's own agent it leads to, once that is known.
    pub via: Option<Via>,
}

/// A server of a user's own agent.
#[derive(Debug, Clone)]
pub(crate) struct Via {
    pub agent: Agent,
    /// Another for every agent of this process, also when one was deleted and came again under its old id.
    pub incarnation: u64,
    /// The server's name there.
    pub server: String,
}

impl Server {
    /// What sessions open.
    ///
    /// # Errors
    /// `upstream_unreachable`, when the definition no longer passes the gate; `agent_not_found`, when it leads to
    /// an agent the caller does not have.
    pub(crate) fn target(&self) -> Result<&Target, BrokerError> {
        match &self.checked {
            Ok(Checked {
                lead: Lead::Server(target) | Lead::Local(target),
                ..
            }) => Ok(target),
            Ok(Checked {
                lead: Lead::Agents(route),
                ..
            }) => Err(self.no_agent(route)),
            Err(error) => {
                let detail = format!("the definition of {} is not valid any more", self.name);
                let mut fault = Fault::new(ErrorCode::UpstreamUnreachable, detail);
                fault.errors.clone_from(&error.errors);
                fault.upstream = Some((self.name.to_string(), None));
                Err(fault)
            }
        }
    }

    fn no_agent(&self, route: &AgentRoute) -> BrokerError {
        let (detail, hint) = match &route.agent {
            Some(agent) => (
                format!(
                    "{} is a server of an agent {agent}, and you have none",
                    self.name
                ),
                "paperbot-mcp agent pair",
            ),
            None => (
                format!(
                    "{} is a server of one of your agents, and none is meant",
                    self.name
                ),
                "name one with agent_id, or set a default: PUT /v1/agents/default",
            ),
        };
        let mut fault = Fault::new(ErrorCode::AgentNotFound, detail);
        fault.hint = Some(hint.to_owned());
        fault.upstream = Some((self.name.to_string(), None));
        fault
    }

    /// Whether each caller has a server of its own behind the name.
    pub(crate) fn route(&self) -> Option<&AgentRoute> {
        match &self.checked {
            Ok(Checked {
                lead: Lead::Agents(route),
                ..
            }) => Some(route),
            Ok(_) | Err(_) => None,
        }
    }

    /// The agent that runs it: the user's own, or the bridge's.
    pub(crate) fn agent(&self) -> Option<&Agent> {
        match &self.target().ok()?.spec.endpoint {
            Endpoint::Tunnel(tunnel) => Some(&tunnel.agent),
            _ => None,
        }
    }

    /// That agent as the ledger names it.
    pub(crate) fn agent_id(&self) -> Option<String> {
        match &self.via {
            Some(via) => Some(via.agent.id().to_string()),
            None => self.agent().map(|_| LOCAL_AGENT.to_owned()),
        }
    }

    /// Whether calls can be sent now, as far as memory knows.
    ///
    /// # Errors
    /// `agent_offline`.
    pub(crate) fn check_agent(&self) -> Result<(), BrokerError> {
        let Some(agent) = self.agent().filter(|agent| !agent.is_online()) else {
            return Ok(());
        };
        let detail = match &self.via {
            Some(_) => format!("the agent `{}` is not connected", agent.id()),
            None => "the bridge's own agent is not running".to_owned(),
        };
        let mut fault = Fault::new(ErrorCode::AgentOffline, detail);
        fault.upstream = Some((self.name.to_string(), None));
        Err(fault)
    }

    /// The secrets to take out of its words.
    pub(crate) fn redactions(&self) -> &Redactions {
        static NONE: std::sync::LazyLock<Redactions> =
            std::sync::LazyLock::new(Redactions::default);
        self.checked.as_ref().map_or(&*NONE, |c| &c.redactions)
    }
}
