//! `read_resource`, `get_prompt`, `complete`: read-only exchanges with one server, each in the ledger.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use catalog::{Entry, Kind, Ref};
use chrono::Utc;
use serde::Serialize;
use serde_json::json;
use serde_json::value::RawValue;
use sessions::Lane;
use tokio::time::Instant;
use transports::Params;

use super::calls::{PendingCall, ToolResult};
use super::{Broker, Inner};
use crate::agents::Aim;
use crate::asker::Asker;
use crate::call::CallId;
use crate::call::run::{Job, Unsettled};
use crate::catalogue::Wanted;
use crate::error::{BrokerError, ErrorCode, Fault};
use crate::gate::size_bytes;
use crate::ledger::{CallKind, Intent};
use crate::registry::Server;
use crate::upstream_fault::Exchange;

/// Which resource.
#[derive(Debug, Clone, Default)]
pub struct ReadResource {
    /// The server.
    pub server: String,
    /// The URI; need not be listed (templates).
    pub uri: String,
    /// The run or conversation.
    pub lane: Lane,
    /// Deadline, from now.
    pub timeout: Option<Duration>,
}

/// Which prompt.
#[derive(Debug, Clone, Default)]
pub struct GetPrompt {
    /// `server.prompt`.
    pub reference: String,
    /// Its arguments; MCP knows strings only.
    pub arguments: BTreeMap<String, String>,
    /// The run or conversation.
    pub lane: Lane,
    /// Deadline, from now.
    pub timeout: Option<Duration>,
}

/// What an argument belongs to.
#[derive(Debug, Clone)]
pub enum CompleteTarget {
    /// `server.prompt`.
    Prompt {
        /// The ref.
        reference: String,
    },
    /// A resource template.
    Template {
        /// The server.
        server: String,
        /// The URI template.
        uri_template: String,
    },
}

/// Which argument is to be completed.
#[derive(Debug, Clone)]
pub struct Complete {
    /// What it belongs to.
    pub target: CompleteTarget,
    /// The argument's name.
    pub argument: String,
    /// What was typed so far.
    pub value: String,
    /// Arguments already chosen.
    pub context: BTreeMap<String, String>,
    /// The run or conversation.
    pub lane: Lane,
    /// Deadline, from now.
    pub timeout: Option<Duration>,
}

/// What a server answered, untouched.
#[derive(Debug)]
pub struct UpstreamAnswer {
    /// `call_…`, its row in the ledger.
    pub call_id: String,
    /// The MCP result (`contents`, `messages`, `completion`, …); see [`ToolResult::raw`].
    pub result: Arc<ToolResult>,
    /// From accepted to answered.
    pub duration: Duration,
}

/// Longest URI, prompt argument or typed value, in bytes.
const MAX_TEXT_BYTES: usize = 64 * 1024;

impl Broker {
    /// Reads a resource.
    ///
    /// # Errors
    /// `server_not_found`, `resource_not_found`, and the codes of upstream faults.
    pub async fn read_resource(
        &self,
        asker: &Asker,
        request: ReadResource,
    ) -> Result<UpstreamAnswer, BrokerError> {
        if request.uri.is_empty() || request.uri.len() > MAX_TEXT_BYTES {
            return Err(Fault::new(
                ErrorCode::InvalidRequest,
                "uri is empty or too long",
            ));
        }
        let aim = Aim::lane(&request.lane);
        let server = self.inner.usable_server_in(asker, &request.server, aim)?;
        let read = Reading {
            reference: format!("{}.{}", server.name, request.uri),
            server,
            kind: CallKind::Resource,
            exchange: Exchange::Resource,
            method: "resources/read",
            params: Params(vec![("uri".into(), raw(&request.uri)?)]),
            lane: request.lane,
            timeout: request.timeout,
        };
        self.inner.read(asker, read).await
    }

    /// Gets a prompt's messages.
    ///
    /// # Errors
    /// `prompt_not_found`, `invalid_arguments`, and the codes of upstream faults.
    pub async fn get_prompt(
        &self,
        asker: &Asker,
        request: GetPrompt,
    ) -> Result<UpstreamAnswer, BrokerError> {
        let (server, prompt) = self
            .inner
            .find_prompt(asker, &request.reference, &request.lane)
            .await?;
        let params = vec![
            ("name".into(), raw(&*prompt.reference.name)?),
            ("arguments".into(), raw(&request.arguments)?),
        ];
        let read = Reading {
            reference: request.reference,
            server,
            kind: CallKind::Prompt,
            exchange: Exchange::Prompt,
            method: "prompts/get",
            params: Params(params),
            lane: request.lane,
            timeout: request.timeout,
        };
        let mut answer = self.inner.read(asker, read).await;
        if let Err(fault) = &mut answer
            && fault.code == ErrorCode::InvalidArguments
            && fault.hint.is_none()
        {
            fault.hint = Some(format!("{}{}", prompt.reference, prompt.shape));
        }
        answer
    }

