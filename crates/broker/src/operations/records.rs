//! Events and audit as callers see them.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use sessions::WorkspaceId;
use uuid::Uuid;

use super::page::{Page, PageRequest, bad_cursor};
use super::{Broker, Inner};
use crate::asker::Asker;
use crate::call::CallId;
use crate::call::live::Live;
use crate::error::{BrokerError, ErrorCode, Fault};
use crate::events::{Event, EventKind, NewEvent, Viewer};
pub use crate::events::{EventQuery, Subscription};
use crate::instant::rfc3339;
use crate::keys::DEFAULT_WORKSPACE;
use crate::ledger::{Row, RowFilter};
use crate::policy;
use crate::principal::Role;
use crate::store::Action;

/// Which audit rows.
#[derive(Debug, Clone, Default)]
pub struct AuditQuery {
    /// RFC 3339.
    pub since: Option<String>,
    /// RFC 3339.
    pub until: Option<String>,
    /// Only this user.
    pub user: Option<String>,
    /// Only this ref.
    pub reference: Option<String>,
    /// Only this outcome: a state or a code.
    pub outcome: Option<String>,
    /// Which part.
    pub page: PageRequest,
}

/// One audit row.
#[derive(Debug, Clone)]
pub struct AuditRow {
    /// Its place: rises with time; several may share one.
    pub seq: u64,
    /// RFC 3339.
    pub ts: String,
    /// Who.
    pub user: String,
    /// Where.
    pub workspace: String,
    /// What.
    pub action: String,
    /// On what.
    pub reference: Option<String>,
    /// How it ended.
    pub outcome: String,
    /// Of a failure.
    pub code: Option<String>,
    /// The call.
    pub call_id: Option<String>,
    /// The trace.
    pub trace_id: Option<String>,
    /// The key.
    pub key_id: Option<String>,
    /// In words.
    pub detail: Option<String>,
}

/// Rows read at once while an audit page is filled.
const BATCH: usize = 500;
/// Batches read for one page; past it the page is short and its cursor goes on.
const MAX_BATCHES: usize = 20;

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

    /// The audit record of the asker's workspace, newest first: calls, refused ones too, and administrative acts.
    ///
    /// # Errors
    /// `forbidden`, `invalid_request`.
    pub async fn list_audit(
        &self,
        asker: &Asker,
        query: AuditQuery,
    ) -> Result<Page<AuditRow>, BrokerError> {
        policy::require_admin(&asker.principal)?;
        let limit = query.page.limit()?;
        let cursor = query.page.cursor.as_deref();
        let mut before = cursor
            .map(|text| Uuid::try_parse(text).map_err(|_| bad_cursor()))
            .transpose()?;
        let wanted = Wanted {
            since: moment(query.since.as_deref())?.unwrap_or(DateTime::UNIX_EPOCH),
            until: moment(query.until.as_deref())?
                .unwrap_or_else(|| Utc::now() + TimeDelta::days(1)),
            query: &query,
        };
        let mut items = Vec::new();
        for _ in 0..MAX_BATCHES {
            let batch = self.inner.audit_batch(asker, &wanted, before).await?;
            let last = batch.len() < BATCH;
            for (id, row) in batch {
                before = Some(id);
                if wanted.takes(&row) {
                    items.push(row);
                }
                if items.len() == limit {
                    return Ok(Page {
                        items,
                        next_cursor: Some(id.to_string()),
                    });
                }
            }
            if last {
                return Ok(Page {
                    items,
                    next_cursor: None,
                });
            }
        }
        Ok(Page {
            items,
            next_cursor: before.map(|id| id.to_string()),
        })
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

struct Wanted<'a> {
    since: DateTime<Utc>,
    until: DateTime<Utc>,
    query: &'a AuditQuery,
}

impl Wanted<'_> {
    fn takes(&self, row: &AuditRow) -> bool {
        let query = self.query;
        let outcome = |wanted: &String| row.outcome == *wanted || row.code.as_ref() == Some(wanted);
        query.user.as_ref().is_none_or(|user| row.user == *user)
            && (query.reference.is_none() || query.reference == row.reference)
            && query.outcome.as_ref().is_none_or(outcome)
    }
}

