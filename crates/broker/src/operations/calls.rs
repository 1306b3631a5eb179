//! `call_tool` and the life of a call afterwards: get, list, cancel, follow.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde_json::value::RawValue;
use sessions::Lane;
use tokio::time::Instant;

use super::page::{Page, PageRequest, bad_cursor};
use super::{Broker, Inner};
use crate::asker::Asker;
use crate::call::CallId;
use crate::call::admit::admit;
use crate::call::live::{Live, Stop};
use crate::call::outcome::Ended;
use crate::call::run::Running;
use crate::call_state::CallState;
use crate::error::{BrokerError, ErrorCode, Fault};
use crate::instant::rfc3339;
use crate::ledger::{Intent, Row, RowFilter, kept_result};
use crate::principal::Role;

/// One wish to run a tool.
#[derive(Debug, Clone, Default)]
pub struct CallTool {
    /// `server.tool`.
    pub reference: String,
    /// A JSON object; `{}` when `None`.
    pub arguments: Option<Box<RawValue>>,
    /// The run or conversation.
    pub lane: Lane,
    /// Deadline, from now; the server's or the bridge's default when `None`.
    pub timeout: Option<Duration>,
    /// The definition the caller knows, short or long; another one is `schema_changed`.
    pub schema_hash: Option<String>,
    /// A single-use approval.
    pub confirm_token: Option<String>,
    /// Check everything, send nothing.
    pub dry_run: bool,
    /// Makes the call repeatable and lets it outlive its connection.
    pub idempotency_key: Option<String>,
    /// Answer as soon as it is accepted; it runs on by itself.
    pub respond_async: bool,
}

/// What `call_tool` answers.
#[derive(Debug, Clone)]
pub enum CallAnswer {
    /// It ran (or an equal call had run).
    Done(CallDone),
    /// It runs by itself (`respond_async`).
    Accepted {
        /// `call_…`.
        call_id: String,
    },
    /// Nothing was sent (`dry_run`).
    Checked(DryRun),
}

/// A call that ended with a result; `is_error` results are results.
#[derive(Debug, Clone)]
pub struct CallDone {
    /// `call_…`.
    pub call_id: String,
    /// The trace the call ran under (of the first run, when replayed).
    pub trace_id: String,
    /// The result.
    pub result: Arc<ToolResult>,
    /// From accepted to settled.
    pub duration: Duration,
    /// An earlier or concurrent call with the same idempotency key gave this.
    pub replayed: bool,
}

/// The upstream's result, untouched, with its members found once.
#[derive(Debug)]
pub struct ToolResult {
    pub(crate) raw: Box<RawValue>,
    pub(crate) is_error: bool,
    pub(crate) content: Option<Range<usize>>,
    pub(crate) structured: Option<Range<usize>>,
    pub(crate) meta: Option<Range<usize>>,
}

impl ToolResult {
    /// The whole result object as the upstream wrote it.
    #[must_use]
    pub fn raw(&self) -> &RawValue {
        &self.raw
    }

    /// The tool said it failed.
    #[must_use]
    pub fn is_error(&self) -> bool {
        self.is_error
    }

    /// `content`, raw JSON text; `None` when absent (show `[]`).
    #[must_use]
    pub fn content(&self) -> Option<&str> {
        self.part(self.content.as_ref())
    }

    /// `structuredContent`, raw JSON text.
    #[must_use]
    pub fn structured_content(&self) -> Option<&str> {
        self.part(self.structured.as_ref())
    }

    /// `_meta`, raw JSON text.
    #[must_use]
    pub fn meta(&self) -> Option<&str> {
        self.part(self.meta.as_ref())
    }

    fn part(&self, range: Option<&Range<usize>>) -> Option<&str> {
        self.raw.get().get(range?.clone())
    }
}

/// What a dry run found.
#[derive(Debug, Clone)]
pub struct DryRun {
    /// The ref.
    pub reference: String,
    /// The tool's present hash, short.
    pub schema_hash: String,
    /// `allow` or `confirm`.
    pub decision: &'static str,
    /// In words, for people.
    pub preview: String,
    /// Whether the tool is read-only, after the owner's overrides.
    pub read_only: bool,
}

/// A call as its owner sees it later.
#[derive(Debug, Clone)]
pub struct CallView {
    /// `call_…`.
    pub call_id: String,
    /// `server.tool`, or the server and URI of a read.
    pub reference: String,
    /// `tool`, `resource`, `prompt`, `completion`.
    pub kind: &'static str,
    /// Who called.
    pub user: String,
    /// The run or conversation.
    pub lane: String,
    /// Where it stands.
    pub state: CallState,
    /// Its trace.
    pub trace_id: String,
    /// The session it ran on, once known.
    pub session_id: Option<String>,
    /// The definition it was checked against, short.
    pub schema_hash: Option<String>,
    /// The caller's key.
    pub idempotency_key: Option<String>,
    /// RFC 3339.
    pub created_at: String,
    /// RFC 3339, once terminal.
    pub ended_at: Option<String>,
    /// Milliseconds from accepted to terminal.
    pub duration_ms: Option<u64>,
    /// With `succeeded`.
    pub result: Option<Arc<ToolResult>>,
    /// With every other terminal state.
    pub fault: Option<Arc<Fault>>,
}

