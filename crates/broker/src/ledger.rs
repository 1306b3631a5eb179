//! The ledger in the words of calls: intents, ends, keys. The one place that speaks to the store about calls.

use std::time::Duration;

use catalog::Hash;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use sessions::{Lane, SessionId, UserId, WorkspaceId};

use crate::asker::Asker;
use crate::call::CallId;
use crate::call::outcome::Ended;
use crate::call_state::CallState;
use crate::error::{BrokerError, ErrorCode, ExecutedWire, Fault, PointerDetail};
use crate::operations::calls::ToolResult;
use crate::store::Store;

/// Longest ref kept of a refused call, in bytes: it may be anything.
const MAX_REF_BYTES: usize = 512;
/// Waits between tries to write an end while the store is away.
const RETRY_PAUSE: Duration = Duration::from_secs(1);

/// What a row of the ledger is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CallKind {
    /// `tools/call`.
    Tool,
    /// `resources/read`.
    Resource,
    /// `prompts/get`.
    Prompt,
    /// `completion/complete`.
    Completion,
}

impl CallKind {
    /// As in the store and on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tool => "tool",
            Self::Resource => "resource",
            Self::Prompt => "prompt",
            Self::Completion => "completion",
        }
    }

    /// Reads a kind by name.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let all = [Self::Tool, Self::Resource, Self::Prompt, Self::Completion];
        all.into_iter().find(|kind| kind.as_str() == text)
    }
}

/// What is known of a call before it is sent.
#[derive(Debug, Clone)]
pub struct Intent {
    /// Its id.
    pub id: CallId,
    /// Where.
    pub workspace: WorkspaceId,
    /// Who.
    pub user: UserId,
    /// By which key.
    pub key_id: String,
    /// About what.
    pub kind: CallKind,
    /// `server.tool`, or the server and URI.
    pub reference: String,
    /// The run or conversation.
    pub lane: Lane,
    /// The trace.
    pub trace_id: String,
    /// SHA-256 of the canonical arguments.
    pub arguments_digest: [u8; 32],
    /// Names and types of the arguments, no values.
    pub preview: String,
    /// The definition it was checked against.
    pub schema_hash: Option<Hash>,
    /// The caller's key.
    pub idempotency_key: Option<String>,
    /// Over ref, lane and arguments: what a repeat must equal.
    pub request_digest: [u8; 32],
    /// After the owner's overrides.
    pub read_only: bool,
    /// It runs on without its caller.
    pub detached: bool,
    /// When it was accepted.
    pub created_at: DateTime<Utc>,
}

impl Intent {
    /// Whether the intent is committed before anything is sent, and the result kept: everything that may act,
    /// that can be repeated by key, or that nobody waits for.
    #[must_use]
    pub fn is_durable(&self) -> bool {
        !self.read_only || self.idempotency_key.is_some() || self.detached
    }
}

/// A row as read back.
#[derive(Debug, Clone)]
pub struct Row {
    /// What was meant.
    pub intent: Intent,
    /// Where it stands.
    pub state: CallState,
    /// The session it ran on.
    pub session_id: Option<String>,
    /// When it ended.
    pub ended_at: Option<DateTime<Utc>>,
    /// From accepted to ended.
    pub duration_ms: Option<u64>,
    /// The raw result, where it was kept.
    pub result: Option<String>,
    /// The fault, as the JSON of a kept fault.
    pub fault: Option<String>,
}

/// How beginning went.
#[derive(Debug)]
pub(crate) enum Begun {
    /// The intent is committed.
    Fresh,
    /// The key is taken by this row.
    Held(Box<Row>),
}

/// How a call ended, as the store keeps it.
#[derive(Debug, Clone)]
pub struct Settled {
    /// The call.
    pub id: CallId,
    /// Its terminal state.
    pub state: CallState,
    /// The session it ran on.
    pub session_id: Option<String>,
    /// When.
    pub ended_at: DateTime<Utc>,
    /// From accepted to ended.
    pub duration_ms: u64,
    /// The code of a fault, for finding.
    pub code: Option<&'static str>,
    /// The raw result, where it is kept.
    pub result: Option<String>,
    /// The fault, as the JSON of a kept fault.
    pub fault: Option<String>,
}

