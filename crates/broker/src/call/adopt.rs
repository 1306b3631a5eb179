//! Calls that an agent runs and an earlier process of the bridge accepted: attended again from the start on, until
//! their deadline. Nothing is sent again.

use std::sync::Arc;
use std::time::Duration;

use chrono::Utc;
use tokio::sync::mpsc;
use transports::RequestError;
use transports::tunnel::bridge::{Agent, Attendance};
use transports::tunnel::{AgentId, ReqId};

use super::live::{Live, Stop};
use super::run::{Unsettled, stopped};
use crate::agents::{LOCAL_AGENT, Owner};
use crate::error::{BrokerError, ErrorCode, ExecutedWire, Fault};
use crate::ledger::{CallKind, Intent, Row};
use crate::operations::Inner;
use crate::operations::calls::ToolResult;
use crate::registry::Server;
use crate::upstream_fault::{Exchange, Upstream};

/// Notifications of one call that wait to be told.
const PROGRESS_QUEUE: usize = 64;
/// How long after its deadline an agent may take to say so by itself.
const DEADLINE_GRACE: Duration = Duration::from_secs(5);

impl Inner {
    /// Takes up what agents run.
    ///
    /// # Errors
    /// `store_unavailable`.
    pub(crate) async fn adopt(self: &Arc<Self>, node: &str) -> Result<(), BrokerError> {
        let rows = self.store.unsettled_agent_calls(node).await?;
        if !rows.is_empty() {
            tracing::info!(
                calls.adopted = rows.len(),
                "agents run calls of before this start"
            );
        }
        for row in rows {
            self.adopt_one(row);
        }
        Ok(())
    }

    fn adopt_one(self: &Arc<Self>, row: Row) {
        let intent = row.intent;
        let agent = self.agent_of(&intent);
        let live = Live::adopted(intent, agent.clone());
        let (promise, live) = Unsettled::of(self, live);
        // Waits from here on: no agent is let in before the bridge listens.
        let waiting = agent.map(|agent| attend(&agent, &live, self.calls.agents_return));
        let inner = Arc::clone(self);
        self.tasks.spawn(async move {
            let outcome = match waiting {
                Some(waiting) => tokio::select! {
                    biased;
                    outcome = waiting.outcome(&inner, &live) => outcome,
                    why = live.stopped() => {
                        if why == Stop::ShuttingDown {
                            promise.leave();
                            return;
                        }
                        Err(stopped(&live, why))
                    }
                },
                None => Err(lost()),
            };
            promise.settle(outcome).await;
        });
    }

    fn agent_of(&self, intent: &Intent) -> Option<Agent> {
        let id = intent.agent_id.as_deref()?;
        if id == LOCAL_AGENT {
            return self.agents.own().cloned();
        }
        let owner = Owner::new(&intent.workspace, &intent.user);
        let known = self.agents.get(&owner, &AgentId::new(id).ok()?)?;
        Some(known.agent.clone())
    }

    /// The server a call went to, as far as it is there still.
    fn server_of_call(&self, intent: &Intent) -> Option<Arc<Server>> {
        let (server, _) = intent.reference.split_once('.')?;
        let server = transports::ServerName::new(server).ok()?;
        let owner = Owner::new(&intent.workspace, &intent.user);
        self.registry.for_user(&owner, &server)
    }
}

/// Its agent is not there any more.
fn lost() -> BrokerError {
    let mut fault = Fault::new(
        ErrorCode::OutcomeUnknown,
        "the bridge was restarted, and the agent that ran the call is gone",
    );
    fault.executed = ExecutedWire::Unknown;
    fault
}

/// A call that is waited for.
struct Waiting {
    result: Result<Answer, RequestError>,
    told: mpsc::Receiver<transports::Notification>,
    timeout: Duration,
}

type Answer = std::pin::Pin<
    Box<dyn Future<Output = Result<Box<serde_json::value::RawValue>, RequestError>> + Send>,
>;

fn attend(agent: &Agent, live: &Live, agents_return: Duration) -> Waiting {
    let left = live.intent.deadline_at.map_or(Duration::ZERO, |at| {
        (at - Utc::now()).to_std().unwrap_or_default()
    });
    let timeout = (left + DEADLINE_GRACE).max(agents_return);
    let (progress, told) = mpsc::channel(PROGRESS_QUEUE);
    let result = match ReqId::new(live.name.as_str()) {
        Ok(req_id) => agent
            .attending(Attendance {
                req_id,
                timeout,
                progress: Some(progress),
            })
            .map(|answer| Box::pin(answer) as Answer),
        Err(error) => Err(RequestError::Protocol {
            detail: error.to_string(),
        }),
    };
    Waiting {
        result,
        told,
        timeout,
    }
}

impl Waiting {
    async fn outcome(self, inner: &Inner, live: &Live) -> Result<ToolResult, BrokerError> {
        let Self {
            result,
            mut told,
            timeout,
        } = self;
        let server = inner.server_of_call(&live.intent);
        let name = live
            .intent
            .reference
            .split_once('.')
            .map_or("", |(name, _)| name);
        let none = crate::definition::Redactions::default();
        let redactions = server.as_ref().map_or(&none, |server| server.redactions());
        let upstream = Upstream {
            server: name,
            redactions,
        };
        let exchange = exchange_of(&live.intent);
        let raw = match result {
            Ok(mut answer) => loop {
                tokio::select! {
                    biased;
                    Some(notification) = told.recv() => {
                        inner.tell_progress(live, redactions, notification);
                    }
                    answer = &mut answer => break answer,
                }
            },
            // Whyever nobody can wait for it: it may run all the same.
            Err(error) => {
                let detail =
                    format!("the bridge was restarted, and cannot wait for the call: {error}");
                let fault = Fault::new(ErrorCode::OutcomeUnknown, detail);
                return Err(unknown(fault, name));
            }
        };
        while let Ok(notification) = told.try_recv() {
            inner.tell_progress(live, redactions, notification);
        }
        let raw = raw.map_err(|error| match error {
            RequestError::Timeout { .. } => upstream.timed_out(timeout, exchange),
            error => upstream.not_answered(&error, exchange),
        })?;
        let result = ToolResult::read(raw, inner.calls.result_bytes);
        let result = result.map_err(|fault| unknown(fault, name))?;
        if result.is_input_required() {
            // What the next round would repeat went with the process that sent the first.
            let detail = "the server asked back, and the bridge was restarted in between";
            let fault = Fault::new(ErrorCode::OutcomeUnknown, detail);
            return Err(unknown(fault, name));
        }
        Ok(result)
    }
}

fn unknown(mut fault: BrokerError, server: &str) -> BrokerError {
    fault.executed = ExecutedWire::Unknown;
    fault.upstream = Some((server.to_owned(), None));
    fault
}

fn exchange_of(intent: &Intent) -> Exchange {
    let read_only = intent.read_only;
    match intent.kind {
        CallKind::Tool => Exchange::Tool { read_only },
        CallKind::Resource => Exchange::Resource,
        CallKind::Prompt => Exchange::Prompt,
        CallKind::Completion => Exchange::Completion,
        CallKind::Task => Exchange::Task { read_only },
    }
}
