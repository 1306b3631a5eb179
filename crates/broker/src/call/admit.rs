//! All checks of a call, in their order, up to the committed intent. Sends nothing.

use std::sync::Arc;
use std::time::Duration;

use catalog::Entry;
use tokio::time::Instant;

use super::find::Found;
use super::gated::{self, Passed};
use super::ready::{Wish, enter, intent, ready};
use super::repeat::check_same;
use super::run::Unsettled;
use super::verdict::{check_verdict, checked, decided};
use crate::arguments::Arguments;
use crate::asker::Asker;
use crate::error::{BrokerError, ErrorCode, ExecutedWire, Fault};
use crate::ledger::{Begun, Intent};
use crate::operations::calls::{Admitted, CallAnswer, CallTool};
use crate::operations::{Broker, Inner};
use crate::policy::Decision;

/// Longest idempotency key, in bytes.
const MAX_KEY_BYTES: usize = 255;
/// How long a call waits for room in the queue of the ledger; a store that works makes some within milliseconds.
const ROOM_WAIT: Duration = Duration::from_secs(1);
/// When the call must have ended, and how long that is from now.
#[derive(Debug, Clone, Copy)]
pub(super) struct Due {
    pub(super) at: Instant,
    pub(super) after: Duration,
}

impl Due {
    /// So long from now.
    pub(super) fn within(after: Duration) -> Self {
        Self {
            at: Instant::now() + after,
            after,
        }
    }
}

/// Every check, then the intent.
pub(crate) async fn admit(
    broker: &Broker,
    asker: &Asker,
    request: CallTool,
) -> Result<Admitted, BrokerError> {
    let reference = request.reference.clone();
    let admitted = check(broker, asker, request).await;
    if let Err(fault) = &admitted {
        broker.inner.note_refused(asker, &reference, fault);
    }
    admitted
}

async fn check(
    broker: &Broker,
    asker: &Asker,
    mut request: CallTool,
) -> Result<Admitted, BrokerError> {
    let inner = &broker.inner;
    check_shape(inner, &request)?;
    let wait = Due::within(request.timeout.unwrap_or(inner.calls.default_timeout));
    let found = inner.find_tool(asker, &request, wait.at).await?;
    let user = &asker.principal.user;
    inner.pins.check(&found.server, user, &found.tool).await?;
    if let Some(agent) = &request.agent_id {
        // One tool has one name in the ledger, also where the caller used the agent's own.
        tracing::trace!(agent.id = agent, "call.routed");
        request.reference = found.tool.reference.to_string();
    }
    // The server's own default holds only where the caller named none.
    let due = match (request.timeout, found.server.definition.timeout_ms) {
        (None, Some(ms)) => Due::within(Duration::from_millis(ms)),
        _ => wait,
    };
    check_hash(&found, request.schema_hash.as_deref())?;
    let arguments = Arguments::read(request.arguments.take())?;
    let who = &asker.principal;
    let held_against = inner.validators.check(who, (&found.tool, arguments));
    let arguments = held_against.await?;
    let verdict = decided(inner, asker, &found, &arguments);
    if request.dry_run {
        let checked = checked(&found, &arguments, &verdict);
        return Ok(Admitted::Answer(CallAnswer::Checked(checked)));
    }
    check_verdict(&found, &verdict, &request)?;
    let intent =
        intent(asker, &request, &found, &arguments).through(found.server.agent_id(), due.after);
    if intent.idempotency_key.is_some()
        && let Some(row) = inner.ledger.find_key(&intent).await?
    {
        check_same(&intent, &row)?;
        return inner.repeat(row, &request, due).await;
    }
    let wish = Wish {
        request,
        found,
        arguments,
        due,
    };
    let (intent, wish) = if verdict.decision == Decision::Confirm {
        match gated::pass(inner, asker, (intent, wish), &verdict).await? {
            Passed::On(passed) => *passed,
            Passed::Answer(answer) => return Ok(answer),
        }
    } else {
        (intent, wish)
    };
    accept(inner, asker, intent, wish).await
}

