//! MCP requests passed through to one server, with policy and ledger as for every call, and the questions a server
//! asks back. Tool calls go through [`Broker::admit_call`] and are followed in the same way.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use catalog::Ref;
use chrono::Utc;
use serde::Deserialize;
use serde_json::value::RawValue;
use sessions::Lane;
use sha2::{Digest as _, Sha256};
use tokio::time::Instant;
use transports::{LogLevel, Params};

use super::calls::{PendingCall, may_see, no_such_call};
use super::{Broker, Inner};
use crate::agents::{Aim, agent_named};
use crate::asker::Asker;
use crate::call::CallId;
use crate::call::dialogue::InputAnswer;
use crate::call::follow::CallRun;
use crate::call::run::{Job, Unsettled};
use crate::call::task_owners::TaskOwners;
use crate::error::{BrokerError, ErrorCode, Fault};
use crate::gate::size_bytes;
use crate::ledger::{Begun, CallKind, Intent};
use crate::registry::Server;
use crate::upstream_fault::Exchange;

/// What the caller's own MCP client can do, and what it put into its request beside the operation's own members.
#[derive(Debug, Clone, Default)]
pub struct ClientSide {
    /// Raw `ClientCapabilities`; `None`: what callers by REST can do.
    pub capabilities: Option<Arc<RawValue>>,
    /// The log level it wants (2026-07-28: `_meta …/logLevel`).
    pub log_level: Option<LogLevel>,
    /// It speaks 2026-07-28: `input_required` is a result to it. Otherwise the bridge puts the questions to it while
    /// the call goes on. Requests of a legacy server are always put.
    pub takes_input_required: bool,
    /// It may ask for the result of a tool call later, as a task of the bridge: the call is written down before it is
    /// sent, whatever it does.
    pub asks_later: bool,
    /// The tasks of the server that it follows itself; all others are waited for here.
    pub follows: Option<ServerTasks>,
    /// Members of its `_meta` to be sent on; none of the protocol's own.
    pub meta: Params,
    /// Members of its `params` that the operation does not know: `task`, `inputResponses`, `requestState`, unknown ones.
    pub extra: Params,
}

/// Which tasks of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServerTasks {
    /// Those of the core of 2025-11-25.
    Core,
    /// Those of the extension of 2026-07-28.
    Extension,
}

/// One MCP request for one server.
#[derive(Debug, Clone)]
pub struct Relay {
    /// The server.
    pub server: String,
    /// One of [`RELAYED`].
    pub method: String,
    /// All of its `params` but `_meta`.
    pub params: Params,
    /// The run or conversation.
    pub lane: Lane,
    /// Exactly this agent of the caller's.
    pub agent_id: Option<String>,
    /// Deadline, from now.
    pub timeout: Option<Duration>,
    /// The caller's MCP client.
    pub client: ClientSide,
}

/// The methods [`Broker::relay`] passes on. Tool calls, lists and subscriptions have operations of their own.
pub const RELAYED: [&str; 8] = [
    "completion/complete",
    "prompts/get",
    "resources/read",
    "tasks/cancel",
    "tasks/get",
    "tasks/list",
    "tasks/result",
    "tasks/update",
];

/// Longest name, URI or task id, in bytes.
const MAX_TEXT_BYTES: usize = 64 * 1024;

/// What a method means to policy and ledger.
struct Meaning {
    kind: CallKind,
    exchange: Exchange,
    /// The member that names what it is about.
    about: Option<&'static str>,
}

fn meaning(method: &str) -> Option<Meaning> {
    let (kind, exchange, about) = match method {
        "completion/complete" => (CallKind::Completion, Exchange::Completion, None),
        "prompts/get" => (CallKind::Prompt, Exchange::Prompt, Some("name")),
        "resources/read" => (CallKind::Resource, Exchange::Resource, Some("uri")),
        "tasks/list" => (CallKind::Task, Exchange::Task { read_only: true }, None),
        "tasks/get" | "tasks/result" => {
            let exchange = Exchange::Task { read_only: true };
            (CallKind::Task, exchange, Some("taskId"))
        }
        "tasks/cancel" | "tasks/update" => {
            let exchange = Exchange::Task { read_only: false };
            (CallKind::Task, exchange, Some("taskId"))
        }
        _ => return None,
    };
    Some(Meaning {
        kind,
        exchange,
        about,
    })
}

impl Broker {
    /// Checks one request and writes its intent; nothing is sent before [`PendingCall::follow`] or [`PendingCall::run`].
    ///
    /// # Errors
    /// `invalid_request` for a method that is not in [`RELAYED`] or without its name; `server_not_found`;
    /// `resource_not_found` for a task of somebody else; `policy_denied`; the codes of limits and store.
    pub async fn relay(&self, asker: &Asker, relay: Relay) -> Result<PendingCall, BrokerError> {
        let inner = &self.inner;
        let Some(meaning) = meaning(&relay.method) else {
            let detail = format!("{} is not passed on", relay.method);
            return Err(Fault::new(ErrorCode::InvalidRequest, detail));
        };
        let agent = relay.agent_id.as_deref().map(agent_named).transpose()?;
        let aim = Aim {
            lane: Some(&relay.lane),
            agent: agent.as_ref(),
        };
        let server = inner.usable_server_in(asker, &relay.server, aim)?;
        let about = match meaning.about {
            Some(member) => text_member(&relay.params, member)?,
            None => relay.method.clone(),
        };
        if meaning.kind == CallKind::Task {
            inner.check_task(asker, &server, (&relay.method, &about))?;
        }
        inner
            .begin_relay(asker, relay, (server, meaning, about))
            .await
    }

