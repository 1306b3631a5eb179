//! Which servers exist for an asker: every lookup by name goes through here.

use std::sync::Arc;

use transports::ServerName;

use super::Inner;
use crate::asker::Asker;
use crate::error::{BrokerError, ErrorCode, Fault};
use crate::policy;
use crate::principal::Principal;
use crate::registry::Server;

impl Inner {
    /// The servers of the asker's workspace that its scopes let it see.
    pub(crate) fn visible_servers(&self, who: &Principal) -> Vec<Arc<Server>> {
        let mut servers = self.registry.list(&who.workspace);
        servers.retain(|server| policy::sees_server(who, server.name.as_str()));
        servers
    }

    /// One of them.
    pub(crate) fn visible_server(&self, who: &Principal, name: &ServerName) -> Option<Arc<Server>> {
        if !policy::sees_server(who, name.as_str()) {
            return None;
        }
        self.registry.get(&who.workspace, name)
    }

    /// One of them by text, or `server_not_found` with a did-you-mean.
    pub(crate) fn server_or_fault(
        &self,
        asker: &Asker,
        name: &str,
    ) -> Result<Arc<Server>, BrokerError> {
        let who = &asker.principal;
        let server = ServerName::new(name)
            .ok()
            .and_then(|name| self.visible_server(who, &name));
        server.ok_or_else(|| self.no_such_server(who, name))
    }

    /// As [`Inner::server_or_fault`], for servers that are to be used now.
    pub(crate) fn usable_server(
        &self,
        asker: &Asker,
        name: &str,
    ) -> Result<Arc<Server>, BrokerError> {
        let server = self.server_or_fault(asker, name)?;
        if server.definition.disabled {
            return Err(Fault::new(ErrorCode::Conflict, "the server is disabled"));
        }
        if !policy::may_read(&asker.principal, name) {
            return Err(Fault::new(
                ErrorCode::PolicyDenied,
                "this is not for this principal's roles",
            ));
        }
        Ok(server)
    }

    fn no_such_server(&self, who: &Principal, wrong: &str) -> BrokerError {
        let mut fault = Fault::new(ErrorCode::ServerNotFound, "there is no such server");
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
