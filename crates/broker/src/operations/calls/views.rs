//! Calls as their owners see them: running ones from memory, ended ones from the ledger, as one list.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{CallView, may_see};
use crate::asker::Asker;
use crate::call::CallId;
use crate::call::live::Live;
use crate::call::outcome::Ended;
use crate::call_state::CallState;
use crate::error::BrokerError;
use crate::instant::rfc3339;
use crate::ledger::{Intent, Row, RowFilter, kept_result};
use crate::operations::Inner;

impl Inner {
    /// A call that runs, or ended so lately that its result is here.
    pub(crate) fn in_memory(&self, asker: &Asker, id: CallId) -> Option<Arc<Live>> {
        let live = self.live.get(id).or_else(|| self.recent.get(id));
        live.filter(|live| may_see(asker, &live.intent))
    }

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
            let id = row.intent.id;
            if self.live.get(id).is_some() {
                continue;
            }
            let recent = self.recent.get(id);
            let ended = recent.and_then(|live| Some((live.outcome()?, live)));
            let view = match ended {
                Some((ended, live)) => view_ended(&live, &ended),
                None => view_row(&row)?,
            };
            found.insert(id, view);
        }
        Ok(found.into_values().rev().collect())
    }
}

fn wanted(filter: &RowFilter, live: &Live, view: &CallView) -> bool {
    let intent = &live.intent;
    filter.state.is_none_or(|state| state == view.state)
        && (filter.user.as_ref()).is_none_or(|user| *user == intent.user)
        && (filter.tasks.as_ref()).is_none_or(|tasks| tasks.have(intent))
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
        agent_id: intent.agent_id.clone(),
        schema_hash: intent.schema_hash.map(|hash| hash.short()),
        idempotency_key: intent.idempotency_key.clone(),
        created_at: rfc3339(intent.created_at),
        ended_at: None,
        duration_ms: None,
        result: None,
        fault: None,
        input_requests: Vec::new(),
    }
}

pub(super) fn view_live(live: &Live) -> CallView {
    CallView {
        state: live.state(),
        input_requests: live.dialogue.open(),
        session_id: live.session().map(|id| id.to_string()),
        ..view_intent(&live.intent)
    }
}

pub(super) fn view_ended(live: &Live, ended: &Ended) -> CallView {
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
        input_requests: Vec::new(),
        ..view_live(live)
    }
}

pub(super) fn view_row(row: &Row) -> Result<CallView, BrokerError> {
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
