//! What the MCP endpoints look up without waiting: memory only, so that a call costs no more for it.

use std::sync::Arc;

use catalog::{Kind, Ref};
use serde_json::value::RawValue;
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;
use transports::ServerName;

use super::Broker;
use crate::asker::Asker;
use crate::call::core_tasks;
use crate::catalogue::Moved;
use crate::policy::{Decision, Subject};
use crate::principal::Principal;

/// Watches all catalogues an asker may see.
#[derive(Debug)]
pub struct CatalogueWatch {
    who: Principal,
    moves: broadcast::Receiver<Arc<Moved>>,
}

impl CatalogueWatch {
    /// Resolves when a catalogue or a server has changed; `None` when the bridge is gone. Safe to drop and call again.
    pub async fn next(&mut self) -> Option<()> {
        loop {
            match self.moves.recv().await {
                Ok(moved) if !moved.concerns(&self.who) => {}
                // What was lost may have been this asker's.
                Ok(_) | Err(RecvError::Lagged(_)) => return Some(()),
                Err(RecvError::Closed) => return None,
            }
        }
    }
}

impl Broker {
    /// Watches all catalogues from now on.
    #[must_use]
    pub fn watch_catalogues(&self, asker: &Asker) -> CatalogueWatch {
        CatalogueWatch {
            who: asker.principal.clone(),
            moves: self.inner.catalogues.moves(),
        }
    }

    /// Whether there is such a server, as far as this asker may see.
    #[must_use]
    pub fn knows_server(&self, asker: &Asker, name: &ServerName) -> bool {
        self.inner.visible_server(&asker.principal, name).is_some()
    }

    /// A tool's definition as the server wrote it; `None` when it is hidden, unknown, or was never listed.
    #[must_use]
    pub fn tool_definition(
        &self,
        asker: &Asker,
        server: &ServerName,
        tool: &str,
    ) -> Option<Arc<RawValue>> {
        let who = &asker.principal;
        let server = self.inner.visible_server(who, server)?;
        let reference = Ref {
            server: server.name.clone(),
            name: Arc::from(tool),
        };
        let slot = self.inner.catalogues.slot_for(&server, &who.user);
        let entry = slot.entry(Kind::Tool, &reference)?;
        let hints = server.definition.corrected(tool, entry.hints);
        let subject = Subject {
            reference: &reference,
            hints,
            arguments: None,
        };
        let policy = self.inner.policy.now();
        let shown = policy.decide(who, subject).decision != Decision::Hide;
        shown.then(|| Arc::clone(&entry.raw))
    }

    /// Whether a tool's definition is not the approved one: no list shows it to a model.
    #[must_use]
    pub fn is_quarantined(&self, asker: &Asker, server: &ServerName, tool: &str) -> bool {
        let user = &asker.principal.user;
        let Some(server) = self.inner.visible_server(&asker.principal, server) else {
            return false;
        };
        let reference = Ref {
            server: server.name.clone(),
            name: Arc::from(tool),
        };
        let slot = self.inner.catalogues.slot_for(&server, user);
        let entry = slot.entry(Kind::Tool, &reference);
        let standing = |entry: Arc<_>| self.inner.pins.standing(&server, user, &entry);
        entry.is_some_and(|entry| standing(entry).is_quarantined())
    }

    /// Whether a tool says that it runs as a task of 2025-11-25 only; false when it was never listed.
    #[must_use]
    pub fn demands_task(&self, asker: &Asker, server: &ServerName, tool: &str) -> bool {
        let definition = self.tool_definition(asker, server, tool);
        definition.is_some_and(|definition| core_tasks::is_demanded(&definition))
    }

    /// Refs of the tools that owners want listed directly, of the servers this asker may see.
    #[must_use]
    pub fn always_exposed(&self, asker: &Asker) -> Vec<String> {
        let servers = self.inner.visible_servers(&asker.principal);
        let enabled = servers.iter().filter(|server| !server.definition.disabled);
        enabled
            .flat_map(|server| {
                let tools = server.definition.always_expose.iter();
                tools.map(|tool| format!("{}.{tool}", server.name))
            })
            .collect()
    }
}
