//! Servers of a workspace: their definitions, versions, differences, and the gate that tests them.

mod difference;
mod trial;

use std::collections::{BTreeMap, BTreeSet};

use chrono::Utc;
use sessions::WorkspaceId;
use transports::ServerName;

use self::difference::compare;
use super::page::{Page, PageRequest};
use super::{Broker, Inner};
use crate::asker::Asker;
use crate::definition::{Author, Checked, Definition, TransportKind};
use crate::error::{BrokerError, ErrorCode, Fault, PointerDetail};
use crate::events::{EventKind, NewEvent};
use crate::gate::CircuitView;
use crate::instant::rfc3339;
use crate::policy;
use crate::principal::Role;
use crate::registry::{Saved, Server, Source, refused};

/// Which version a change is based on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IfMatch {
    /// No `If-Match`: allowed only where nothing exists yet.
    Absent,
    /// `If-Match: *`: whatever is there.
    Any,
    /// `If-Match: "<version>"`.
    Version(u64),
}

/// A server as people see it; secret references are shown, secrets never.
#[derive(Debug, Clone)]
pub struct ServerView {
    /// Its name.
    pub name: ServerName,
    /// Its workspace.
    pub workspace: String,
    /// Rises with each change; also the `ETag`.
    pub version: u64,
    /// `file` or `api`.
    pub source: &'static str,
    /// The definition.
    pub definition: Definition,
    /// RFC 3339; `None` for those from the file.
    pub created_at: Option<String>,
    /// Who wrote this version.
    pub created_by: Option<String>,
    /// How its circuit stands; `None` where one version among others is shown.
    pub circuit: Option<CircuitView>,
}

/// One line of a difference between two versions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// JSON pointer into the definition.
    pub pointer: String,
    /// Before; `None` = not there.
    pub from: Option<serde_json::Value>,
    /// After; `None` = not there.
    pub to: Option<serde_json::Value>,
}

/// What a test found.
#[derive(Debug, Clone, Default)]
pub struct TestReport {
    /// It answered and listed.
    pub ok: bool,
    /// `modern` or `legacy`.
    pub era: Option<&'static str>,
    /// The protocol revision.
    pub protocol_version: Option<String>,
    /// What carries it.
    pub transport: Option<&'static str>,
    /// How many tools, resources, templates, prompts.
    pub tools: usize,
    /// See `tools`.
    pub resources: usize,
    /// See `tools`.
    pub templates: usize,
    /// See `tools`.
    pub prompts: usize,
    /// Milliseconds until listed.
    pub duration_ms: u64,
    /// Why not, when not `ok`.
    pub fault: Option<BrokerError>,
}

/// What a reload changed, by server name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Applied {
    /// New.
    pub added: Vec<String>,
    /// With another definition; their sessions were retired.
    pub changed: Vec<String>,
    /// Gone.
    pub removed: Vec<String>,
}

impl Broker {
    /// Replaces the servers of the admin's own file; sessions of unchanged definitions are kept.
    ///
    /// # Errors
    /// `invalid_arguments` with pointers `/servers/<name>/…`; then nothing changed.
    pub async fn apply_file(
        &self,
        servers: BTreeMap<ServerName, Definition>,
    ) -> Result<Applied, BrokerError> {
        let inner = &self.inner;
        let workspaces: BTreeSet<WorkspaceId> = servers
            .values()
            .filter_map(|one| one.workspace().ok())
            .collect();
        let (applied, gone) = inner.registry.replace_file(servers)?;
        for workspace in &workspaces {
            inner.store.add_workspace(workspace).await?;
            inner.events.add_workspace(workspace).await?;
        }
        for server in gone {
            inner.let_go(&server.workspace, &server.name).await;
        }
        Ok(applied)
    }