    /// Completes an argument; an upstream without completion gives an empty list.
    ///
    /// # Errors
    /// `server_not_found`, `prompt_not_found`, and the codes of upstream faults.
    pub async fn complete(
        &self,
        asker: &Asker,
        request: Complete,
    ) -> Result<UpstreamAnswer, BrokerError> {
        let (server, reference, target) = match &request.target {
            CompleteTarget::Prompt { reference } => {
                let (server, prompt) = self
                    .inner
                    .find_prompt(asker, reference, &request.lane)
                    .await?;
                let target = json!({"type": "ref/prompt", "name": &*prompt.reference.name});
                (server, reference.clone(), target)
            }
            CompleteTarget::Template {
                server,
                uri_template,
            } => {
                let aim = Aim::lane(&request.lane);
                let server = self.inner.usable_server_in(asker, server, aim)?;
                let reference = format!("{}.{uri_template}", server.name);
                (
                    server,
                    reference,
                    json!({"type": "ref/resource", "uri": uri_template}),
                )
            }
        };
        let argument = json!({"name": request.argument, "value": request.value});
        let mut params = vec![
            ("ref".into(), raw(&target)?),
            ("argument".into(), raw(&argument)?),
        ];
        if !request.context.is_empty() {
            params.push((
                "context".into(),
                raw(&json!({"arguments": request.context}))?,
            ));
        }
        let read = Reading {
            reference,
            server,
            kind: CallKind::Completion,
            exchange: Exchange::Completion,
            method: "completion/complete",
            params: Params(params),
            lane: request.lane,
            timeout: request.timeout,
        };
        let none = json!({"completion": {"values": [], "hasMore": false}});
        match self.inner.read(asker, read).await {
            Err(fault) if has_no_completion(&fault) => Ok(UpstreamAnswer {
                call_id: fault.call_id.unwrap_or_default(),
                result: Arc::new(ToolResult::read(raw(&none)?, usize::MAX)?),
                duration: Duration::ZERO,
            }),
            answer => answer,
        }
    }
}

/// A server that offers no completion says that it does not know the method.
fn has_no_completion(fault: &Fault) -> bool {
    matches!(fault.upstream, Some((_, Some(-32601))))
}

/// One read-only exchange that is no tool call.
struct Reading {
    server: Arc<Server>,
    reference: String,
    kind: CallKind,
    exchange: Exchange,
    method: &'static str,
    params: Params,
    lane: Lane,
    timeout: Option<Duration>,
}

impl Inner {
    async fn find_prompt(
        &self,
        asker: &Asker,
        text: &str,
        lane: &Lane,
    ) -> Result<(Arc<Server>, Arc<Entry>), BrokerError> {
        let who = &asker.principal;
        let reference = Ref::parse(text);
        let server = reference.as_ref().and_then(|reference| {
            let aim = Aim::lane(lane);
            let server = self.visible_server_in(who, &reference.server, aim).ok()??;
            let readable = self.policy.now().may_read(who, server.name.as_str());
            let usable = !server.definition.disabled && readable;
            usable.then_some(server)
        });
        if let (Some(reference), Some(server)) = (reference, server) {
            let caller = asker.caller(lane);
            let wanted = Wanted {
                caller: &caller,
                kind: Kind::Prompt,
                reference: &reference,
                deadline: Instant::now() + self.calls.default_timeout,
            };
            if let Some(prompt) = self.catalogues.entry(&server, wanted).await? {
                return Ok((server, prompt));
            }
        }
        let mut fault = Fault::new(ErrorCode::PromptNotFound, "there is no such prompt");
        let near = self.near(asker, Kind::Prompt, text).await;
        fault.hint = (!near.is_empty()).then(|| format!("did you mean {}?", near.join(" or ")));
        Err(fault)
    }

    /// How long an exchange may take: its caller's word, its server's, or the default.
    ///
    /// # Errors
    /// `invalid_request` for no time at all and for more than the owner's limit.
    pub(super) fn time_for(
        &self,
        server: &Server,
        asked: Option<Duration>,
    ) -> Result<Duration, BrokerError> {
        let own = server.definition.timeout_ms.map(Duration::from_millis);
        let timeout = asked.or(own).unwrap_or(self.calls.default_timeout);
        if timeout.is_zero() || timeout > self.calls.max_timeout {
            let most = self.calls.max_timeout.as_millis();
            let detail = format!("timeout_ms must be 1 to {most}");
            return Err(Fault::new(ErrorCode::InvalidRequest, detail));
        }
        Ok(timeout)
    }

    async fn read(
        self: &Arc<Self>,
        asker: &Asker,
        read: Reading,
    ) -> Result<UpstreamAnswer, BrokerError> {
        let timeout = self.time_for(&read.server, read.timeout)?;
        let who = &asker.principal;
        read.server.check_agent()?;
        let permit = self
            .gate
            .enter(who, &read.server, size_bytes(&read.params))?;
        self.await_room(Instant::now() + timeout).await?;
        let (unsettled, live) = Unsettled::begin(
            self,
            Intent {
                id: CallId::mint(),
                workspace: who.workspace.clone(),
                user: who.user.clone(),
                key_id: who.key_id.clone(),
                kind: read.kind,
                reference: read.reference,
                lane: read.lane.clone(),
                trace_id: asker.trace.id(),
                arguments_digest: [0; 32],
                preview: String::new(),
                schema_hash: None,
                idempotency_key: None,
                request_digest: [0; 32],
                read_only: true,
                detached: false,
                created_at: Utc::now(),
                agent_id: None,
                deadline_at: None,
                approval_id: None,
            }
            .through(read.server.agent_id(), timeout),
            read.server.agent().cloned(),
        );
        let job = Job {
            live,
            permit,
            caller: asker.caller(&read.lane),
            server: read.server,
            exchange: read.exchange,
            repeatable: true,
            method: read.method.into(),
            params: read.params,
            trace: asker.trace.clone(),
            deadline: Instant::now() + timeout,
            timeout,
            client: None,
            attended: false,
            drives_task: false,
        };
        let done = PendingCall::new(unsettled, job).run().await?;
        Ok(UpstreamAnswer {
            call_id: done.call_id,
            result: done.result,
            duration: done.duration,
        })
    }
}

fn raw(value: &(impl Serialize + ?Sized)) -> Result<Box<RawValue>, BrokerError> {
    serde_json::value::to_raw_value(value)
        .map_err(|_| Fault::new(ErrorCode::Internal, "a parameter cannot be written"))
}
