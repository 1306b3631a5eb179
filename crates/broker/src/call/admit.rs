//! All checks of a call, in their order, up to the committed intent. Sends nothing.

use std::sync::Arc;
use std::time::Duration;

use catalog::{Entry, Hints, Kind, Ref};
use chrono::Utc;
use sessions::{Caller, Lane};
use sha2::{Digest, Sha256};
use tokio::time::Instant;

use super::CallId;
use super::run::{Job, Unsettled};
use crate::arguments::Arguments;
use crate::asker::Asker;
use crate::catalogue::Wanted;
use crate::error::{BrokerError, ErrorCode, ExecutedWire, Fault};
use crate::ledger::{Begun, CallKind, Intent, Row};
use crate::operations::calls::{Admitted, CallAnswer, CallDone, CallTool, DryRun, PendingCall};
use crate::operations::{Broker, Inner};
use crate::policy::{self, Decision};
use crate::registry::Server;
use crate::upstream_fault::Exchange;

/// A call that may act re-checks a catalogue older than this (rulings.md § Pins).
const ACTING_MAX_AGE: Duration = Duration::from_secs(30);
/// Longest wait for that re-check; after it the call goes on with what is held.
const RECHECK_WAIT: Duration = Duration::from_secs(2);
/// Longest idempotency key, in bytes.
const MAX_KEY_BYTES: usize = 255;
/// Refs offered in a did-you-mean.
const NEAR: usize = 3;

/// A tool as this asker may call it.
struct Found {
    server: Arc<Server>,
    tool: Arc<Entry>,
    hints: Hints,
    decision: Decision,
}

/// When the call must have ended, and how long that is from now.
#[derive(Debug, Clone, Copy)]
struct Due {
    at: Instant,
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
    let intent = intent(asker, &request, &found, &arguments);
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
        request,
        found,
        arguments,
        due,
    } = wish;
    let permit = inner.gate.enter(&asker.principal.user)?;
    inner.check_backlog()?;
    // From here on somebody must settle it, also when the caller goes away while the intent is committed.
    let (unsettled, live) = Unsettled::begin(inner, intent);
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
        caller: caller(asker, &request.lane),
        exchange: Exchange::Tool {
            read_only: found.hints.read_only,
        },
        repeatable: found.hints.read_only || found.hints.idempotent,
        method: "tools/call",
        params: tool_params(&found.tool, arguments)?,
        trace: asker.trace.clone(),
        server: found.server,
        deadline: due.at,
        timeout: due.after,
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

fn caller(asker: &Asker, lane: &Lane) -> Caller {
    Caller {
        user: asker.principal.user.clone(),
        workspace: asker.principal.workspace.clone(),
        lane: lane.clone(),
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
        detached: request.respond_async,
        created_at: Utc::now(),
    }
}

/// What a repeat with the same key must equal; nobody asks without a key.
fn request_digest(request: &CallTool, arguments: &Arguments) -> [u8; 32] {
    if request.idempotency_key.is_none() {
        return [0; 32];
    }
    let mut digest = Sha256::new();
    digest.update(request.reference.as_bytes());
    digest.update([0]);
    digest.update(request.lane.as_str().as_bytes());
    digest.update([0]);
    digest.update(arguments.digest);
    digest.finalize().into()
}

/// The same key must mean the same request.
fn check_same(intent: &Intent, row: &Row) -> Result<(), BrokerError> {
    if row.intent.request_digest == intent.request_digest {
        return Ok(());
    }
    let mut fault = Fault::new(
        ErrorCode::IdempotencyMismatch,
        "the key was used with another ref, lane or arguments",
    );
    fault.call_id = Some(row.intent.id.to_string());
    Err(fault)
}

fn tool_params(tool: &Entry, arguments: Arguments) -> Result<transports::Params, BrokerError> {
    let name = serde_json::value::to_raw_value(&*tool.reference.name)
        .map_err(|_| Fault::new(ErrorCode::Internal, "the tool's name cannot be written"))?;
    Ok(transports::Params(vec![
        ("name".into(), name),
        ("arguments".into(), arguments.raw),
    ]))
}