/// Which calls.
#[derive(Debug, Clone, Default)]
pub struct ListCalls {
    /// Only in this state.
    pub state: Option<CallState>,
    /// Only this ref.
    pub reference: Option<String>,
    /// Only created at or after this RFC 3339 time.
    pub since: Option<String>,
    /// Only with this key.
    pub idempotency_key: Option<String>,
    /// Which part; newest first.
    pub page: PageRequest,
}

/// What the checks let through.
#[derive(Debug)]
pub enum Admitted {
    /// There is an answer already: a dry run, a replay, or an async call that was started.
    Answer(CallAnswer),
    /// Accepted; nothing is sent before [`PendingCall::run`].
    Pending(PendingCall),
}

/// An accepted call that was not sent yet. Dropping it settles it `cancelled`.
#[derive(Debug)]
pub struct PendingCall {
    pub(crate) call_id: String,
    pub(crate) keyed: bool,
    pub(crate) running: Option<Running>,
}

impl PendingCall {
    /// `call_…`; its events may be followed before it runs.
    #[must_use]
    pub fn call_id(&self) -> &str {
        &self.call_id
    }

    /// Sends it and waits. Dropping the future cancels the call upstream, unless it has an idempotency key.
    ///
    /// # Errors
    /// Every code of a call that was dispatched.
    pub async fn run(self) -> Result<CallDone, BrokerError> {
        self.finish().await
    }
}

impl Broker {
    /// Checks, runs and records one call: [`Broker::admit_call`], then [`PendingCall::run`].
    ///
    /// # Errors
    /// Every code of `docs/errors.md` a call can end with.
    pub async fn call_tool(
        &self,
        asker: &Asker,
        request: CallTool,
    ) -> Result<CallAnswer, BrokerError> {
        match self.admit_call(asker, request).await? {
            Admitted::Answer(answer) => Ok(answer),
            Admitted::Pending(pending) => pending.run().await.map(CallAnswer::Done),
        }
    }

    /// All checks up to the committed intent, nothing sent. For faces that want to follow the call's
    /// events from the start (`Accept: text/event-stream`).
    ///
    /// # Errors
    /// Every code before dispatch.
    pub async fn admit_call(
        &self,
        asker: &Asker,
        request: CallTool,
    ) -> Result<Admitted, BrokerError> {
        admit(self, asker, request).await
    }

    /// One call; waits up to `wait` for its end.
    ///
    /// # Errors
    /// `call_not_found`.
    pub async fn get_call(
        &self,
        asker: &Asker,
        call_id: &str,
        wait: Duration,
    ) -> Result<CallView, BrokerError> {
        let inner = &self.inner;
        let id = CallId::parse(call_id).ok_or_else(no_such_call)?;
        if let Some(live) = inner
            .live
            .get(id)
            .filter(|live| may_see(asker, &live.intent))
        {
            let deadline = Instant::now() + wait.min(inner.calls.max_timeout);
            return match live.wait(deadline).await {
                Some(ended) => Ok(view_ended(&live, &ended)),
                None => Ok(view_live(&live)),
            };
        }
        let row = inner.ledger.row(&asker.principal.workspace, id).await?;
        let row = row.filter(|row| may_see(asker, &row.intent));
        view_row(&row.ok_or_else(no_such_call)?)
    }

    /// Calls, newest first; the asker's own, or the workspace's for `admin`.
    ///
    /// # Errors
    /// `invalid_request`.
    pub async fn list_calls(
        &self,
        asker: &Asker,
        request: ListCalls,
    ) -> Result<Page<CallView>, BrokerError> {
        let limit = request.page.limit()?;
        let before = request
            .page
            .cursor
            .as_deref()
            .map(|cursor| CallId::parse(cursor).ok_or_else(bad_cursor));
        let filter = RowFilter {
            workspace: asker.principal.workspace.clone(),
            user: (!asker.principal.has(Role::Admin)).then(|| asker.principal.user.clone()),
            state: request.state,
            reference: request.reference,
            since: request.since.as_deref().map(moment).transpose()?,
            idempotency_key: request.idempotency_key,
            trace_id: None,
            before: before.transpose()?,
            limit: limit + 1,
        };
        let mut items = self.inner.views_of(asker, &filter).await?;
        let more = items.len() > limit;
        items.truncate(limit);
        let next_cursor = items
            .last()
            .filter(|_| more)
            .map(|last| last.call_id.clone());
        Ok(Page { items, next_cursor })
    }