impl Inner {
    /// Calls and acts older than an id, newest first.
    async fn audit_batch(
        &self,
        asker: &Asker,
        wanted: &Wanted<'_>,
        before: Option<Uuid>,
    ) -> Result<Vec<(Uuid, AuditRow)>, BrokerError> {
        let workspace = &asker.principal.workspace;
        let filter = RowFilter {
            workspace: workspace.clone(),
            user: None,
            state: None,
            reference: None,
            since: Some(wanted.since),
            idempotency_key: None,
            trace_id: None,
            before: before.map(CallId),
            limit: BATCH,
        };
        let calls = self.ledger.rows(&filter).await?;
        // The millisecond of the last row may hold more: those shown already are left out by id.
        let until = before.and_then(millisecond).map_or(wanted.until, |at| {
            wanted.until.min(at + TimeDelta::milliseconds(1))
        });
        let acts = self
            .store
            .actions(workspace, (wanted.since, until), BATCH)
            .await?;
        let mut rows: Vec<(Uuid, AuditRow)> = calls.into_iter().map(call_row).collect();
        rows.extend(acts.into_iter().filter_map(act_row));
        let older = |id: Uuid| before.is_none_or(|before| id < before);
        rows.retain(|(id, _)| older(*id) && millisecond(*id).is_none_or(|at| at < wanted.until));
        rows.sort_by_key(|(id, _)| std::cmp::Reverse(*id));
        rows.truncate(BATCH);
        Ok(rows)
    }
}

fn call_row(row: Row) -> (Uuid, AuditRow) {
    let fault = row.fault();
    let id = row.intent.id.0;
    let audit = AuditRow {
        seq: place(id),
        ts: rfc3339(row.intent.created_at),
        user: row.intent.user.to_string(),
        workspace: row.intent.workspace.to_string(),
        action: format!("call_{}", row.intent.kind.as_str()),
        reference: Some(row.intent.reference),
        outcome: row.state.as_str().to_owned(),
        code: fault.map(|fault| fault.code.as_str().to_owned()),
        call_id: Some(row.intent.id.to_string()),
        trace_id: Some(row.intent.trace_id),
        key_id: Some(row.intent.key_id),
        detail: Some(row.intent.preview).filter(|preview| !preview.is_empty()),
    };
    (id, audit)
}

fn act_row(act: Action) -> Option<(Uuid, AuditRow)> {
    let id = Uuid::try_parse(act.id.strip_prefix("act_")?).ok()?;
    let audit = AuditRow {
        seq: place(id),
        ts: rfc3339(act.created_at),
        user: act.user.to_string(),
        workspace: act.workspace.to_string(),
        action: act.action,
        reference: Some(act.target),
        outcome: "succeeded".to_owned(),
        code: None,
        call_id: None,
        trace_id: Some(act.trace_id),
        key_id: Some(act.key_id),
        detail: None,
    };
    Some((id, audit))
}

/// Milliseconds since the epoch, from the id: rises, and fits into a JSON number everywhere.
fn place(id: Uuid) -> u64 {
    u64::try_from(id.as_u128() >> 80).unwrap_or(0)
}

fn millisecond(id: Uuid) -> Option<DateTime<Utc>> {
    DateTime::from_timestamp_millis(i64::try_from(place(id)).ok()?)
}

fn viewer(asker: &Asker) -> Viewer {
    Viewer {
        user: asker.principal.user.clone(),
        admin: asker.principal.has(Role::Admin),
    }
}

fn moment(text: Option<&str>) -> Result<Option<DateTime<Utc>>, BrokerError> {
    let Some(text) = text else { return Ok(None) };
    let read = DateTime::parse_from_rfc3339(text);
    let bad = |_| {
        Fault::new(
            ErrorCode::InvalidRequest,
            "since and until are RFC 3339 times",
        )
    };
    read.map(|at| Some(at.with_timezone(&Utc))).map_err(bad)
}