    /// The servers of the asker's workspace, by name.
    ///
    /// # Errors
    /// `invalid_request`.
    #[expect(clippy::unused_async, reason = "every operation is awaited alike")]
    pub async fn list_servers(
        &self,
        asker: &Asker,
        page: PageRequest,
    ) -> Result<Page<ServerView>, BrokerError> {
        let servers = self.inner.visible_servers(&asker.principal);
        let page = page.cut(servers, |server| server.name.to_string())?;
        Ok(Page {
            items: page.items.iter().map(|one| self.inner.shown(one)).collect(),
            next_cursor: page.next_cursor,
        })
    }

    /// One server.
    ///
    /// # Errors
    /// `server_not_found`.
    #[expect(clippy::unused_async, reason = "every operation is awaited alike")]
    pub async fn get_server(&self, asker: &Asker, name: &str) -> Result<ServerView, BrokerError> {
        let server = self.inner.server_or_fault(asker, name)?;
        Ok(self.inner.shown(&server))
    }

    /// Creates or changes a server: a new immutable version. `POST` passes `IfMatch::Absent` (an existing
    /// name is `conflict`), `PUT` what the header said (absent on an existing one is `conflict` too).
    ///
    /// # Errors
    /// `forbidden`, `invalid_arguments`, `conflict`, `version_conflict`, `store_unavailable`.
    #[expect(
        clippy::too_many_arguments,
        reason = "who, which, what, and what it is based on"
    )]
    pub async fn put_server(
        &self,
        asker: &Asker,
        name: &str,
        definition: Definition,
        if_match: IfMatch,
    ) -> Result<ServerView, BrokerError> {
        let inner = &self.inner;
        let name = ServerName::new(name).map_err(|error| {
            refused(vec![PointerDetail {
                pointer: "/name".to_owned(),
                detail: error.to_string(),
            }])
        })?;
        inner.pass_gate(asker, &name, &definition)?;
        let workspace = &asker.principal.workspace;
        let current = inner.registry.get(workspace, &name);
        // Commands were named by an admin: a server that holds one is changed by admins only.
        if let Some(current) = &current {
            check_author(asker, &current.definition)?;
            if current.definition.pins != definition.pins {
                policy::require_admin(&asker.principal)?;
            }
        }
        if current.is_none() {
            inner.check_look_alike(asker, &name)?;
        }
        let base = base_version(current.as_deref(), if_match)?;
        let versions = inner.store.server_versions(workspace, &name).await?;
        let newest = versions.first().map_or(0, |one| one.version);
        let saved = Saved {
            workspace: workspace.clone(),
            name,
            version: newest.max(base.unwrap_or(0)) + 1,
            definition,
            created_at: Some(rfc3339(Utc::now())),
            created_by: Some(asker.principal.user.to_string()),
        };
        if !inner.store.save_server(&saved, base).await? {
            return Err(another_version());
        }
        // A name that was deleted before goes on counting: the store says which version this became.
        let versions = inner.store.server_versions(workspace, &saved.name).await?;
        let server = inner
            .registry
            .put(versions.into_iter().next().unwrap_or(saved));
        inner.let_go(&server.workspace, &server.name).await;
        inner
            .note_action(asker, "server_saved", server.name.as_str())
            .await;
        inner.tell_version(asker, &server.name, Some(server.version));
        Ok(view(&server))
    }

    /// Removes a server; its versions stay readable.
    ///
    /// # Errors
    /// As [`Broker::put_server`], and `server_not_found`.
    pub async fn delete_server(
        &self,
        asker: &Asker,
        name: &str,
        if_match: IfMatch,
    ) -> Result<(), BrokerError> {
        let inner = &self.inner;
        let server = inner.server_or_fault(asker, name)?;
        check_author(asker, &server.definition)?;
        let base = base_version(Some(&server), if_match)?.unwrap_or(server.version);
        let by = asker.principal.user.as_str();
        if !inner
            .store
            .delete_server(&server.workspace, &server.name, base, by)
            .await?
        {
            return Err(another_version());
        }
        inner.registry.remove(&server.workspace, &server.name);
        inner.let_go(&server.workspace, &server.name).await;
        inner
            .note_action(asker, "server_deleted", server.name.as_str())
            .await;
        inner.tell_version(asker, &server.name, None);
        Ok(())
    }

    /// All versions of a server, newest first.
    ///
    /// # Errors
    /// `server_not_found`.
    pub async fn list_server_versions(
        &self,
        asker: &Asker,
        name: &str,
    ) -> Result<Vec<ServerView>, BrokerError> {
        let server = self.inner.server_or_fault(asker, name)?;
        if server.source != Source::Api {
            return Ok(vec![view(&server)]);
        }
        let versions = self
            .inner
            .store
            .server_versions(&server.workspace, &server.name)
            .await?;
        Ok(versions.into_iter().map(view_saved).collect())
    }

    /// What differs between two versions, by pointer.
    ///
    /// # Errors
    /// `server_not_found`, also for an unknown version.
    pub async fn diff_server(
        &self,
        asker: &Asker,
        name: &str,
        versions: (u64, u64),
    ) -> Result<Vec<Change>, BrokerError> {
        let all = self.list_server_versions(asker, name).await?;
        let (from, to) = (of_version(&all, versions.0)?, of_version(&all, versions.1)?);
        let json = |definition: &Definition| {
            serde_json::to_value(definition)
                .map_err(|_| Fault::new(ErrorCode::Internal, "a definition cannot be written"))
        };
        let mut changes = Vec::new();
        compare("", Some(&json(from)?), Some(&json(to)?), &mut changes);
        Ok(changes)
    }

    /// Makes an old version the newest again, as a new version.
    ///
    /// # Errors
    /// As [`Broker::put_server`], and `server_not_found`.
    #[expect(
        clippy::too_many_arguments,
        reason = "who, which, to what, and what it is based on"
    )]
    pub async fn rollback_server(
        &self,
        asker: &Asker,
        name: &str,
        version: u64,
        if_match: IfMatch,
    ) -> Result<ServerView, BrokerError> {
        let all = self.list_server_versions(asker, name).await?;
        let old = of_version(&all, version)?.clone();
        self.put_server(asker, name, old, if_match).await
    }
}

