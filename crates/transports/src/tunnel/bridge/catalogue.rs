//! What an agent offers, as last told.

use std::collections::HashSet;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use sha2::{Digest as _, Sha256};

use crate::tunnel::frame::{Lists, ServerTools, Tools};

/// All that an agent offers. Kept while it is offline.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct AgentCatalogue {
    /// As the agent counted it.
    pub generation: u64,
    /// Names the content: equal digests are equal catalogues. Lowercase hex; empty when nothing was told yet.
    pub digest: String,
    /// Its servers.
    pub servers: Vec<CatalogueServer>,
}

/// One server of an agent.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct CatalogueServer {
    /// Names the content of this server alone.
    pub digest: String,
    /// What was told.
    pub told: Arc<ServerTools>,
}

impl AgentCatalogue {
    /// What TOOLS told. Of two servers of one name the first counts. One whose lists the agent does not know yet
    /// keeps those of before.
    #[must_use]
    pub(crate) fn of(tools: Tools, before: &Self) -> Self {
        let mut servers: Vec<CatalogueServer> = Vec::with_capacity(tools.servers.len());
        let mut whole = Sha256::new();
        let mut names = HashSet::with_capacity(tools.servers.len());
        for told in tools.servers {
            if !names.insert(told.server.clone()) {
                continue;
            }
            let told = match before.server(&told.server) {
                Some(kept) if told.lists == Lists::Unknown => ServerTools {
                    problem: told.problem,
                    ..(*kept.told).clone()
                },
                _ => told,
            };
            let digest = digest_of(&told);
            whole.update(told.server.as_bytes());
            whole.update(digest.as_bytes());
            servers.push(CatalogueServer {
                digest,
                told: Arc::new(told),
            });
        }
        Self {
            generation: tools.generation,
            digest: hex::encode(whole.finalize()),
            servers,
        }
    }

    /// The server of that name.
    #[must_use]
    pub fn server(&self, name: &str) -> Option<&CatalogueServer> {
        self.servers
            .iter()
            .find(|server| server.told.server == name)
    }
}

fn digest_of(told: &ServerTools) -> String {
    let mut hash = Sha256::new();
    let mut part = |text: &str| {
        hash.update(text.len().to_le_bytes());
        hash.update(text.as_bytes());
    };
    for list in [&told.tools, &told.resources, &told.templates, &told.prompts] {
        part("");
        for entry in list {
            part(entry.get());
        }
    }
    let raw = |raw: &Option<Box<RawValue>>| raw.as_ref().map_or("", |raw| raw.get()).to_owned();
    part(&raw(&told.capabilities));
    part(&raw(&told.server_info));
    part(told.instructions.as_deref().unwrap_or(""));
    part(told.protocol_version.as_deref().unwrap_or(""));
    part(told.problem.as_deref().unwrap_or(""));
    hex::encode(hash.finalize())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn tools(servers: &serde_json::Value) -> Tools {
        serde_json::from_value(json!({"generation": 1, "servers": servers})).unwrap()
    }

    #[test]
    fn lists_not_known_yet_leave_those_of_before() {
        let known = json!([{"server": "files", "era": "modern", "tools": [{"name": "read"}]}]);
        let before = AgentCatalogue::of(tools(&known), &AgentCatalogue::default());
        let unknown = json!([{"server": "files", "era": "legacy", "lists": "unknown"},
            {"server": "new", "era": "legacy", "lists": "unknown"}]);
        let after = AgentCatalogue::of(tools(&unknown), &before);
        let files = after.server("files").unwrap();
        assert_eq!(files.digest, before.server("files").unwrap().digest);
        assert_eq!(files.told.tools.len(), 1);
        assert_eq!(files.told.era, before.server("files").unwrap().told.era);
        assert!(after.server("new").unwrap().told.tools.is_empty());
        let gone = json!([{"server": "files", "era": "modern", "tools": []}]);
        let gone = AgentCatalogue::of(tools(&gone), &after);
        assert!(gone.server("files").unwrap().told.tools.is_empty());
    }
}
