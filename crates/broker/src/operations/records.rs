//! Events as callers see them.

use std::sync::Arc;
use std::time::Duration;

use sessions::WorkspaceId;

use super::Broker;
use super::page::{Page, PageRequest, bad_cursor};
use crate::asker::Asker;
use crate::call::CallId;
use crate::call::live::Live;
use crate::error::{BrokerError, ErrorCode, Fault};
use crate::events::{Event, EventKind, NewEvent, Viewer};
pub use crate::events::{EventQuery, Subscription};
use crate::keys::DEFAULT_WORKSPACE;
use crate::policy;
use crate::principal::Role;

impl Broker {
    /// Follows events.
    ///
    /// # Errors
    /// `overloaded` when too many follow already; `call_not_found` for a call that is not the asker's.
    pub async fn subscribe(
        &self,
        asker: &Asker,
        query: EventQuery,
    ) -> Result<Subscription, BrokerError> {
        let live = match &query.call_id {
            Some(call_id) => self.followed(asker, call_id).await?,
            None => None,
        };
        let subscription = self.inner.events.subscribe(
            &asker.principal.workspace,
            (viewer(asker), &query),
            live.as_ref().map(|live| &live.voice),
        );
        subscription.ok_or_else(|| {
            let mut fault = Fault::new(
                ErrorCode::Overloaded,
                "too many follow the events of this workspace",
            );
            fault.retry_after = Some(Duration::from_secs(1));
            fault
        })
    }

    /// The call somebody wants to follow, when memory has it; otherwise it must be in the ledger.
    async fn followed(
        &self,
        asker: &Asker,
        call_id: &str,
    ) -> Result<Option<Arc<Live>>, BrokerError> {
        let live = CallId::parse(call_id).and_then(|id| self.inner.in_memory(asker, id));
        if live.is_none() {
            self.get_call(asker, call_id, Duration::ZERO).await?;
        }
        Ok(live)
    }

    /// Kept events, oldest first.
    ///
    /// # Errors
    /// `invalid_request`.
    pub async fn list_events(
        &self,
        asker: &Asker,
        mut query: EventQuery,
        page: PageRequest,
    ) -> Result<Page<Arc<Event>>, BrokerError> {
        let limit = page.limit()?;
        if let Some(cursor) = &page.cursor {
            query.after = Some(u64::from_str_radix(cursor, 16).map_err(|_| bad_cursor())?);
        }
        let call = query.call_id.as_deref().and_then(CallId::parse);
        let live = call.and_then(|id| self.inner.in_memory(asker, id));
        let (hub, workspace) = (&self.inner.events, &asker.principal.workspace);
        let voice = live.as_ref().map(|live| &live.voice);
        let mut items = hub
            .history(workspace, (viewer(asker), &query), voice, limit + 1)
            .await?;
        let more = items.len() > limit;
        items.truncate(limit);
        let next_cursor = items
            .last()
            .filter(|_| more)
            .map(|last| format!("{:016x}", last.id));
        Ok(Page { items, next_cursor })
    }

    /// Tells admins that a reload failed.
    pub fn publish_config_failure(&self, detail: &str) {
        let data = serde_json::value::to_raw_value(&serde_json::json!({"detail": detail}));
        if let (Ok(workspace), Ok(data)) = (WorkspaceId::new(DEFAULT_WORKSPACE), data) {
            self.inner.events.publish(NewEvent {
                kind: EventKind::ConfigReloadFailed,
                workspace,
                user: None,
                trace_id: None,
                session_id: None,
                call_id: None,
                agent_id: None,
                data,
            });
        }
    }
}

fn viewer(asker: &Asker) -> Viewer {
    Viewer {
        user: asker.principal.user.clone(),
        admin: asker.principal.oversees(),
        approver: policy::manages(&asker.principal, &[Role::Approver]),
    }
}