impl Inner {
    /// A server as it stands now.
    fn shown(&self, server: &Server) -> ServerView {
        ServerView {
            circuit: Some(self.gate.circuit(server)),
            ..view(server)
        }
    }

    /// The gate of saving and testing.
    fn pass_gate(
        &self,
        asker: &Asker,
        name: &ServerName,
        definition: &Definition,
    ) -> Result<Checked, BrokerError> {
        check_author(asker, definition)?;
        let workspace = definition.workspace.as_deref();
        if workspace.is_some_and(|workspace| workspace != asker.principal.workspace.as_str()) {
            return Err(refused(vec![PointerDetail {
                pointer: "/definition/workspace".to_owned(),
                detail: "is not the workspace of this request".to_owned(),
            }]));
        }
        let author = if asker.principal.has(Role::Admin) {
            Author::Admin
        } else {
            Author::Operator
        };
        self.registry
            .check(name, definition, author)
            .map_err(|error| {
                let place = |one: PointerDetail| PointerDetail {
                    pointer: format!("/definition{}", one.pointer),
                    detail: one.detail,
                };
                refused(error.errors.into_iter().map(place).collect())
            })
    }

    /// A new name must not be taken for one that is there (MCP09). The admin's own file may name what it likes.
    fn check_look_alike(&self, asker: &Asker, name: &ServerName) -> Result<(), BrokerError> {
        let skeleton = catalog::name_skeleton(name.as_str());
        let servers = self.visible_servers(&asker.principal);
        let alike = servers.iter().find(|server| {
            server.name != *name && catalog::name_skeleton(server.name.as_str()) == skeleton
        });
        alike.map_or(Ok(()), |alike| {
            Err(refused(vec![PointerDetail {
                pointer: "/name".to_owned(),
                detail: format!(
                    "looks like the server `{}`; give it another name",
                    alike.name
                ),
            }]))
        })
    }

