//! Servers of a workspace: their definitions, versions, differences, and the gate that tests them.

use std::collections::BTreeMap;

use transports::ServerName;

use super::Broker;
use super::page::{Page, PageRequest};
use crate::asker::Asker;
use crate::definition::Definition;
use crate::error::BrokerError;

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
#[derive(Debug, Clone)]
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
        let _ = servers;
        todo!("filled next")
    }

    /// The servers of the asker's workspace, by name.
    ///
    /// # Errors
    /// `invalid_request`.
    pub async fn list_servers(
        &self,
        asker: &Asker,
        page: PageRequest,
    ) -> Result<Page<ServerView>, BrokerError> {
        let _ = (asker, page);
        todo!("filled next")
    }

    /// One server.
    ///
    /// # Errors
    /// `server_not_found`.
    pub async fn get_server(&self, asker: &Asker, name: &str) -> Result<ServerView, BrokerError> {
        let _ = (asker, name);
        todo!("filled next")
    }

    /// Creates or changes a server: a new immutable version. `POST` passes `IfMatch::Absent` (an existing
    /// name is `conflict`), `PUT` what the header said (absent on an existing one is `version_conflict`).
    ///
    /// # Errors
    /// `forbidden`, `invalid_arguments`, `conflict`, `version_conflict`, `store_unavailable`.
    pub async fn put_server(
        &self,
        asker: &Asker,
        name: &str,
        definition: Definition,
        if_match: IfMatch,
    ) -> Result<ServerView, BrokerError> {
        let _ = (asker, name, definition, if_match);
        todo!("filled next")
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
        let _ = (asker, name, if_match);
        todo!("filled next")
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
        let _ = (asker, name);
        todo!("filled next")
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
        let _ = (asker, name, versions);
        todo!("filled next")
    }

    /// Makes an old version the newest again, as a new version.
    ///
    /// # Errors
    /// As [`Broker::put_server`], and `server_not_found`.
    pub async fn rollback_server(
        &self,
        asker: &Asker,
        name: &str,
        version: u64,
        if_match: IfMatch,
    ) -> Result<ServerView, BrokerError> {
        let _ = (asker, name, version, if_match);
        todo!("filled next")
    }

    /// Opens a saved server apart from its sessions and lists it; nothing is called. `definition` tests
    /// one that is not saved, behind the same gate as saving.
    ///
    /// # Errors
    /// `forbidden`, `server_not_found`, `invalid_arguments`. A server that does not answer is a report, not an error.
    pub async fn test_server(
        &self,
        asker: &Asker,
        name: &str,
        definition: Option<Definition>,
    ) -> Result<TestReport, BrokerError> {
        let _ = (asker, name, definition);
        todo!("filled next")
    }
}
