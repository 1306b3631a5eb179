//! Which servers exist for an asker: every lookup by name goes through here.

use std::sync::Arc;

use sessions::SessionKey;
use transports::{MAX_SERVER_NAME_BYTES, ServerName};

use super::Inner;
use crate::agents::{Aim, Owner};
use crate::asker::Asker;
use crate::error::{BrokerError, ErrorCode, Fault};
use crate::principal::Principal;
use crate::registry::Server;

impl Inner {
    /// The servers of the asker's workspace that its scopes let it see, and those of the asker's own agents.
    pub(crate) fn visible_servers(&self, who: &Principal) -> Vec<Arc<Server>> {
        let owner = Owner::new(&who.workspace, &who.user);
        let mut servers = self.registry.list(&owner);
        let policy = self.policy.now();
        servers.retain(|server| policy.sees_server(who, server.name.as_str()));
        let bind = |server| self.agents.bind(&owner, server, Aim::default());
        servers.into_iter().map(bind).collect()
    }

    /// One of them.
    pub(crate) fn visible_server(&self, who: &Principal, name: &ServerName) -> Option<Arc<Server>> {
        self.visible_server_in(who, name, Aim::default()).ok()?
    }

    /// One of them, for a lane or through exactly one agent.
    ///
    /// # Errors
    /// `agent_not_found`.
    pub(crate) fn visible_server_in(
        &self,
        who: &Principal,
        name: &ServerName,
        aim: Aim<'_>,
    ) -> Result<Option<Arc<Server>>, BrokerError> {
        let owner = Owner::new(&who.workspace, &who.user);
        let found = if let Some(agent) = aim.agent {
            self.agents.exactly(&owner, (name, agent))?
        } else {
            let server = self.registry.for_user(&owner, name);
            server.map(|server| self.agents.bind(&owner, server, aim))
        };
        // By the name it has in the asker's view: scopes speak of that.
        let policy = self.policy.now();
        let seen = |server: &Arc<Server>| policy.sees_server(who, server.name.as_str());
        Ok(found.filter(seen))
    }

    /// The server behind a session, as the session's owner sees it.
    pub(crate) fn server_of(&self, key: &SessionKey) -> Option<Arc<Server>> {
        let server = self.registry.of_session(key)?;
        let Some(user) = &key.user else {
            return Some(server);
        };
        let owner = Owner::new(&key.workspace, user);
        let aim = Aim {
            lane: key.lane.as_ref(),
            agent: key.via.as_ref(),
        };
        Some(self.agents.bind(&owner, server, aim))
    }

    /// One of them by text, or `server_not_found` with a did-you-mean.
    pub(crate) fn server_or_fault(
        &self,
        asker: &Asker,
        name: &str,
    ) -> Result<Arc<Server>, BrokerError> {
        self.server_in_or_fault(asker, name, Aim::default())
    }

    fn server_in_or_fault(
        &self,
        asker: &Asker,
        name: &str,
        aim: Aim<'_>,
    ) -> Result<Arc<Server>, BrokerError> {
        let who = &asker.principal;
        let server = match ServerName::new(name) {
            Ok(name) => self.visible_server_in(who, &name, aim)?,
            Err(_) => None,
        };
        server.ok_or_else(|| self.no_such_server(who, name))
    }

    /// As [`Inner::server_or_fault`], for servers that are to be used now.
    pub(crate) fn usable_server(
        &self,
        asker: &Asker,
        name: &str,
    ) -> Result<Arc<Server>, BrokerError> {
        self.usable_server_in(asker, name, Aim::default())
    }

    /// The same for a lane, or through exactly one agent.
    pub(crate) fn usable_server_in(
        &self,
        asker: &Asker,
        name: &str,
        aim: Aim<'_>,
    ) -> Result<Arc<Server>, BrokerError> {
        let server = self.server_in_or_fault(asker, name, aim)?;
        if server.definition.disabled {
            return Err(Fault::new(ErrorCode::Conflict, "the server is disabled"));
        }
        let policy = self.policy.now();
        if !policy.may_read(&asker.principal, server.name.as_str()) {
            return Err(Fault::new(
                ErrorCode::PolicyDenied,
                "this is not for this principal's roles",
            ));
        }
        Ok(server)
    }

    fn no_such_server(&self, who: &Principal, wrong: &str) -> BrokerError {
        let mut fault = Fault::new(ErrorCode::ServerNotFound, "there is no such server");
        // Likeness costs the product of both lengths; no server has a name that is none.
        if wrong.len() > MAX_SERVER_NAME_BYTES {
            return fault;
        }
        let servers = self.visible_servers(who);
        let names = servers.iter().map(|server| server.name.as_str());
        let near = names
            .map(|name| (strsim::normalized_damerau_levenshtein(wrong, name), name))
            .filter(|(likeness, _)| *likeness > 0.5)
            .max_by(|(one, _), (two, _)| one.total_cmp(two));
        fault.hint = near.map(|(_, name)| format!("did you mean {name}?"));
        fault
    }
}
