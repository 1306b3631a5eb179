//! Whose a task is, on servers whose session a whole workspace shares: the server itself cannot tell its callers
//! apart. Memory only: after a restart such tasks are nobody's.

use std::time::Duration;

use serde::Deserialize;
use sessions::{Isolation, UserId, WorkspaceId};
use transports::ServerName;

use crate::asker::Asker;
use crate::operations::calls::ToolResult;
use crate::registry::Server;

/// Tasks remembered; the oldest of more are nobody's.
const MAX_TASKS: u64 = 100_000;
/// How long after its last use a task is remembered.
const TASK_IDLE: Duration = Duration::from_hours(24);

type Key = (WorkspaceId, ServerName, String);

/// The owners of tasks.
#[derive(Debug)]
pub(crate) struct TaskOwners(moka::sync::Cache<Key, UserId>);

impl TaskOwners {
    pub(crate) fn new() -> Self {
        let tasks = moka::sync::Cache::builder()
            .max_capacity(MAX_TASKS)
            .time_to_idle(TASK_IDLE);
        Self(tasks.build())
    }

    /// Whether one session serves several users.
    pub(crate) fn is_shared(server: &Server) -> bool {
        server.definition.isolation == Isolation::Shared
    }

    /// Remembers the task a result began, if it did and it matters.
    pub(crate) fn note(&self, user: &UserId, server: &Server, result: &ToolResult) {
        /// 2026-07-28 has the id beside `resultType`, 2025-11-25 in `task`.
        #[derive(Deserialize)]
        struct Begun {
            #[serde(rename = "taskId", default)]
            id: Option<String>,
            #[serde(default)]
            task: Option<Inner>,
        }
        #[derive(Deserialize)]
        struct Inner {
            #[serde(rename = "taskId")]
            id: String,
        }
        if !Self::is_shared(server) || !result.may_be_task() {
            return;
        }
        let begun: Option<Begun> = serde_json::from_str(result.raw().get()).ok();
        let id = begun.and_then(|begun| begun.id.or(begun.task.map(|task| task.id)));
        if let Some(id) = id {
            let key = (server.workspace.clone(), server.name.clone(), id);
            self.0.insert(key, user.clone());
        }
    }

    /// Whether a task is not this asker's, as far as it matters.
    pub(crate) fn is_foreign(&self, asker: &Asker, server: &Server, task: &str) -> bool {
        if !Self::is_shared(server) {
            return false;
        }
        let key = (
            server.workspace.clone(),
            server.name.clone(),
            task.to_owned(),
        );
        self.0
            .get(&key)
            .is_none_or(|user| user != asker.principal.user)
    }
}
