//! All checks of a call, in their order, up to the committed intent. Sends nothing.

use std::sync::Arc;
use std::time::Duration;

use catalog::Entry;
use chrono::Utc;
use tokio::time::Instant;
use transports::Params;

use super::find::Found;
use super::repeat::{check_same, request_digest};
use super::run::{Job, Unsettled};
use super::{CallId, core_tasks};
use crate::arguments::Arguments;
use crate::asker::Asker;
use crate::error::{BrokerError, ErrorCode, ExecutedWire, Fault};
use crate::ledger::{Begun, CallKind, Intent};
use crate::operations::calls::{Admitted, CallAnswer, CallTool, DryRun, PendingCall};
use crate::operations::relay::ClientSide;
use crate::operations::{Broker, Inner};
use crate::policy::Decision;
use crate::upstream_fault::Exchange;

/// Longest idempotency key, in bytes.
const MAX_KEY_BYTES: usize = 255;
/// How long a call waits for room in the queue of the ledger; a store that works makes some within milliseconds.
const ROOM_WAIT: Duration = Duration::from_secs(1);
/// When the call must have ended, and how long that is from now.
#[derive(Debug, Clone, Copy)]
pub(super) struct Due {
    pub(super) at: Instant,
    after: Duration,
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
    let wait = due(request.timeout.unwrap_or(inner.calls.default_timeout));
    let found = inner.find_tool(asker, &request, wait.at).await?;
    if let Some(agent) = &request.agent_id {
        // One tool has one name in the ledger, also where the caller used the agent's own.
        tracing::trace!(agent.id = agent, "call.routed");
        request.reference = found.tool.reference.to_string();
    }
    // The server's own default holds only where the caller named none.
    let due = match (request.timeout, found.server.definition.timeout_ms) {
        (None, Some(ms)) => due(Duration::from_millis(ms)),
        _ => wait,
    };
    check_hash(&found, request.schema_hash.as_deref())?;
    let arguments = Arguments::read(request.arguments.take())?;
    let arguments = inner.validators.check(&found.tool, arguments).await?;
    if found.decision != Decision::Allow {
        return Err(denied(&found.tool));
    }
    if request.dry_run {
        return Ok(Admitted::Answer(CallAnswer::Checked(checked(
            &found, &arguments,
        ))));
    }
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
    accept(inner, asker, intent, wish).await
}

/// A wish that passed every check but the limits.
struct Wish {
    request: CallTool,
    found: Found,
    arguments: Arguments,
    due: Due,
}

/// Takes a place in flight, commits the intent, and gets everything ready to be sent.
async fn accept(
    inner: &Arc<Inner>,
    asker: &Asker,
    intent: Intent,
    wish: Wish,
) -> Result<Admitted, BrokerError> {
    let Wish {
        mut request,
        found,
        arguments,
        due,
    } = wish;
    found.server.check_agent()?;
    let permit = inner.gate.enter(&asker.principal.user)?;
    if !intent.is_durable() {
        inner.await_room(due.at).await?;
    }
    // From here on somebody must settle it, also when the caller goes away while the intent is committed.
    let agent = found.server.agent().cloned();
    let (unsettled, live) = Unsettled::begin(inner, intent, agent);
    if live.intent.is_durable() {
        match inner.ledger.begin(&live.intent).await {
            Ok(Begun::Fresh) => {}
            Ok(Begun::Held(row)) => {
                unsettled.release();
                drop(permit);
                check_same(&live.intent, &row)?;
                return inner.repeat(*row, &request, due).await;
            }
            Err(fault) => {
                unsettled.release();
                return Err(fault);
            }
        }
    }
    let job = Job {
        live,
        permit,
        caller: asker.caller(&request.lane),
        exchange: Exchange::Tool {
            read_only: found.hints.read_only,
        },
        repeatable: found.hints.read_only || found.hints.idempotent,
        method: "tools/call".into(),
        params: tool_params(&found.tool, arguments, request.client.as_deref_mut())?,
        trace: asker.trace.clone(),
        server: found.server,
        deadline: due.at,
        timeout: due.after,
        attended: request.followed || request.client.is_some() || live_on(&request),
        drives_task: core_tasks::is_demanded(&found.tool.raw)
            && request
                .client
                .as_ref()
                .is_none_or(|one| !one.knows_core_tasks),
        client: request.client.take(),
    };
    let pending = PendingCall::new(unsettled, job);
    if request.respond_async {
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

fn due(after: Duration) -> Due {
    Due {
        at: Instant::now() + after,
        after,
    }
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

fn denied(tool: &Entry) -> BrokerError {
    Fault::new(
        ErrorCode::PolicyDenied,
        format!("{} is not for this principal's roles", tool.reference),
    )
}

fn checked(found: &Found, arguments: &Arguments) -> DryRun {
    let effect = if found.hints.read_only {
        "reads"
    } else {
        "may change things"
    };
    DryRun {
        reference: found.tool.reference.to_string(),
        schema_hash: found.tool.hash.short(),
        decision: "allow",
        preview: format!(
            "would call {} ({effect}) with {{{}}}",
            found.tool.reference,
            arguments.preview()
        ),
        read_only: found.hints.read_only,
    }
}

fn intent(asker: &Asker, request: &CallTool, found: &Found, arguments: &Arguments) -> Intent {
    Intent {
        id: CallId::mint(),
        workspace: asker.principal.workspace.clone(),
        user: asker.principal.user.clone(),
        key_id: asker.principal.key_id.clone(),
        kind: CallKind::Tool,
        reference: request.reference.clone(),
        lane: request.lane.clone(),
        trace_id: asker.trace.id(),
        arguments_digest: arguments.digest,
        preview: arguments.preview(),
        schema_hash: Some(found.tool.hash),
        idempotency_key: request.idempotency_key.clone(),
        request_digest: request_digest(request, arguments),
        read_only: found.hints.read_only,
        detached: request.respond_async
            || request.client.as_ref().is_some_and(|one| one.asks_later),
        created_at: Utc::now(),
        agent_id: None,
        deadline_at: None,
    }
}

/// Whether the call lives on without its connection, so that its questions can be answered by its id.
fn live_on(request: &CallTool) -> bool {
    request.respond_async || request.idempotency_key.is_some()
}

/// Name and arguments, then whatever else the caller's client put into `params`.
fn tool_params(
    tool: &Entry,
    arguments: Arguments,
    client: Option<&mut ClientSide>,
) -> Result<Params, BrokerError> {
    let name = serde_json::value::to_raw_value(&*tool.reference.name)
        .map_err(|_| Fault::new(ErrorCode::Internal, "the tool's name cannot be written"))?;
    let mut members = vec![("name".into(), name), ("arguments".into(), arguments.raw)];
    if let Some(client) = client {
        members.append(&mut client.extra.0);
    }
    Ok(Params(members))
}

impl Inner {
    /// Rows of calls without an intent are written behind their answers. When the store does not keep up, new
    /// calls wait for it a moment; only when it is away is nothing more accepted.
    pub(crate) async fn await_room(&self, deadline: Instant) -> Result<(), BrokerError> {
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
        if !repeated {
            self.ledger.refused(asker, reference, fault);
        }
    }
}
