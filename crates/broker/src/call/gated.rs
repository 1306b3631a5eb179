//! Calls that need an approval: passed with a token, held until somebody decides, or told what must be approved.

use std::sync::Arc;
use std::time::Duration;

use super::held::Held;
use super::ready::Wish;
use super::repeat::check_same;
use super::run::Unsettled;
use crate::approvals::preview::{About, HISTORY, Preview};
use crate::approvals::{ApprovalId, Binding, Wanted, required, shown};
use crate::asker::Asker;
use crate::call_state::CallState;
use crate::error::BrokerError;
use crate::ledger::{Begun, Intent, RowFilter};
use crate::operations::Inner;
use crate::operations::calls::{Admitted, CallAnswer};
use crate::policy::Verdict;

/// Largest arguments a call is held with: they wait in memory. A larger call is sent again with a token.
const MAX_HELD_BYTES: usize = 64 * 1024;

/// An equal request that used the token first writes its intent at once: a few looks, short pauses.
const JOIN_LOOKS: usize = 10;
const JOIN_PAUSE: Duration = Duration::from_millis(50);

/// Lets a call pass that needs an approval, holds it, or says what must be approved. `None`: it passes.
///
/// # Errors
/// `confirmation_required`, `confirmation_invalid`, `quota_exceeded`, and the codes of the store.
pub(super) async fn pass(
    inner: &Arc<Inner>,
    asker: &Asker,
    (mut intent, wish): (Intent, Wish),
    verdict: &Verdict,
) -> Result<Passed, BrokerError> {
    if let Some(token) = &wish.request.confirm_token {
        let spent = inner.approvals.spend(&binding(&intent, &wish), token).await;
        return match spent {
            Ok(approval) => {
                intent.approval_id = Some(approval.to_string());
                Ok(Passed::On(Box::new((intent, wish))))
            }
            Err(fault) if intent.idempotency_key.is_some() => {
                join(inner, (&intent, &wish), fault).await
            }
            Err(fault) => Err(fault),
        };
    }
    if wish.request.respond_async && wish.arguments.raw.get().len() <= MAX_HELD_BYTES {
        return hold(inner, asker, (intent, wish), verdict).await;
    }
    let wanted = wanted(&intent, &wish, verdict);
    let preview = preview(inner, &intent, &wish);
    let row = inner.approvals.open(asker, &wanted, preview).await?;
    let token = inner.approvals.token(&row).await?;
    Err(required(&row, token))
}

/// The token was used: perhaps by an equal request with this key, which has not written its intent yet.
async fn join(
    inner: &Arc<Inner>,
    (intent, wish): (&Intent, &Wish),
    fault: BrokerError,
) -> Result<Passed, BrokerError> {
    for _ in 0..JOIN_LOOKS {
        if let Some(row) = inner.ledger.find_key(intent).await? {
            check_same(intent, &row)?;
            let repeated = inner.repeat(row, &wish.request, wish.due).await?;
            return Ok(Passed::Answer(repeated));
        }
        tokio::time::sleep(JOIN_PAUSE).await;
    }
    Err(fault)
}

fn wanted<'a>(intent: &'a Intent, wish: &'a Wish, verdict: &Verdict) -> Wanted<'a> {
    Wanted {
        id: ApprovalId::mint(),
        binding: binding(intent, wish),
        rule: verdict.because.to_string(),
        self_confirm: verdict.self_confirm,
        call: None,
    }
}

/// What became of a call at the gate.
pub(super) enum Passed {
    /// It goes on.
    On(Box<(Intent, Wish)>),
    /// It is held, or an equal one was there.
    Answer(Admitted),
}

/// What a token for this call is good for.
fn binding<'a>(intent: &'a Intent, wish: &'a Wish) -> Binding<'a> {
    Binding {
        workspace: &intent.workspace,
        user: &intent.user,
        reference: &intent.reference,
        agent_id: wish.request.agent_id.as_deref().unwrap_or_default(),
        arguments_digest: intent.arguments_digest,
        schema_hash: wish.found.tool.hash,
    }
}

async fn preview(inner: &Inner, intent: &Intent, wish: &Wish) -> Result<Preview, BrokerError> {
    let filter = RowFilter {
        workspace: intent.workspace.clone(),
        user: Some(intent.user.clone()),
        state: None,
        reference: Some(intent.reference.clone()),
        since: None,
        idempotency_key: None,
        trace_id: None,
        tasks: None,
        before: None,
        // Requests for approval are in the ledger too, as refused ones: they tell nothing here.
        limit: HISTORY * 4,
    };
    let mut history = inner.ledger.rows(&filter).await?;
    history.retain(|row| row.intent.schema_hash.is_some());
    history.truncate(HISTORY);
    let server = &wish.found.server;
    let redactions = inner.vault.redactions(server, &server.holder(&intent.user));
    let about = About {
        reference: &intent.reference,
        user: intent.user.as_str(),
        hints: wish.found.hints,
        definition: &server.definition,
        redactions: &redactions,
    };
    Ok(Preview::of(&about, &wish.arguments, &history))
}

/// Takes the key and the row, asks, and waits in a task of the broker's.
async fn hold(
    inner: &Arc<Inner>,
    asker: &Asker,
    (mut intent, wish): (Intent, Wish),
    verdict: &Verdict,
) -> Result<Passed, BrokerError> {
    // Written with the row, so that the audit record names it.
    let id = ApprovalId::mint();
    intent.approval_id = Some(id.to_string());
    // From here on somebody must settle it, also when the caller goes away while the row is committed.
    let agent = wish.found.server.agent().cloned();
    let (promise, live) = Unsettled::begin(inner, intent, agent);
    live.advance(CallState::AwaitingApproval);
    match inner.ledger.hold(&live.intent).await {
        Ok(Begun::Held(row)) => {
            promise.release();
            check_same(&live.intent, &row)?;
            let repeated = inner.repeat(*row, &wish.request, wish.due).await?;
            return Ok(Passed::Answer(repeated));
        }
        Ok(_) => {}
        Err(fault) => {
            promise.release();
            return Err(fault);
        }
    }
    let wanted = Wanted {
        id,
        call: Some(live.id),
        ..wanted(&live.intent, &wish, verdict)
    };
    let previewed = preview(inner, &live.intent, &wish);
    let row = match inner.approvals.open(asker, &wanted, previewed).await {
        Ok(row) => row,
        Err(fault) => {
            promise.settle(Err(fault.clone())).await;
            return Err(fault);
        }
    };
    let answer = CallAnswer::Held {
        call_id: live.name.clone(),
        approval: shown(&row, None),
    };
    let held = Held {
        said: inner.approvals.wait(row.id),
        asker: asker.clone(),
        promise,
        live,
        wish,
        row,
    };
    inner.tasks.spawn(held.run(Arc::clone(inner)));
    Ok(Passed::Answer(Admitted::Answer(answer)))
}