    /// Cancels a call; answers its state after that. A call that ended stays as it is.
    ///
    /// # Errors
    /// `call_not_found`.
    pub async fn cancel_call(&self, asker: &Asker, call_id: &str) -> Result<CallView, BrokerError> {
        let id = CallId::parse(call_id).ok_or_else(no_such_call)?;
        let live = self
            .inner
            .live
            .get(id)
            .filter(|live| may_see(asker, &live.intent));
        if let Some(live) = live {
            live.cancel(Stop::Asked);
        }
        self.get_call(asker, call_id, CANCEL_WAIT).await
    }
}

/// How long `cancel_call` waits for the call to be settled: the upstream is told, not waited for.
const CANCEL_WAIT: Duration = Duration::from_secs(2);

impl Inner {
    /// Rows and running calls as one list, newest first; a running call's own state counts.
    pub(crate) async fn views_of(
        &self,
        asker: &Asker,
        filter: &RowFilter,
    ) -> Result<Vec<CallView>, BrokerError> {
        let mut found: BTreeMap<CallId, CallView> = BTreeMap::new();
        for live in self.live.all() {
            let view = view_live(&live);
            if may_see(asker, &live.intent) && wanted(filter, &live, &view) {
                found.insert(live.id, view);
            }
        }
        // A running call's row says `accepted`; while it runs its own word counts.
        for row in self.ledger.rows(filter).await? {
            if self.live.get(row.intent.id).is_none() {
                found.insert(row.intent.id, view_row(&row)?);
            }
        }
        Ok(found.into_values().rev().collect())
    }
}

fn wanted(filter: &RowFilter, live: &Live, view: &CallView) -> bool {
    let intent = &live.intent;
    filter.state.is_none_or(|state| state == view.state)
        && filter
            .reference
            .as_ref()
            .is_none_or(|one| *one == intent.reference)
        && filter.since.is_none_or(|since| intent.created_at >= since)
        && filter
            .trace_id
            .as_ref()
            .is_none_or(|one| *one == intent.trace_id)
        && (filter.idempotency_key.is_none() || filter.idempotency_key == intent.idempotency_key)
        && filter.before.is_none_or(|before| intent.id < before)
}

/// Another user's call does not exist, but for admins of the workspace.
pub(crate) fn may_see(asker: &Asker, intent: &Intent) -> bool {
    let who = &asker.principal;
    intent.workspace == who.workspace && (intent.user == who.user || who.has(Role::Admin))
}

fn no_such_call() -> BrokerError {
    Fault::new(ErrorCode::CallNotFound, "there is no such call")
}

fn view_intent(intent: &Intent) -> CallView {
    CallView {
        call_id: intent.id.to_string(),
        reference: intent.reference.clone(),
        kind: intent.kind.as_str(),
        user: intent.user.to_string(),
        lane: intent.lane.to_string(),
        state: CallState::Accepted,
        trace_id: intent.trace_id.clone(),
        session_id: None,
        schema_hash: intent.schema_hash.map(|hash| hash.short()),
        idempotency_key: intent.idempotency_key.clone(),
        created_at: rfc3339(intent.created_at),
        ended_at: None,
        duration_ms: None,
        result: None,
        fault: None,
    }
}

fn view_live(live: &Live) -> CallView {
    CallView {
        state: live.state(),
        session_id: live.session().map(|id| id.to_string()),
        ..view_intent(&live.intent)
    }
}

fn view_ended(live: &Live, ended: &Ended) -> CallView {
    let (result, fault) = match &ended.outcome {
        Ok(result) => (Some(Arc::clone(result)), None),
        Err(fault) => (None, Some(Arc::clone(fault))),
    };
    let duration = chrono::Duration::from_std(ended.duration).unwrap_or_default();
    CallView {
        state: ended.state,
        ended_at: Some(rfc3339(live.intent.created_at + duration)),
        duration_ms: u64::try_from(ended.duration.as_millis()).ok(),
        result,
        fault,
        ..view_live(live)
    }
}

fn view_row(row: &Row) -> Result<CallView, BrokerError> {
    Ok(CallView {
        state: row.state,
        session_id: row.session_id.clone(),
        ended_at: row.ended_at.map(rfc3339),
        duration_ms: row.duration_ms,
        result: row
            .result
            .as_deref()
            .map(kept_result)
            .transpose()?
            .map(Arc::new),
        fault: row.fault().map(Arc::new),
        ..view_intent(&row.intent)
    })
}

fn moment(text: &str) -> Result<DateTime<Utc>, BrokerError> {
    let read = DateTime::parse_from_rfc3339(text);
    read.map(|at| at.with_timezone(&Utc))
        .map_err(|_| Fault::new(ErrorCode::InvalidRequest, "since is no RFC 3339 time"))
}