    /// Follows a call that runs by itself.
    ///
    /// # Errors
    /// `call_not_found`, also when it has ended: its end is read by [`Broker::get_call`].
    pub fn follow_call(&self, asker: &Asker, call_id: &str) -> Result<CallRun, BrokerError> {
        let live = CallId::parse(call_id).and_then(|id| self.inner.live.get(id));
        let live = live.filter(|live| may_see(asker, &live.intent));
        live.map(|live| CallRun::attach(&live))
            .ok_or_else(no_such_call)
    }

    /// Answers questions of a running call; all of them or, on an error, none.
    ///
    /// # Errors
    /// `call_not_found`; `conflict` when the call waits for nothing; `invalid_arguments` for an unknown key.
    pub fn answer_input(
        &self,
        asker: &Asker,
        call_id: &str,
        answers: Vec<(String, InputAnswer)>,
    ) -> Result<(), BrokerError> {
        let id = CallId::parse(call_id).ok_or_else(no_such_call)?;
        let live = self.inner.live.get(id);
        match live.filter(|live| may_see(asker, &live.intent)) {
            Some(live) => live.dialogue.answer(answers),
            None => Err(no_such_call()),
        }
    }
}

impl Inner {
    /// A task belongs to whoever started it. Where a whole workspace shares a session, the server does not know that.
    fn check_task(
        &self,
        asker: &Asker,
        server: &Server,
        (method, task): (&str, &str),
    ) -> Result<(), BrokerError> {
        if method != "tasks/list" && !self.tasks_of.is_foreign(asker, server, task) {
            let acts = matches!(method, "tasks/cancel" | "tasks/update");
            if !acts || self.may_act(asker, server, method) {
                return Ok(());
            }
            let detail = "this is not for this principal's roles";
            return Err(Fault::new(ErrorCode::PolicyDenied, detail));
        }
        if method == "tasks/list" && !TaskOwners::is_shared(server) {
            return Ok(());
        }
        let detail = "there is no such task";
        Err(Fault::new(ErrorCode::ResourceNotFound, detail))
    }

    /// Whether a task may be steered: it was let through the gates when it was begun.
    fn may_act(&self, asker: &Asker, server: &Server, method: &str) -> bool {
        let reference = Ref {
            server: server.name.clone(),
            name: Arc::from(method),
        };
        let hints = catalog::Hints::default();
        let policy = self.policy.now();
        policy.shows(&asker.principal, &reference, hints)
    }

    async fn begin_relay(
        self: &Arc<Self>,
        asker: &Asker,
        relay: Relay,
        (server, meaning, about): (Arc<Server>, Meaning, String),
    ) -> Result<PendingCall, BrokerError> {
        let timeout = self.time_for(&server, relay.timeout)?;
        let who = &asker.principal;
        server.check_agent()?;
        let permit = self.gate.enter(who, &server, size_bytes(&relay.params))?;
        self.await_room(Instant::now() + timeout).await?;
        let intent = Intent {
            id: CallId::mint(),
            workspace: who.workspace.clone(),
            user: who.user.clone(),
            key_id: who.key_id.clone(),
            kind: meaning.kind,
            reference: format!("{}.{about}", server.name),
            lane: relay.lane.clone(),
            trace_id: asker.trace.id(),
            arguments_digest: digest(&relay.params),
            preview: relay.method.clone(),
            schema_hash: None,
            idempotency_key: None,
            request_digest: [0; 32],
            read_only: meaning.exchange.read_only(),
            detached: false,
            created_at: Utc::now(),
            agent_id: None,
            deadline_at: None,
            approval_id: None,
        }
        .through(server.agent_id(), timeout);
        let (unsettled, live) = Unsettled::begin(self, intent, server.agent().cloned());
        if live.intent.is_durable() {
            match self.ledger.begin(&live.intent).await {
                Ok(Begun::Behind) => live.keep_behind(),
                Ok(Begun::Fresh | Begun::Held(_)) => {}
                Err(fault) => {
                    unsettled.release();
                    return Err(fault);
                }
            }
        }
        let job = Job {
            live,
            permit,
            caller: asker.caller(&relay.lane),
            exchange: meaning.exchange,
            repeatable: meaning.exchange.read_only(),
            method: Cow::Owned(relay.method),
            params: relay.params,
            trace: asker.trace.clone(),
            server,
            deadline: Instant::now() + timeout,
            timeout,
            client: Some(Box::new(relay.client)),
            attended: true,
            drives_task: false,
        };
        Ok(PendingCall::new(unsettled, job))
    }
}

/// Over the members as they were written, for the ledger.
fn digest(params: &Params) -> [u8; 32] {
    let mut digest = Sha256::new();
    for (name, value) in &params.0 {
        digest.update(name.as_bytes());
        digest.update([0]);
        digest.update(value.get().as_bytes());
        digest.update([0]);
    }
    digest.finalize().into()
}

fn text_member(params: &Params, member: &str) -> Result<String, BrokerError> {
    #[derive(Deserialize)]
    #[serde(transparent)]
    struct Text(String);
    let text = params
        .get(member)
        .and_then(|raw| serde_json::from_str::<Text>(raw.get()).ok())
        .map(|text| text.0)
        .filter(|text| !text.is_empty() && text.len() <= MAX_TEXT_BYTES);
    text.ok_or_else(|| {
        let mut fault = Fault::new(
            ErrorCode::InvalidRequest,
            format!("{member} must be a text that is not empty"),
        );
        fault.errors.push(crate::error::PointerDetail {
            pointer: format!("/params/{member}"),
            detail: "expected a text".to_owned(),
        });
        fault
    })
}
