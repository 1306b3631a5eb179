//! The part of a definition that leads to agents: each caller's own.

use sessions::Isolation;
use transports::tunnel::AgentId;

use super::check::Complaints;
use super::{AgentRoute, Definition, Runner};

/// Longest name of a server on an agent, in bytes.
const MAX_AGENT_SERVER_BYTES: usize = 128;

impl Complaints<'_> {
    pub(super) fn no_child(&mut self, definition: &Definition, transport: &str) {
        self.unused("/command", !definition.command.is_empty(), transport);
        self.unused("/env", !definition.env.is_empty(), transport);
        self.unused("/cwd", definition.cwd.is_some(), transport);
        self.unused("/sandbox", definition.sandbox.is_some(), transport);
        if definition.runner == Runner::Agent {
            self.add("/runner", "an agent runs servers of transport stdio only");
        }
    }

    /// Leads to each caller's own agent, so that nothing of it is shared.
    pub(super) fn tunnel(&mut self, definition: &Definition, version: u64) -> Option<AgentRoute> {
        self.no_child(definition, "tunnel");
        self.unused("/url", definition.url.is_some(), "tunnel");
        self.unused("/headers", !definition.headers.is_empty(), "tunnel");
        self.unused("/auth", definition.auth.is_some(), "tunnel");
        if definition.isolation == Isolation::Shared {
            let detail = "a tunnel leads to each caller's own agent: user, lane or call";
            self.add("/isolation", detail);
        }
        let agent = match definition.agent.as_deref().map(AgentId::new) {
            Some(Err(error)) => {
                self.add("/agent", error.to_string());
                None
            }
            Some(Ok(agent)) => Some(agent),
            None => None,
        };
        let Some(server) = &definition.server else {
            self.add("/server", "is needed for transport tunnel");
            return None;
        };
        if server.is_empty() || server.len() > MAX_AGENT_SERVER_BYTES {
            let detail = format!("must have 1 to {MAX_AGENT_SERVER_BYTES} bytes");
            self.add("/server", detail);
        }
        Some(AgentRoute {
            agent,
            server: server.clone(),
            isolation: definition.isolation,
            version,
        })
    }
}