/// Which rows are wanted; newest first.
#[derive(Debug, Clone)]
pub struct RowFilter {
    /// Only of this workspace.
    pub workspace: WorkspaceId,
    /// Only of this user; `None` = all.
    pub user: Option<UserId>,
    /// Only in this state.
    pub state: Option<CallState>,
    /// Only of this ref.
    pub reference: Option<String>,
    /// Only accepted at or after.
    pub since: Option<DateTime<Utc>>,
    /// Only with this key.
    pub idempotency_key: Option<String>,
    /// Only of this trace.
    pub trace_id: Option<String>,
    /// Only older than this id.
    pub before: Option<CallId>,
    /// At most so many.
    pub limit: usize,
}

/// The ledger. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Ledger {
    store: Store,
}

impl Ledger {
    pub(crate) fn new(store: Store) -> Self {
        Self { store }
    }

    /// The row that holds this intent's key, if any.
    pub(crate) async fn find_key(&self, intent: &Intent) -> Result<Option<Row>, BrokerError> {
        Ok(self.store.find_by_key(intent).await?)
    }

    /// Commits the intent, and with it the key.
    pub(crate) async fn begin(&self, intent: &Intent) -> Result<Begun, BrokerError> {
        if self.store.begin_call(intent).await? {
            return Ok(Begun::Fresh);
        }
        match self.store.find_by_key(intent).await? {
            Some(row) => Ok(Begun::Held(Box::new(row))),
            // Its retention ended between the two: the caller may simply try again.
            None => Err(Fault::new(
                ErrorCode::Conflict,
                "the key was just released; try again",
            )),
        }
    }

    /// Commits the end. A call that ended before stays as it was.
    pub(crate) async fn settle(
        &self,
        intent: &Intent,
        ended: &Ended,
        session: Option<SessionId>,
    ) -> Result<(), BrokerError> {
        if !self
            .store
            .settle_call(&settled(intent, ended, session))
            .await?
        {
            tracing::warn!(call.id = %intent.id, "a call that had ended was settled again; the first end stands");
        }
        Ok(())
    }

    /// Tries to commit the end until it works. The caller bounds it by shutdown.
    pub(crate) async fn settle_later(
        &self,
        intent: &Intent,
        ended: &Ended,
        session: Option<SessionId>,
    ) {
        loop {
            tokio::time::sleep(RETRY_PAUSE).await;
            if self.settle(intent, ended, session).await.is_ok() {
                return;
            }
        }
    }

    /// Writes a whole row behind the answer: read-only calls, which have no intent row.
    pub(crate) fn record(&self, intent: &Intent, ended: &Ended, session: Option<SessionId>) {
        self.store
            .record_call(intent.clone(), settled(intent, ended, session));
    }

    /// Audits a refused call.
    pub(crate) fn refused(&self, asker: &Asker, reference: &str, fault: &Fault) {
        let mut end = reference.len().min(MAX_REF_BYTES);
        while !reference.is_char_boundary(end) {
            end -= 1;
        }
        let now = Utc::now();
        let intent = Intent {
            id: CallId::mint(),
            workspace: asker.principal.workspace.clone(),
            user: asker.principal.user.clone(),
            key_id: asker.principal.key_id.clone(),
            kind: CallKind::Tool,
            reference: reference[..end].to_owned(),
            lane: Lane::default(),
            trace_id: asker.trace.id(),
            arguments_digest: [0; 32],
            preview: String::new(),
            schema_hash: None,
            idempotency_key: None,
            request_digest: [0; 32],
            read_only: true,
            detached: false,
            created_at: now,
        };
        let settled = Settled {
            id: intent.id,
            state: CallState::Failed,
            session_id: None,
            ended_at: now,
            duration_ms: 0,
            code: Some(fault.code.as_str()),
            result: None,
            fault: keep(fault),
        };
        self.store.record_call(intent, settled);
    }

    /// How a stored call ended; `None` while it has not.
    pub(crate) async fn ended(&self, intent: &Intent) -> Result<Option<Ended>, BrokerError> {
        let row = self.row(&intent.workspace, intent.id).await?;
        row.map_or(Ok(None), |row| row.ended())
    }

    /// One row, also when it still waits to be written.
    pub(crate) async fn row(
        &self,
        workspace: &WorkspaceId,
        id: CallId,
    ) -> Result<Option<Row>, BrokerError> {
        self.store.flush().await;
        Ok(self.store.get_call(workspace, id).await?)
    }

