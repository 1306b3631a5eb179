//! `call_tool` and the life of a call afterwards: get, list, cancel, follow.

mod tasks;
mod views;

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde_json::value::RawValue;
use sessions::Lane;
use tokio::time::Instant;

use self::views::{view_ended, view_live, view_row};
use super::Broker;
use super::page::{Page, PageRequest, bad_cursor};
use super::relay::ClientSide;
use crate::asker::Asker;
use crate::call::CallId;
use crate::call::admit::admit;
use crate::call::dialogue::InputRequest;
use crate::call::live::Stop;
use crate::call::run::Running;
use crate::call_state::CallState;
use crate::error::{BrokerError, ErrorCode, Fault};
use crate::ledger::{Intent, RowFilter};

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
    /// Exactly this agent of the caller's; `reference` may name its server as the agent does.
    pub agent_id: Option<String>,
    /// Makes the call repeatable and lets it outlive its connection.
    pub idempotency_key: Option<String>,
    /// Answer as soon as it is accepted; it runs on by itself.
    pub respond_async: bool,
    /// The caller follows the call's events while it runs, so it learns of the server's questions.
    pub followed: bool,
    /// What the caller's own MCP client can do; `None` for REST callers.
    pub client: Option<Box<ClientSide>>,
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
    /// It waits to be approved (`respond_async`), and runs by itself once it is.
    Held {
        /// `call_…`.
        call_id: String,
        /// What must be approved, ready for the body.
        approval: serde_json::Value,
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
    pub(crate) result_type: Option<Range<usize>>,
    pub(crate) input_requests: Option<Range<usize>>,
    pub(crate) request_state: Option<Range<usize>>,
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

    /// `resultType`, raw JSON text: `"complete"`, `"input_required"`, `"task"`; `None` on legacy servers.
    #[must_use]
    pub fn result_type(&self) -> Option<&str> {
        self.part(self.result_type.as_ref())
    }

    /// The server asks back (2026-07-28 § multi round-trip requests); this is no end.
    #[must_use]
    pub fn is_input_required(&self) -> bool {
        self.result_type() == Some(r#""input_required""#)
    }

    /// A task of 2026-07-28 was begun.
    #[must_use]
    pub fn is_task(&self) -> bool {
        self.result_type() == Some(r#""task""#)
    }

    /// It may say that a task was begun: both eras name it in members only such a result has.
    pub(crate) fn may_be_task(&self) -> bool {
        self.is_task() || self.content.is_none()
    }

    /// `inputRequests`, raw JSON text.
    #[must_use]
    pub fn input_requests(&self) -> Option<&str> {
        self.part(self.input_requests.as_ref())
    }

    /// `requestState`, raw JSON text.
    #[must_use]
    pub fn request_state(&self) -> Option<&str> {
        self.part(self.request_state.as_ref())
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
    /// `allow`, `confirm` or `deny`.
    pub decision: &'static str,
    /// The rule that decides so.
    pub rule: String,
    /// The call needs an idempotency key.
    pub needs_key: bool,
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
    /// The agent that runs it.
    pub agent_id: Option<String>,
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
    /// What the server asks and nobody answered yet; with `input_required`.
    pub input_requests: Vec<InputRequest>,
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
    pub(crate) running: Option<Box<Running>>,
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
        if let Some(live) = inner.in_memory(asker, id) {
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
            user: (!asker.principal.oversees()).then(|| asker.principal.user.clone()),
            state: request.state,
            reference: request.reference,
            since: request.since.as_deref().map(moment).transpose()?,
            idempotency_key: request.idempotency_key,
            trace_id: None,
            tasks: None,
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

fn moment(text: &str) -> Result<DateTime<Utc>, BrokerError> {
    let read = DateTime::parse_from_rfc3339(text);
    read.map(|at| at.with_timezone(&Utc))
        .map_err(|_| Fault::new(ErrorCode::InvalidRequest, "since is no RFC 3339 time"))
}

/// Another user's call does not exist, but for admins of the workspace.
pub(crate) fn may_see(asker: &Asker, intent: &Intent) -> bool {
    let who = &asker.principal;
    intent.workspace == who.workspace && (intent.user == who.user || who.oversees())
}

pub(crate) fn no_such_call() -> BrokerError {
    Fault::new(ErrorCode::CallNotFound, "there is no such call")
}