/// Takes a place in flight, commits the intent, and gets everything ready to be sent.
async fn accept(
    inner: &Arc<Inner>,
    asker: &Asker,
    intent: Intent,
    wish: Wish,
) -> Result<Admitted, BrokerError> {
    wish.found.server.check_agent()?;
    let permit = enter(inner, asker, &wish)?;
    if !intent.is_durable() {
        inner.await_room(wish.due.at).await?;
    }
    // From here on somebody must settle it, also when the caller goes away while the intent is committed.
    let agent = wish.found.server.agent().cloned();
    let (unsettled, live) = Unsettled::begin(inner, intent, agent);
    if live.intent.is_durable() {
        match inner.ledger.begin(&live.intent).await {
            Ok(Begun::Fresh) => {}
            Ok(Begun::Behind) => live.keep_behind(),
            Ok(Begun::Held(row)) => {
                unsettled.release();
                drop(permit);
                check_same(&live.intent, &row)?;
                return inner.repeat(*row, &wish.request, wish.due).await;
            }
            Err(fault) => {
                unsettled.release();
                return Err(fault);
            }
        }
    }
    let by_itself = wish.request.respond_async;
    let pending = ready(asker, (unsettled, live, permit), wish)?;
    if by_itself {
        let call_id = pending.start();
        return Ok(Admitted::Answer(CallAnswer::Accepted { call_id }));
    }
    Ok(Admitted::Pending(pending))
}

fn check_shape(inner: &Inner, request: &CallTool) -> Result<(), BrokerError> {
    if request
        .timeout
        .is_some_and(|t| t.is_zero() || t > inner.calls.max_timeout)
    {
        let most = inner.calls.max_timeout.as_millis();
        let detail = format!("timeout_ms must be 1 to {most}");
        return Err(Fault::new(ErrorCode::InvalidRequest, detail));
    }
    if let Some(key) = &request.idempotency_key {
        let printable = key.bytes().all(|b| b.is_ascii_graphic() || b == b' ');
        if key.is_empty() || key.len() > MAX_KEY_BYTES || !printable {
            let detail = format!("an idempotency key is 1 to {MAX_KEY_BYTES} printable characters");
            return Err(Fault::new(ErrorCode::InvalidRequest, detail));
        }
    }
    Ok(())
}

/// A hash the caller knows is a prefix of the present one: 12 digits on the wire, 64 in the store.
fn check_hash(found: &Found, known: Option<&str>) -> Result<(), BrokerError> {
    let Some(known) = known else { return Ok(()) };
    let present = found.tool.hash.hex();
    if known.len() >= 12 && present.starts_with(&known.to_ascii_lowercase()) {
        return Ok(());
    }
    let detail = format!(
        "{} is now {}",
        found.tool.reference,
        found.tool.hash.short()
    );
    let mut fault = Fault::new(ErrorCode::SchemaChanged, detail);
    fault.hint = Some(signature(&found.tool));
    Err(fault)
}

fn signature(tool: &Entry) -> String {
    format!("{}{}", tool.reference, tool.shape)
}

impl Inner {
    /// Rows of calls without an intent are written behind their answers. When the store does not keep up, new
    /// calls wait for it a moment; only when it is away is nothing more accepted.
    pub(crate) async fn await_room(&self, deadline: Instant) -> Result<(), BrokerError> {
        self.ledger.allows_reads().await?;
        if self
            .store
            .room(deadline.min(Instant::now() + ROOM_WAIT))
            .await
        {
            return Ok(());
        }
        let mut fault = Fault::new(
            ErrorCode::StoreUnavailable,
            "too many rows wait for the store",
        );
        fault.retry_after = Some(Duration::from_secs(2));
        Err(fault)
    }

    /// Refused calls are audited too, without holding anybody up.
    fn note_refused(&self, asker: &Asker, reference: &str, fault: &Fault) {
        self.meters.refused(fault.code.as_str());
        let repeated = fault.call_id.is_some() || fault.executed != ExecutedWire::No;
        if !repeated && self.gate.audits(&asker.principal.user, fault) {
            self.ledger.refused(asker, reference, fault);
        }
    }
}
