//! Which servers each workspace has: those of the admin's file and those from the store, in memory.
//! Opens nothing and writes nothing.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use sessions::{Target, WorkspaceId};
use transports::{OutboundPolicy, ServerName};

use crate::definition::{Author, Checked, Definition, DefinitionError, Gate, Redactions, Secrets};
use crate::error::{BrokerError, ErrorCode, Fault, PointerDetail};
use crate::operations::servers::Applied;

/// Who keeps a definition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source {
    /// The admin's own file; it cannot be changed over the API.
    File,
    /// The store.
    Api,
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
}

impl Server {
    /// What sessions open.
    ///
    /// # Errors
    /// `upstream_unreachable`, when the definition no longer passes the gate.
    pub(crate) fn target(&self) -> Result<&Target, BrokerError> {
        match &self.checked {
            Ok(checked) => Ok(&checked.target),
            Err(error) => {
                let detail = format!("the definition of {} is not valid any more", self.name);
                let mut fault = Fault::new(ErrorCode::UpstreamUnreachable, detail);
                fault.errors.clone_from(&error.errors);
                fault.upstream = Some((self.name.to_string(), None));
                Err(fault)
            }
        }
    }

    /// The secrets to take out of its words.
    pub(crate) fn redactions(&self) -> &Redactions {
        static NONE: std::sync::LazyLock<Redactions> =
            std::sync::LazyLock::new(Redactions::default);
        self.checked.as_ref().map_or(&*NONE, |c| &c.redactions)
    }
}

type Servers = HashMap<WorkspaceId, BTreeMap<ServerName, Arc<Server>>>;

/// A saved definition, as the store gives it.
#[derive(Debug, Clone)]
pub(crate) struct Saved {
    pub workspace: WorkspaceId,
    pub name: ServerName,
    pub version: u64,
    pub definition: Definition,
    pub created_at: Option<String>,
    pub created_by: Option<String>,
}

/// All servers of all workspaces.
#[derive(Debug)]
pub(crate) struct Registry {
    current: ArcSwap<Servers>,
    layers: Mutex<Layers>,
    secrets: Secrets,
    outbound: OutboundPolicy,
    /// Target versions: unlike the version people see, never the same for two definitions of this process.
    generation: AtomicU64,
}

#[derive(Debug, Default)]
struct Layers {
    file: Servers,
    api: Servers,
}

impl Registry {
    pub(crate) fn new(secrets: Secrets, outbound: OutboundPolicy) -> Self {
        Self {
            current: ArcSwap::default(),
            layers: Mutex::default(),
            secrets,
            outbound,
            generation: AtomicU64::new(1),
        }
    }

    /// One server.
    pub(crate) fn get(&self, workspace: &WorkspaceId, name: &ServerName) -> Option<Arc<Server>> {
        self.current.load().get(workspace)?.get(name).cloned()
    }

    /// A workspace's servers, by name.
    pub(crate) fn list(&self, workspace: &WorkspaceId) -> Vec<Arc<Server>> {
        let current = self.current.load();
        let servers = current.get(workspace);
        servers.map_or_else(Vec::new, |servers| servers.values().cloned().collect())
    }

    /// Holds a definition against the gate.
    pub(crate) fn check(
        &self,
        name: &ServerName,
        definition: &Definition,
        author: Author,
    ) -> Result<Checked, DefinitionError> {
        let gate = Gate {
            author,
            secrets: &self.secrets,
            outbound: &self.outbound,
        };
        let generation = self.generation.fetch_add(1, Ordering::Relaxed);
        definition.to_target(name, generation, &gate)
    }

    /// Puts a server of the store in place and answers it.
    pub(crate) fn put(&self, saved: Saved) -> Arc<Server> {
        let checked = self.check(&saved.name, &saved.definition, Author::Admin);
        let server = Arc::new(Server {
            name: saved.name,
            workspace: saved.workspace,
            version: saved.version,
            source: Source::Api,
            definition: saved.definition,
            checked,
            created_at: saved.created_at,
            created_by: saved.created_by,
        });
        let mut layers = self.layers.lock().unwrap_or_else(PoisonError::into_inner);
        let own = layers.api.entry(server.workspace.clone()).or_default();
        own.insert(server.name.clone(), Arc::clone(&server));
        self.publish(&layers);
        server
    }

    /// Puts a server inside this process in place.
    #[cfg(test)]
    pub(crate) fn put_in_process(&self, definition: Definition, spec: transports::ServerSpec) {
        let generation = self.generation.fetch_add(1, Ordering::Relaxed);
        let server = Arc::new(Server {
            name: spec.name.clone(),
            workspace: WorkspaceId::new("default").unwrap(),
            version: 1,
            source: Source::Api,
            checked: Ok(Checked {
                target: Target {
                    spec: Arc::new(spec),
                    isolation: definition.isolation,
                    version: generation,
                },
                redactions: Redactions::default(),
            }),
            definition,
            created_at: None,
            created_by: None,
        });
        let mut layers = self.layers.lock().unwrap();
        let own = layers.api.entry(server.workspace.clone()).or_default();
        own.insert(server.name.clone(), server);
        self.publish(&layers);
    }

    /// Takes a server of the store away.
    pub(crate) fn remove(&self, workspace: &WorkspaceId, name: &ServerName) {
        let mut layers = self.layers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(own) = layers.api.get_mut(workspace) {
            own.remove(name);
        }
        self.publish(&layers);
    }