    /// Sessions and catalogues of a definition that is no longer in force.
    async fn let_go(&self, workspace: &WorkspaceId, name: &ServerName) {
        self.sessions.retire(workspace, name);
        self.catalogues.forget(workspace, name).await;
    }

    fn tell_version(&self, asker: &Asker, name: &ServerName, version: Option<u64>) {
        let data =
            serde_json::json!({"server": name, "version": version, "by": asker.principal.user});
        if let Ok(data) = serde_json::value::to_raw_value(&data) {
            self.events.publish(NewEvent {
                kind: EventKind::ServerVersion,
                workspace: asker.principal.workspace.clone(),
                user: None,
                trace_id: Some(asker.trace.id()),
                session_id: None,
                call_id: None,
                agent_id: None,
                data,
            });
        }
    }
}

/// URL servers are for operators and admins, commands for admins.
fn check_author(asker: &Asker, definition: &Definition) -> Result<(), BrokerError> {
    let who = &asker.principal;
    if definition.transport == TransportKind::Stdio {
        policy::require_admin(who)
    } else {
        policy::require_manager(who, &[Role::Operator, Role::Admin])
    }
}

/// The version a change is based on; `None` where nothing may exist yet.
fn base_version(current: Option<&Server>, if_match: IfMatch) -> Result<Option<u64>, BrokerError> {
    match (current, if_match) {
        (Some(current), _) if current.source == Source::Agent => {
            let mut fault = Fault::new(ErrorCode::Conflict, "an agent of yours offers this server");
            fault.hint = Some("change it in the agent's own file".to_owned());
            Err(fault)
        }
        (Some(current), _) if current.source == Source::File => {
            let mut fault = Fault::new(
                ErrorCode::Conflict,
                "this server stands in the admin's file",
            );
            fault.hint = Some("change it there and reload".to_owned());
            Err(fault)
        }
        (Some(current), IfMatch::Any) => Ok(Some(current.version)),
        (Some(current), IfMatch::Version(version)) if current.version == version => {
            Ok(Some(version))
        }
        (Some(current), IfMatch::Version(_)) => {
            let mut fault = another_version();
            fault.hint = Some(format!("the current version is {}", current.version));
            Err(fault)
        }
        (Some(_), IfMatch::Absent) => {
            let mut fault = Fault::new(ErrorCode::Conflict, "a server of this name exists");
            fault.hint = Some("change it with PUT and If-Match".to_owned());
            Err(fault)
        }
        (None, IfMatch::Absent | IfMatch::Any) => Ok(None),
        (None, IfMatch::Version(_)) => Err(another_version()),
    }
}

fn another_version() -> BrokerError {
    Fault::new(ErrorCode::VersionConflict, "another version is current")
}

fn of_version(all: &[ServerView], version: u64) -> Result<&Definition, BrokerError> {
    let found = all.iter().find(|one| one.version == version);
    found.map(|one| &one.definition).ok_or_else(|| {
        Fault::new(
            ErrorCode::ServerNotFound,
            format!("there is no version {version} of this server"),
        )
    })
}

fn view(server: &Server) -> ServerView {
    ServerView {
        name: server.name.clone(),
        workspace: server.workspace.to_string(),
        version: server.version,
        source: match server.source {
            Source::File => "file",
            Source::Api => "api",
            Source::Agent => "agent",
        },
        definition: server.definition.clone(),
        created_at: server.created_at.clone(),
        created_by: server.created_by.clone(),
        circuit: None,
    }
}

fn view_saved(saved: Saved) -> ServerView {
    ServerView {
        name: saved.name,
        workspace: saved.workspace.to_string(),
        version: saved.version,
        source: "api",
        definition: saved.definition,
        created_at: saved.created_at,
        created_by: saved.created_by,
        circuit: None,
    }
}