    /// Rows, newest first.
    pub(crate) async fn rows(&self, filter: &RowFilter) -> Result<Vec<Row>, BrokerError> {
        self.store.flush().await;
        Ok(self.store.list_calls(filter).await?)
    }
}

impl Row {
    /// The kept fault; for a row the sweep of a start ended, what that means.
    pub(crate) fn fault(&self) -> Option<Fault> {
        match self.fault.as_deref() {
            Some(text) => restore(text),
            None => (self.state == CallState::OutcomeUnknown).then(|| *missing()),
        }
    }

    /// How it ended; `None` while it has not.
    pub(crate) fn ended(&self) -> Result<Option<Ended>, BrokerError> {
        if !self.state.is_terminal() {
            return Ok(None);
        }
        let duration = Duration::from_millis(self.duration_ms.unwrap_or(0));
        let outcome = match (&self.result, self.fault()) {
            (_, Some(fault)) => Err(fault.into()),
            (Some(text), None) => Ok(kept_result(text)?.into()),
            (None, None) => Err(missing().into()),
        };
        Ok(Some(Ended {
            state: self.state,
            outcome,
            duration,
        }))
    }
}

/// A result as it was kept.
pub(crate) fn kept_result(text: &str) -> Result<ToolResult, BrokerError> {
    let raw = RawValue::from_string(text.to_owned())
        .map_err(|_| Fault::new(ErrorCode::Internal, "a kept result cannot be read"))?;
    ToolResult::read(raw, usize::MAX)
}

fn missing() -> BrokerError {
    let mut fault = Fault::new(
        ErrorCode::OutcomeUnknown,
        "the bridge stopped before this call's end was written",
    );
    fault.executed = ExecutedWire::Unknown;
    fault
}

fn settled(intent: &Intent, ended: &Ended, session: Option<SessionId>) -> Settled {
    let kept = intent.is_durable();
    let (result, fault) = match &ended.outcome {
        Ok(result) => (kept.then(|| result.raw().get().to_owned()), None),
        Err(fault) => (None, Some(fault)),
    };
    Settled {
        id: intent.id,
        state: ended.state,
        session_id: session.map(|id| id.to_string()),
        ended_at: Utc::now(),
        duration_ms: u64::try_from(ended.duration.as_millis()).unwrap_or(u64::MAX),
        code: fault.map(|fault| fault.code.as_str()),
        result,
        fault: fault.and_then(|fault| keep(fault)),
    }
}

/// A fault as the store keeps it.
#[derive(Debug, Serialize, Deserialize)]
struct KeptFault {
    code: String,
    detail: String,
    executed: ExecutedWire,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    hint: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    errors: Vec<(String, String)>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    upstream: Option<(String, Option<i64>)>,
}

fn keep(fault: &Fault) -> Option<String> {
    let pairs = fault
        .errors
        .iter()
        .map(|one| (one.pointer.clone(), one.detail.clone()));
    let kept = KeptFault {
        code: fault.code.as_str().to_owned(),
        detail: fault.detail.clone(),
        executed: fault.executed,
        hint: fault.hint.clone(),
        errors: pairs.collect(),
        upstream: fault.upstream.clone(),
    };
    serde_json::to_string(&kept).ok()
}

fn restore(text: &str) -> Option<Fault> {
    let kept: KeptFault = serde_json::from_str(text).ok()?;
    let mut fault = Fault::new(ErrorCode::parse(&kept.code)?, kept.detail);
    fault.executed = kept.executed;
    fault.hint = kept.hint;
    fault.upstream = kept.upstream;
    fault.errors = kept
        .errors
        .into_iter()
        .map(|(pointer, detail)| PointerDetail { pointer, detail })
        .collect();
    Some(*fault)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_comes_back_from_the_store_as_it_was() {
        let mut fault = Fault::new(ErrorCode::InvalidArguments, "b: expected number");
        fault.hint = Some("add(a, b)".to_owned());
        fault.upstream = Some(("s".to_owned(), Some(-32602)));
        fault.executed = ExecutedWire::Unknown;
        fault.errors.push(PointerDetail {
            pointer: "/arguments/b".to_owned(),
            detail: "expected number".to_owned(),
        });
        let again = restore(&keep(&fault).unwrap()).unwrap();
        assert_eq!(format!("{again:?}"), format!("{:?}", *fault));
    }
}