    /// Replaces the servers of the file. Those whose definition and secrets did not change stay the same
    /// objects, and so keep their sessions. Answers what changed, and which servers' sessions must go.
    ///
    /// # Errors
    /// `invalid_arguments` with every complaint; then nothing changed.
    pub(crate) fn replace_file(
        &self,
        definitions: BTreeMap<ServerName, Definition>,
    ) -> Result<(Applied, Vec<Arc<Server>>), BrokerError> {
        let mut layers = self.layers.lock().unwrap_or_else(PoisonError::into_inner);
        let mut next: Servers = HashMap::new();
        let mut complaints = Vec::new();
        for (name, definition) in definitions {
            match self.server_of_file(&layers.file, &name, definition) {
                Ok(server) => {
                    let own = next.entry(server.workspace.clone()).or_default();
                    own.insert(name, server);
                }
                Err(error) => {
                    complaints.extend(error.errors.into_iter().map(|one| PointerDetail {
                        pointer: format!("/servers/{name}{}", one.pointer),
                        detail: one.detail,
                    }));
                }
            }
        }
        if !complaints.is_empty() {
            return Err(refused(complaints));
        }
        let (applied, gone) = difference(&layers.file, &next);
        layers.file = next;
        self.publish(&layers);
        Ok((applied, gone))
    }

    fn server_of_file(
        &self,
        old: &Servers,
        name: &ServerName,
        definition: Definition,
    ) -> Result<Arc<Server>, DefinitionError> {
        let workspace = definition.workspace()?;
        let checked = self.check(name, &definition, Author::File)?;
        let before = old.get(&workspace).and_then(|own| own.get(name));
        if let Some(before) = before {
            let same_secrets = before.redactions().same(&checked.redactions);
            if before.definition == definition && same_secrets {
                return Ok(Arc::clone(before));
            }
        }
        Ok(Arc::new(Server {
            name: name.clone(),
            workspace,
            version: before.map_or(1, |before| before.version + 1),
            source: Source::File,
            definition,
            checked: Ok(checked),
            created_at: None,
            created_by: None,
        }))
    }

    /// A name that stands in the file and in the store means the file's.
    fn publish(&self, layers: &Layers) {
        let mut merged = layers.api.clone();
        for (workspace, servers) in &layers.file {
            let own = merged.entry(workspace.clone()).or_default();
            own.extend(
                servers
                    .iter()
                    .map(|(name, one)| (name.clone(), Arc::clone(one))),
            );
        }
        self.current.store(Arc::new(merged));
    }
}

/// The fault for a definition that does not pass the gate.
pub(crate) fn refused(complaints: Vec<PointerDetail>) -> BrokerError {
    let detail = complaints.first().map_or_else(
        || "the definition is not valid".to_owned(),
        |first| format!("{}: {}", first.pointer, first.detail),
    );
    let mut fault = Fault::new(ErrorCode::InvalidArguments, detail);
    fault.errors = complaints;
    fault
}

fn difference(old: &Servers, new: &Servers) -> (Applied, Vec<Arc<Server>>) {
    let mut applied = Applied::default();
    let mut gone = Vec::new();
    for server in old.values().flat_map(BTreeMap::values) {
        let after = new
            .get(&server.workspace)
            .and_then(|own| own.get(&server.name));
        match after {
            Some(after) if Arc::ptr_eq(after, server) => continue,
            Some(_) => applied.changed.push(server.name.to_string()),
            None => applied.removed.push(server.name.to_string()),
        }
        gone.push(Arc::clone(server));
    }
    for server in new.values().flat_map(BTreeMap::values) {
        let before = old
            .get(&server.workspace)
            .and_then(|own| own.get(&server.name));
        if before.is_none() {
            applied.added.push(server.name.to_string());
        }
    }
    for names in [
        &mut applied.added,
        &mut applied.changed,
        &mut applied.removed,
    ] {
        names.sort();
    }
    (applied, gone)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(entries: &[(&str, &str)]) -> BTreeMap<ServerName, Definition> {
        let server = |(name, program): &(&str, &str)| {
            let json = format!(r#"{{"transport":"stdio","command":["{program}"]}}"#);
            (
                ServerName::new(name).unwrap(),
                serde_json::from_str(&json).unwrap(),
            )
        };
        entries.iter().map(server).collect()
    }

    #[test]
    fn a_reload_keeps_what_did_not_change_and_replaces_the_rest() {
        let registry = Registry::new(Secrets::default(), OutboundPolicy::default());
        let home = WorkspaceId::new("default").unwrap();
        registry
            .replace_file(file(&[("a", "x"), ("b", "x"), ("c", "x")]))
            .unwrap();
        let kept = registry.get(&home, &ServerName::new("a").unwrap()).unwrap();
        let (applied, gone) = registry
            .replace_file(file(&[("a", "x"), ("b", "y"), ("d", "x")]))
            .unwrap();
        assert_eq!(
            (applied.added, applied.changed, applied.removed),
            (
                vec!["d".to_owned()],
                vec!["b".to_owned()],
                vec!["c".to_owned()]
            )
        );
        assert_eq!(gone.len(), 2);
        let again = registry.get(&home, &ServerName::new("a").unwrap()).unwrap();
        assert!(Arc::ptr_eq(&kept, &again));
        let changed = registry.get(&home, &ServerName::new("b").unwrap()).unwrap();
        assert_eq!(changed.version, 2);
    }

    #[test]
    fn a_bad_file_changes_nothing_and_names_the_place() {
        let registry = Registry::new(Secrets::default(), OutboundPolicy::default());
        let home = WorkspaceId::new("default").unwrap();
        registry.replace_file(file(&[("a", "x")])).unwrap();
        let fault = registry
            .replace_file(file(&[("b", "x"), ("c", "")]))
            .unwrap_err();
        assert_eq!(fault.errors[0].pointer, "/servers/c/command/0");
        assert_eq!(registry.list(&home).len(), 1);
    }
}