impl Inner {
    /// The tool, as far as this asker may see it.
    async fn find_tool(
        &self,
        asker: &Asker,
        request: &CallTool,
        deadline: Instant,
    ) -> Result<Found, BrokerError> {
        let who = &asker.principal;
        let Some(reference) = Ref::parse(&request.reference) else {
            return Err(self.no_such_tool(asker, &request.reference).await);
        };
        let server = self
            .visible_server(who, &reference.server)
            .filter(|server| !server.definition.disabled);
        let Some(server) = server else {
            return Err(self.no_such_tool(asker, &request.reference).await);
        };
        let caller = caller(asker, &request.lane);
        let wanted = Wanted {
            caller: &caller,
            kind: Kind::Tool,
            reference: &reference,
            deadline,
        };
        let mut tool = self.catalogues.entry(&server, wanted).await?;
        let acts = tool.as_ref().is_some_and(|tool| {
            !server
                .definition
                .corrected(&reference.name, tool.hints)
                .read_only
        });
        if acts {
            let until = deadline.min(Instant::now() + RECHECK_WAIT);
            let confirmed = Wanted {
                deadline: until,
                ..wanted
            };
            self.catalogues
                .confirm(&server, confirmed, ACTING_MAX_AGE)
                .await;
            tool = self.catalogues.entry(&server, wanted).await?;
        }
        let Some(tool) = tool else {
            return Err(self.no_such_tool(asker, &request.reference).await);
        };
        let hints = server.definition.corrected(&reference.name, tool.hints);
        let decision = policy::decide(who, &reference, hints);
        if decision == Decision::Hide {
            return Err(self.no_such_tool(asker, &request.reference).await);
        }
        Ok(Found {
            server,
            tool,
            hints,
            decision,
        })
    }

    /// `tool_not_found`, with what the caller may have meant.
    pub(crate) async fn no_such_tool(&self, asker: &Asker, wrong: &str) -> BrokerError {
        let mut fault = Fault::new(ErrorCode::ToolNotFound, "there is no such tool");
        let near = self.near(asker, Kind::Tool, wrong).await;
        fault.hint = match near.as_slice() {
            [] => Some("a ref is server.tool; list_catalog finds them".to_owned()),
            near => Some(format!("did you mean {}?", near.join(" or "))),
        };
        fault
    }

    /// The same key was used before: replay its end, or wait for it.
    async fn repeat(
        &self,
        row: Row,
        request: &CallTool,
        due: Due,
    ) -> Result<Admitted, BrokerError> {
        let call_id = row.intent.id.to_string();
        if request.respond_async {
            return Ok(Admitted::Answer(CallAnswer::Accepted { call_id }));
        }
        let trace_id = row.intent.trace_id.clone();
        let ended = match self.live.get(row.intent.id) {
            Some(live) => live.wait(due.at).await,
            None => self.ledger.ended(&row.intent).await?.map(Arc::new),
        };
        let Some(ended) = ended else {
            let mut fault = Fault::new(
                ErrorCode::InProgress,
                "the call with this key is still running",
            );
            fault.call_id = Some(call_id);
            fault.retry_after = Some(Duration::from_secs(1));
            return Err(fault);
        };
        match &ended.outcome {
            Ok(result) => Ok(Admitted::Answer(CallAnswer::Done(CallDone {
                call_id,
                trace_id,
                result: Arc::clone(result),
                duration: ended.duration,
                replayed: true,
            }))),
            Err(fault) => {
                let mut fault = Box::new((**fault).clone());
                fault.call_id = Some(call_id);
                Err(fault)
            }
        }
    }

    /// While the store is away finished rows gather; past the bound nothing more is accepted.
    pub(crate) fn check_backlog(&self) -> Result<(), BrokerError> {
        if !self.store.is_backlogged() {
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

    /// Refs like a wrong one, among those this asker may see.
    pub(crate) async fn near(&self, asker: &Asker, kind: Kind, wrong: &str) -> Vec<String> {
        let who = &asker.principal;
        let servers = self.visible_servers(who);
        let slots: Vec<_> = servers
            .iter()
            .map(|server| {
                (
                    Arc::clone(server),
                    self.catalogues.slot_for(server, &who.user),
                )
            })
            .collect();
        let Ok(view) = self.views.over((&who.workspace, &who.user), &slots).await else {
            return Vec::new();
        };
        let visible = |entry: &Entry| self.may_list(who, entry);
        view.index.near(kind, wrong, NEAR, &visible)
    }

    /// Whether an entry stands in this principal's lists.
    pub(crate) fn may_list(&self, who: &crate::principal::Principal, entry: &Entry) -> bool {
        if entry.kind != Kind::Tool {
            return policy::may_read(who, entry.reference.server.as_str());
        }
        let server = self.registry.get(&who.workspace, &entry.reference.server);
        let hints = server.map_or(entry.hints, |server| {
            server
                .definition
                .corrected(&entry.reference.name, entry.hints)
        });
        policy::decide(who, &entry.reference, hints) == Decision::Allow
    }
}
