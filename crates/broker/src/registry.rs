//! Which servers each workspace has: those of the admin's file and those from the store, in memory; and which
//! servers of a user's own agents stand beside them, for that user alone. Opens nothing and writes nothing.

mod server;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use foldhash::{HashMap, HashMapExt as _};
use sessions::{SessionKey, UserId, WorkspaceId};
use tokio::sync::watch;
use transports::tunnel::bridge::Agent;
use transports::{OutboundPolicy, ServerName};

pub(crate) use self::server::{Server, Source, Via};
use crate::agents::local::{LocalServer, LocalServers};
use crate::agents::offered::{Offer, Offered, Owner, own_servers};
use crate::definition::{Author, Checked, Definition, DefinitionError, Gate, Secrets};
use crate::error::{BrokerError, ErrorCode, Fault, PointerDetail};
use crate::operations::servers::Applied;

/// Servers by workspace and name.
pub(crate) type Servers = HashMap<WorkspaceId, BTreeMap<ServerName, Arc<Server>>>;
/// Servers of users' own agents.
type Own = HashMap<Owner, BTreeMap<ServerName, Arc<Server>>>;

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
    own: ArcSwap<Own>,
    layers: Mutex<Layers>,
    secrets: Secrets,
    outbound: OutboundPolicy,
    local: LocalServers,
    /// Target versions: unlike the version people see, never the same for two definitions of this process.
    generation: AtomicU64,
}

#[derive(Debug, Default)]
struct Layers {
    file: Servers,
    api: Servers,
    offered: HashMap<Owner, Offered>,
}

impl Registry {
    pub(crate) fn new(secrets: Secrets, outbound: OutboundPolicy, local: LocalServers) -> Self {
        Self {
            current: ArcSwap::default(),
            own: ArcSwap::default(),
            layers: Mutex::default(),
            secrets,
            outbound,
            local,
            generation: AtomicU64::new(1),
        }
    }

    /// One server of a workspace.
    pub(crate) fn get(&self, workspace: &WorkspaceId, name: &ServerName) -> Option<Arc<Server>> {
        self.current.load().get(workspace)?.get(name).cloned()
    }

    /// One server of the user's own agents.
    pub(crate) fn own(&self, owner: &Owner, name: &ServerName) -> Option<Arc<Server>> {
        self.own.load().get(owner)?.get(name).cloned()
    }

    /// What stands under a name for one user.
    pub(crate) fn for_user(&self, owner: &Owner, name: &ServerName) -> Option<Arc<Server>> {
        self.get(&owner.workspace, name)
            .or_else(|| self.own(owner, name))
    }

    /// The definition behind a session.
    pub(crate) fn of_session(&self, key: &SessionKey) -> Option<Arc<Server>> {
        let shared = self.get(&key.workspace, &key.server);
        let own = |user: &UserId| self.own(&Owner::new(&key.workspace, user), &key.server);
        shared.or_else(|| own(key.user.as_ref()?))
    }

    /// A user's servers, by name: those of the workspace, and those of the user's own agents.
    pub(crate) fn list(&self, owner: &Owner) -> Vec<Arc<Server>> {
        let current = self.current.load();
        let own = self.own.load();
        let shared = current.get(&owner.workspace).into_iter();
        let own = own.get(owner).into_iter();
        let mut all: Vec<_> = shared
            .chain(own)
            .flat_map(BTreeMap::values)
            .cloned()
            .collect();
        all.sort_by(|one, other| one.name.cmp(&other.name));
        all
    }

    /// The user's own servers that one agent offers.
    pub(crate) fn offered_by(&self, owner: &Owner, agent: &Agent) -> Vec<Arc<Server>> {
        let own = self.own.load();
        let of_agent = |server: &&Arc<Server>| {
            let via = server.via.as_ref();
            via.is_some_and(|via| via.agent.id() == agent.id())
        };
        let servers = own.get(owner).into_iter().flat_map(BTreeMap::values);
        servers.filter(of_agent).cloned().collect()
    }

    /// Servers of a workspace that lead to its users' agents.
    pub(crate) fn routes(&self, workspace: &WorkspaceId) -> Vec<Arc<Server>> {
        let current = self.current.load();
        let servers = current
            .get(workspace)
            .into_iter()
            .flat_map(BTreeMap::values);
        servers
            .filter(|server| server.route().is_some())
            .cloned()
            .collect()
    }

