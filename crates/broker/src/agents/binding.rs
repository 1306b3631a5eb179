//! Which agent a caller means, and its servers as that caller sees them.

use std::sync::Arc;

use sessions::{Lane, Target};
use transports::ServerName;
use transports::tunnel::AgentId;

use super::offered::tunnel_target;
use super::{Agents, Known, Owner};
use crate::definition::{AgentRoute, Checked, Lead, Redactions};
use crate::error::{BrokerError, ErrorCode, Fault};
use crate::registry::{Server, Via};

/// What a caller says besides a name.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Aim<'a> {
    /// The run or conversation; `None` is the empty one.
    pub lane: Option<&'a Lane>,
    /// Exactly this agent.
    pub agent: Option<&'a AgentId>,
}

impl<'a> Aim<'a> {
    /// Whichever agent a lane means.
    pub(crate) fn lane(lane: &'a Lane) -> Self {
        Self {
            lane: Some(lane),
            agent: None,
        }
    }
}

impl Agents {
    /// A server as its caller sees it: one that leads to the caller's agents leads to the one that is meant. When
    /// none is, it stays as it is, and says so when it is used.
    pub(crate) fn bind(&self, owner: &Owner, server: Arc<Server>, aim: Aim<'_>) -> Arc<Server> {
        let Some(route) = server.route() else {
            return server;
        };
        match self.meant(owner, route, aim) {
            Some(known) => self.bound(&server, route, &known),
            None => server,
        }
    }

    /// What stands under a name for a caller who wants exactly one agent.
    ///
    /// # Errors
    /// `agent_not_found`.
    pub(crate) fn exactly(
        &self,
        owner: &Owner,
        (name, agent): (&ServerName, &AgentId),
    ) -> Result<Option<Arc<Server>>, BrokerError> {
        let Some(known) = self.get(owner, agent) else {
            return Err(no_such_agent());
        };
        let registry = &self.shared.ground.registry;
        if let Some(server) = registry.for_user(owner, name) {
            let leads_there = match (&server.via, server.route()) {
                (Some(via), _) => via.incarnation == known.incarnation,
                (None, Some(route)) => route.agent.as_ref().is_none_or(|id| id == agent),
                (None, None) => false,
            };
            if leads_there {
                let aim = Aim {
                    lane: None,
                    agent: Some(agent),
                };
                return Ok(Some(self.bind(owner, server, aim)));
            }
        }
        // As the agent itself names it.
        let own = registry.offered_by(owner, &known.agent).into_iter();
        let mut named = own.filter(|server| {
            let via = server.via.as_ref();
            via.is_some_and(|via| via.server == name.as_str())
        });
        Ok(named.next())
    }

    fn meant(&self, owner: &Owner, route: &AgentRoute, aim: Aim<'_>) -> Option<Arc<Known>> {
        if let Some(agent) = aim.agent.or(route.agent.as_ref()) {
            return self.get(owner, agent);
        }
        let lanes = self.lanes(owner);
        let of_lane = aim.lane.and_then(|lane| lanes.get(lane));
        if let Some(agent) = of_lane.or_else(|| lanes.get(&Lane::default())) {
            return self.get(owner, agent);
        }
        let mut all = self.all(owner);
        let only = all.pop();
        only.filter(|_| all.is_empty())
    }

    fn bound(&self, server: &Arc<Server>, route: &AgentRoute, known: &Known) -> Arc<Server> {
        let key = (route.version, known.incarnation);
        self.shared.bound.get_with(key, || {
            let version = self.shared.ground.registry.next_generation();
            let way = (&known.agent, route.server.as_str());
            let target = tunnel_target(&server.name, way, (route.isolation, version));
            Arc::new(Server {
                name: server.name.clone(),
                workspace: server.workspace.clone(),
                version: server.version,
                source: server.source,
                definition: server.definition.clone(),
                checked: Ok(Checked {
                    lead: Lead::Server(target),
                    child: None,
                    redactions: Redactions::default(),
                    needs: None,
                }),
                created_at: server.created_at.clone(),
                created_by: server.created_by.clone(),
                via: Some(Via {
                    agent: known.agent.clone(),
                    incarnation: known.incarnation,
                    server: route.server.clone(),
                }),
            })
        })
    }

    /// What a definition that is not saved leads to, for trying it out: a child that the bridge's own agent would run
    /// is tried as a child of the bridge.
    ///
    /// # Errors
    /// `agent_not_found`, when it leads to none of the owner's agents.
    pub(crate) fn trial_target(
        &self,
        owner: &Owner,
        name: &ServerName,
        checked: &Checked,
    ) -> Result<Target, BrokerError> {
        match (&checked.lead, &checked.child) {
            (Lead::Server(target) | Lead::Local(target), Some(child)) => Ok(Target {
                spec: Arc::clone(&child.spec),
                ..target.clone()
            }),
            (Lead::Server(target) | Lead::Local(target), None) => Ok(target.clone()),
            (Lead::Agents(route), _) => {
                let known = self.meant(owner, route, Aim::default());
                let known = known.ok_or_else(no_such_agent)?;
                let way = (&known.agent, route.server.as_str());
                Ok(tunnel_target(name, way, (route.isolation, route.version)))
            }
        }
    }

    /// Every server through which the owner reaches one agent: those it offers by itself, and those of the workspace
    /// that may lead to it.
    pub(crate) fn servers_of(&self, known: &Known) -> Vec<Arc<Server>> {
        let registry = &self.shared.ground.registry;
        let mut servers = registry.offered_by(&known.owner, &known.agent);
        for server in registry.routes(&known.owner.workspace) {
            let Some(route) = server.route() else {
                continue;
            };
            if route.agent.as_ref().is_none_or(|id| id == known.agent.id()) {
                servers.push(self.bound(&server, route, known));
            }
        }
        servers
    }
}

/// An agent by its name; what can be none is none.
///
/// # Errors
/// `agent_not_found`.
pub(crate) fn agent_named(text: &str) -> Result<AgentId, BrokerError> {
    AgentId::new(text).map_err(|_| no_such_agent())
}

/// Unknown, deleted and other users' agents are alike.
pub(crate) fn no_such_agent() -> BrokerError {
    Fault::new(ErrorCode::AgentNotFound, "there is no such agent")
}
