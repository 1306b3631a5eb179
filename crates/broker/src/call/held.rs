//! A call that is held until somebody decides: it has its row, its id and its key, and nothing of it was sent.
//!
//! When the bridge ends it ends: the next start finds it `cancelled`, and its key is free again.

use std::sync::Arc;

use chrono::Utc;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::admit::Due;
use super::live::{Live, Stop};
use super::ready::{Wish, dispatch};
use super::run::{Unsettled, stopped};
use super::verdict::{check_verdict, decided};
use crate::approvals::Word;
use crate::asker::Asker;
use crate::call_state::CallState;
use crate::error::{BrokerError, ErrorCode, Fault};
use crate::operations::Inner;
use crate::store::approvals::ApprovalRow;

/// A call that waits to be approved.
pub(super) struct Held {
    pub(super) said: oneshot::Receiver<Word>,
    pub(super) asker: Asker,
    pub(super) promise: Unsettled,
    pub(super) live: Arc<Live>,
    pub(super) wish: Wish,
    pub(super) row: ApprovalRow,
}

impl Held {
    /// Waits for the word, the end of its time, or whoever stops it; then it goes on or ends.
    pub(super) async fn run(mut self, inner: Arc<Inner>) {
        let open = (self.row.expires_at - Utc::now()).to_std();
        let until = Instant::now() + open.unwrap_or_default();
        let why = tokio::select! {
            biased;
            said = &mut self.said => match said {
                Ok(Word::Approved) => return self.go_on(&inner).await,
                Ok(Word::Denied(why)) => Fault::new(ErrorCode::PolicyDenied, why),
                Err(_) => Fault::new(ErrorCode::Cancelled, "the approval was withdrawn"),
            },
            why = self.live.stopped() => stopped(&self.live, why),
            () = tokio::time::sleep_until(until) => {
                Fault::new(ErrorCode::Cancelled, "nobody approved it in time")
            }
        };
        inner.approvals.withdraw(&self.row).await;
        self.promise.settle(Err(why)).await;
    }

    /// Every check again, as for a call that comes now: it may be minutes later.
    async fn go_on(self, inner: &Arc<Inner>) {
        let Self {
            asker,
            promise,
            live,
            mut wish,
            ..
        } = self;
        // Waiting for a person is none of the call's own time.
        wish.due = Due::within(wish.due.after);
        match check_again(inner, &asker, (&live, &mut wish)).await {
            Ok(()) => dispatch(inner, &asker, (promise, live), wish).await,
            Err(fault) => {
                promise.settle(Err(fault)).await;
            }
        }
    }
}

async fn check_again(
    inner: &Arc<Inner>,
    asker: &Asker,
    (live, wish): (&Live, &mut Wish),
) -> Result<(), BrokerError> {
    let who = inner.access.still(&asker.principal).await?;
    let asker = Asker {
        principal: who,
        trace: asker.trace.clone(),
    };
    let found = inner.find_tool(&asker, &wish.request, wish.due.at).await?;
    if found.server.agent_id() != live.intent.agent_id {
        let detail = "another agent would run the call than when it was asked for";
        return Err(Fault::new(ErrorCode::Conflict, detail));
    }
    let user = &asker.principal.user;
    inner.pins.check(&found.server, user, &found.tool).await?;
    if Some(found.tool.hash) != live.intent.schema_hash {
        let detail = "the tool's definition changed while the call waited for its approval";
        return Err(Fault::new(ErrorCode::SchemaChanged, detail));
    }
    let verdict = decided(inner, &asker, &found, &wish.arguments);
    check_verdict(&found, &verdict, &wish.request)?;
    if live.state() != CallState::AwaitingApproval {
        return Err(stopped(live, Stop::Asked));
    }
    wish.found = found;
    Ok(())
}
