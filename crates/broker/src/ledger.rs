//! The ledger in the words of calls: intents, ends, keys. The one place that speaks to the store about calls.

mod kept;
mod words;
mod written;

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use sessions::{Lane, SessionId, WorkspaceId};

pub(crate) use self::kept::kept_result;
use self::kept::{keep, restore};
pub use self::words::{CallKind, HeldKey, Intent, Row, RowFilter, Settled, Tasks};
pub(crate) use self::written::Written;
use crate::asker::Asker;
use crate::audit::OnUnavailable;
use crate::call::CallId;
use crate::call::outcome::Ended;
use crate::call_state::CallState;
use crate::error::{BrokerError, ErrorCode, ExecutedWire, Fault};
use crate::store::{Store, StoreError};

/// Longest ref kept of a refused call, in bytes: it may be anything.
const MAX_REF_BYTES: usize = 512;
/// Waits between tries to write an end while the store is away.
const RETRY_PAUSE: Duration = Duration::from_secs(1);

/// How beginning went.
#[derive(Debug)]
pub(crate) enum Begun {
    /// The intent is committed.
    Fresh,
    /// The key is taken by this row.
    Held(Box<Row>),
    /// The store is away, and calls are allowed all the same: the whole row is to be written behind.
    Behind,
}

/// The ledger. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Ledger {
    store: Store,
    on_unavailable: OnUnavailable,
}

impl Ledger {
    pub(crate) fn new(store: Store, on_unavailable: OnUnavailable) -> Self {
        Self {
            store,
            on_unavailable,
        }
    }

    /// Whether calls that need no intent may go on: always, unless the store is away and nothing is to happen
    /// without it.
    pub(crate) async fn allows_reads(&self) -> Result<(), BrokerError> {
        if self.on_unavailable == OnUnavailable::RefuseAll && self.store.is_away() {
            // Nothing else may try it while everything is refused.
            self.store.try_write().await?;
        }
        Ok(())
    }

    /// Whether a call whose intent could not be committed may be sent all the same.
    fn goes_behind(&self, intent: &Intent, error: &StoreError) -> bool {
        let away = matches!(error, StoreError::Unavailable(_) | StoreError::Shared(_));
        let kept = intent.idempotency_key.is_some() || intent.detached;
        self.on_unavailable == OnUnavailable::Allow && away && !kept && !self.store.is_backlogged()
    }

    /// The row that holds this intent's key, if any.
    pub(crate) async fn find_key(&self, intent: &Intent) -> Result<Option<Row>, BrokerError> {
        Ok(self.store.find_by_key(intent).await?)
    }

    /// Commits the intent, and with it the key.
    pub(crate) async fn begin(&self, intent: &Intent) -> Result<Begun, BrokerError> {
        let fresh = self.store.begin_call(intent).await;
        self.begun(fresh, intent).await
    }

    /// Commits that a call waits to be approved, and its key; nothing of it may be sent before [`Ledger::release`].
    pub(crate) async fn hold(&self, intent: &Intent) -> Result<Begun, BrokerError> {
        let fresh = self.store.hold_call(intent).await;
        self.begun(fresh, intent).await
    }

    /// Makes a held call's row its intent: from now on it may have been sent.
    pub(crate) async fn release(
        &self,
        intent: &Intent,
        deadline: Option<DateTime<Utc>>,
    ) -> Result<(), BrokerError> {
        let held = (&intent.workspace, intent.id);
        if self.store.release_call(held, deadline).await? {
            return Ok(());
        }
        let detail = "the call ended before it was approved";
        Err(Fault::new(ErrorCode::Conflict, detail))
    }

    async fn begun(
        &self,
        fresh: Result<bool, StoreError>,
        intent: &Intent,
    ) -> Result<Begun, BrokerError> {
        match fresh {
            Ok(true) => return Ok(Begun::Fresh),
            Ok(false) => {}
            Err(error) if self.goes_behind(intent, &error) => {
                tracing::warn!(call.id = %intent.id, error = %error, "the store is away; the call is recorded later");
                return Ok(Begun::Behind);
            }
            Err(error) => return Err(error.into()),
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
        intent: &Arc<Intent>,
        ended: &Ended,
        session: Option<SessionId>,
    ) -> Result<(), BrokerError> {
        let settled = settled(intent, ended, session);
        if !self.store.settle_call(Arc::clone(intent), &settled).await? {
            tracing::warn!(call.id = %intent.id, "a call that had ended was settled again; the first end stands");
        }
        Ok(())
    }

    /// Tries to commit the end until it works. The caller bounds it by shutdown.
    pub(crate) async fn settle_later(
        &self,
        intent: &Arc<Intent>,
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
    /// `written` hears when it is there.
    pub(crate) fn record(
        &self,
        (intent, session): (&Arc<Intent>, Option<SessionId>),
        ended: &Ended,
        written: Option<Written>,
    ) {
        let settled = settled(intent, ended, session);
        self.store.record(Arc::clone(intent), settled, written);
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
            agent_id: None,
            deadline_at: None,
            approval_id: None,
        };
        let settled = Settled {
            id: intent.id,
            workspace: intent.workspace.clone(),
            state: CallState::Failed,
            session_id: None,
            ended_at: now,
            duration_ms: 0,
            code: Some(fault.code.as_str()),
            result: None,
            fault: keep(fault),
            frees_key: None,
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
        workspace: intent.workspace.clone(),
        state: ended.state,
        session_id: session,
        // As it was told while it was fresh, not when it came to be written.
        ended_at: intent.created_at
            + chrono::Duration::from_std(ended.duration).unwrap_or_default(),
        duration_ms: u64::try_from(ended.duration.as_millis()).unwrap_or(u64::MAX),
        code: fault.map(|fault| fault.code.as_str()),
        result,
        fault: fault.and_then(|fault| keep(fault)),
        frees_key: fault.and_then(|fault| freed(intent, fault)),
    }
}

/// What surely never happened does not use its key up: the same request may be tried again.
fn freed(intent: &Intent, fault: &Fault) -> Option<HeldKey> {
    let key = intent.idempotency_key.clone()?;
    let untouched = fault.executed == ExecutedWire::No && fault.code != ErrorCode::UpstreamTimeout;
    untouched.then(|| HeldKey {
        user: intent.user.clone(),
        reference: intent.reference.clone(),
        key,
    })
}

impl Settled {
    /// The end of a call that was held when its process ended: nothing of it was sent, and its key is free again.
    pub(crate) fn unsent(intent: &Intent, now: DateTime<Utc>) -> Self {
        let detail = "the bridge was restarted before anybody approved the call";
        let fault = Fault::new(ErrorCode::ShuttingDown, detail);
        Self {
            state: CallState::Cancelled,
            code: Some(fault.code.as_str()),
            fault: keep(&fault),
            frees_key: freed(intent, &fault),
            ..Self::unknown(intent, now)
        }
    }
}