    /// What an agent offers from now on, in place of what it did; nothing, when it is gone.
    pub(crate) fn offer(
        &self,
        owner: &Owner,
        (agent, incarnation): (&Agent, u64),
        servers: Vec<String>,
    ) {
        let mut layers = self.layers.lock().unwrap_or_else(PoisonError::into_inner);
        let offered = layers.offered.entry(owner.clone()).or_default();
        if servers.is_empty() {
            offered.remove(agent.id());
        } else {
            let offer = Offer {
                agent: agent.clone(),
                incarnation,
                servers,
            };
            offered.insert(agent.id().clone(), offer);
        }
        if offered.is_empty() {
            layers.offered.remove(owner);
        }
        self.publish_own(&layers, |one| one == owner);
    }

    /// What the bridge's own agent is to run.
    pub(crate) fn local_children(&self) -> watch::Receiver<Arc<Vec<LocalServer>>> {
        self.local.wanted()
    }

    /// A version no other target of this process has; rises.
    pub(crate) fn next_generation(&self) -> u64 {
        self.generation.fetch_add(1, Ordering::Relaxed)
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
        let checked = definition.to_target(name, self.next_generation(), &gate)?;
        let workspace = definition.workspace()?;
        let (lead, child) = self.local.lead(&workspace, checked.lead)?;
        Ok(Checked {
            lead,
            child,
            redactions: checked.redactions,
            needs: checked.needs,
        })
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
            via: None,
        });
        let mut layers = self.layers.lock().unwrap_or_else(PoisonError::into_inner);
        let own = layers.api.entry(server.workspace.clone()).or_default();
        own.insert(server.name.clone(), Arc::clone(&server));
        self.publish(&layers);
        server
    }

    /// Puts a server inside this process in place.
    #[cfg(any(test, feature = "measuring"))]
    pub(crate) fn put_in_process(
        &self,
        workspace: &WorkspaceId,
        (definition, spec): (Definition, transports::ServerSpec),
    ) {
        let generation = self.generation.fetch_add(1, Ordering::Relaxed);
        let server = Arc::new(Server {
            name: spec.name.clone(),
            workspace: workspace.clone(),
            version: 1,
            source: Source::Api,
            checked: Ok(Checked {
                lead: crate::definition::Lead::Server(sessions::Target {
                    spec: Arc::new(spec),
                    isolation: definition.isolation,
                    version: generation,
                }),
                child: None,
                redactions: crate::definition::Redactions::default(),
                needs: None,
            }),
            definition,
            created_at: None,
            created_by: None,
            via: None,
        });
        let mut layers = self.layers.lock().unwrap_or_else(PoisonError::into_inner);
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
            via: None,
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
        self.local.want(&merged);
        self.current.store(Arc::new(merged));
        // A name the workspace takes is no agent's any more.
        self.publish_own(layers, |_| true);
    }

    /// Names what agents offer to the owners asked for.
    fn publish_own(&self, layers: &Layers, which: impl Fn(&Owner) -> bool) {
        let before = self.own.load();
        let current = self.current.load();
        let mut next: Own = HashMap::new();
        for (owner, offered) in &layers.offered {
            let held = before.get(owner);
            let servers = match held {
                Some(held) if !which(owner) => held.clone(),
                _ => {
                    let taken = current.get(&owner.workspace);
                    own_servers(owner, offered, (held, taken), || self.next_generation())
                }
            };
            next.insert(owner.clone(), servers);
        }
        self.own.store(Arc::new(next));
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
        let registry = Registry::new(
            Secrets::default(),
            OutboundPolicy::default(),
            LocalServers::none(),
        );
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
        let registry = Registry::new(
            Secrets::default(),
            OutboundPolicy::default(),
            LocalServers::none(),
        );
        let home = WorkspaceId::new("default").unwrap();
        registry.replace_file(file(&[("a", "x")])).unwrap();
        let fault = registry
            .replace_file(file(&[("b", "x"), ("c", "")]))
            .unwrap_err();
        assert_eq!(fault.errors[0].pointer, "/servers/c/command/0");
        assert_eq!(
            registry
                .list(&Owner::new(&home, &UserId::new("ann").unwrap()))
                .len(),
            1
        );
    }
}
