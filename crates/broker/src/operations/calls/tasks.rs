//! Calls as tasks: those that run on without their callers, each its caller's alone. Knows neither kind of MCP tasks.

use transports::ServerName;

use super::views::{view_ended, view_live, view_row};
use super::{CallView, Page, PageRequest, no_such_call};
use crate::asker::Asker;
use crate::call::CallId;
use crate::error::BrokerError;
use crate::ledger::{Intent, RowFilter, Tasks};
use crate::operations::Broker;
use crate::operations::page::bad_cursor;

impl Broker {
    /// One task of the asker's own, of this server's tools or of any.
    ///
    /// # Errors
    /// `call_not_found`, also for a call that is no task.
    pub async fn get_task(
        &self,
        asker: &Asker,
        of: Option<&ServerName>,
        task_id: &str,
    ) -> Result<CallView, BrokerError> {
        let inner = &self.inner;
        let id = CallId::parse(task_id).ok_or_else(no_such_call)?;
        let tasks = Tasks {
            server: of.cloned(),
        };
        let own = |intent: &Intent| intent.user == asker.principal.user && tasks.have(intent);
        if let Some(live) = inner.in_memory(asker, id) {
            if !own(&live.intent) {
                return Err(no_such_call());
            }
            return Ok(match live.outcome() {
                Some(ended) => view_ended(&live, &ended),
                None => view_live(&live),
            });
        }
        let row = inner.ledger.row(&asker.principal.workspace, id).await?;
        let row = row.filter(|row| own(&row.intent));
        view_row(&row.ok_or_else(no_such_call)?)
    }

    /// The same, all of them, newest first: just what [`Broker::get_task`] finds.
    ///
    /// # Errors
    /// `invalid_request` for a page that is none.
    pub async fn list_tasks(
        &self,
        asker: &Asker,
        of: Option<&ServerName>,
        page: PageRequest,
    ) -> Result<Page<CallView>, BrokerError> {
        let limit = page.limit()?;
        let before = page.cursor.as_deref();
        let before = before.map(|cursor| CallId::parse(cursor).ok_or_else(bad_cursor));
        let filter = RowFilter {
            workspace: asker.principal.workspace.clone(),
            user: Some(asker.principal.user.clone()),
            state: None,
            reference: None,
            since: None,
            idempotency_key: None,
            trace_id: None,
            tasks: Some(Tasks {
                server: of.cloned(),
            }),
            before: before.transpose()?,
            limit: limit + 1,
        };
        let mut items = self.inner.views_of(asker, &filter).await?;
        let more = items.len() > limit;
        items.truncate(limit);
        let next_cursor = items.last().filter(|_| more);
        let next_cursor = next_cursor.map(|last| last.call_id.clone());
        Ok(Page { items, next_cursor })
    }
}
