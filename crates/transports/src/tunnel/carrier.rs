//! A server behind an agent, as one more kind of carrier: lists are answered from what the agent told,
//! calls cross the tunnel, and a line that is lost ends nothing by itself.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::value::RawValue;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::bridge::{Agent, Invocation};
use super::frame::{InvokeMethod, ServerTools};
use super::id::ReqId;
use crate::connection::{Inbound, PeerInfo};
use crate::error::{CloseReason, ConnectError, Executed, RequestError};
use crate::spec::{Era, TunnelSpec};
use crate::wire::{self, Notification, Request};

/// How long an agent may be away before the connections to its servers end. Longer than the longest wait
/// before it dials again.
const AWAY_FOR: Duration = Duration::from_mins(2);
/// How soon it is looked again whether the calls that still wait have ended.
const LOOK_AGAIN: Duration = Duration::from_secs(10);

/// One connection to a server behind an agent.
#[derive(Debug)]
pub(crate) struct TunnelCarrier {
    agent: Agent,
    server: String,
    isolation_key: String,
    told: watch::Receiver<Arc<ServerTools>>,
    ended: watch::Receiver<Option<CloseReason>>,
    in_flight: Arc<AtomicUsize>,
    stop: CancellationToken,
    tasks: TaskTracker,
}

/// Counts a call while it is in flight.
struct InFlight<'a>(&'a AtomicUsize);

impl<'a> InFlight<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl TunnelCarrier {
    /// Opens it, when the agent is there and offers the server.
    pub(crate) fn open(
        spec: &TunnelSpec,
        inbound: mpsc::Sender<Inbound>,
    ) -> Result<Self, ConnectError> {
        let agent = spec.agent.clone();
        // Before the look, so that no change is missed.
        let (changes, online) = (agent.catalogue_changes(), agent.online_changes());
        if !agent.is_online() {
            return Err(ConnectError::AgentOffline {
                agent: agent.id().to_string(),
            });
        }
        let catalogue = agent.catalogue();
        let Some(found) = catalogue.server(&spec.server) else {
            return Err(ConnectError::Unreachable {
                detail: format!("the agent offers no server `{}`", spec.server),
            });
        };
        let (tell, told) = watch::channel(Arc::clone(&found.told));
        let (end, ended) = watch::channel(None);
        let stop = CancellationToken::new();
        let in_flight = Arc::<AtomicUsize>::default();
        let watcher = Watcher {
            agent: agent.clone(),
            server: spec.server.clone(),
            inbound,
            tell,
            in_flight: Arc::clone(&in_flight),
        };
        let tasks = TaskTracker::new();
        let stopped = stop.clone();
        tasks.spawn(async move {
            let reason = tokio::select! {
                reason = watcher.watch(changes, online) => reason,
                () = stopped.cancelled() => CloseReason::Asked,
            };
            end.send_replace(Some(reason));
        });
        tasks.close();
        Ok(Self {
            agent,
            server: spec.server.clone(),
            isolation_key: spec.isolation_key.clone(),
            told,
            ended,
            in_flight,
            stop,
            tasks,
        })
    }

    /// What the agent's own handshake with the server told.
    pub(crate) fn peer(&self) -> PeerInfo {
        let told = self.told.borrow();
        let arc = |raw: &Option<Box<RawValue>>| raw.clone().map(Arc::from);
        PeerInfo {
            era: told.era,
            protocol_version: told.protocol_version.clone().unwrap_or_else(|| {
                let version = match told.era {
                    Era::Modern => "2026-07-28",
                    Era::Legacy => "2025-11-25",
                };
                version.to_owned()
            }),
            server_info: arc(&told.server_info),
            capabilities: arc(&told.capabilities).unwrap_or_else(|| Arc::from(offered(&told))),
            instructions: told.instructions.clone(),
            mcp_session_id: None,
            transport: "tunnel",
        }
    }

    /// Answers a request: from what was told, or through the tunnel.
    pub(crate) async fn exchange(&self, request: &Request) -> Result<Box<RawValue>, RequestError> {
        if self.ended.borrow().is_some() {
            return Err(RequestError::Closed {
                executed: Executed::No,
            });
        }
        if let Some(answer) = self.told_of(&request.method) {
            return Ok(answer);
        }
        if InvokeMethod::of(&request.method).is_none() {
            return Err(RequestError::Rpc {
                code: -32601,
                message: "the method does not cross a tunnel".to_owned(),
                data: None,
            });
        }
        let _counted = InFlight::new(&self.in_flight);
        let call = self.agent.invoke(self.invocation(request)?);
        tokio::select! {
            outcome = call => outcome,
            _ = self.closed() => Err(RequestError::Closed { executed: Executed::Unknown }),
        }
    }

    fn invocation(&self, request: &Request) -> Result<Invocation, RequestError> {
        let (req_id, acknowledge) = match &request.call_id {
            Some(id) => (ReqId::new(Arc::clone(id)), false),
            None => (
                ReqId::new(format!("call_{:032x}", rand::random::<u128>())),
                true,
            ),
        };
        let req_id = req_id.map_err(|invalid| RequestError::Unreachable {
            detail: invalid.to_string(),
        })?;
        Ok(Invocation {
            req_id,
            server: self.server.clone(),
            method: request.method.clone(),
            params: wire::encode_params(request),
            timeout: request.timeout,
            isolation_key: self.isolation_key.clone(),
            progress: request.progress.clone(),
            acknowledge,
        })
    }

    /// The answers that cross nothing.
    fn told_of(&self, method: &str) -> Option<Box<RawValue>> {
        let told = self.told.borrow();
        let (name, list) = match method {
            "tools/list" => ("tools", &told.tools),
            "resources/list" => ("resources", &told.resources),
            "resources/templates/list" => ("resourceTemplates", &told.templates),
            "prompts/list" => ("prompts", &told.prompts),
            // While the connection has not ended, its agent is there or is waited for.
            "ping" | "server/discover" => return raw("{}".to_owned()),
            _ => return None,
        };
        let length: usize = list.iter().map(|entry| entry.get().len() + 1).sum();
        let mut text = String::with_capacity(length + 32);
        text.push_str("{\"");
        text.push_str(name);
        text.push_str("\":[");
        for (index, entry) in list.iter().enumerate() {
            if index > 0 {
                text.push(',');
            }
            text.push_str(entry.get());
        }
        text.push_str("]}");
        raw(text)
    }

    /// Resolves when the connection has ended.
    pub(crate) async fn closed(&self) -> CloseReason {
        let mut ended = self.ended.clone();
        let reason = ended.wait_for(Option::is_some).await;
        let reason = reason.ok().and_then(|reason| reason.clone());
        reason.unwrap_or(CloseReason::Asked)
    }

    /// Ends it; calls in flight are cancelled.
    pub(crate) async fn close(&self) {
        self.stop.cancel();
        self.tasks.wait().await;
    }

    pub(crate) fn count_dropped(&self) {
        self.agent.count_lost_note();
    }

    /// Notifications lost and frames refused, of the whole agent.
    pub(crate) fn counters(&self) -> (u64, u64) {
        (self.agent.notes_lost(), self.agent.facts().bad_frames)
    }
}

impl Drop for TunnelCarrier {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

fn raw(text: String) -> Option<Box<RawValue>> {
    RawValue::from_string(text).ok()
}

/// Capabilities of a server of which the agent told none: whatever it has lists of.
fn offered(told: &ServerTools) -> Box<RawValue> {
    let mut members = Vec::new();
    for (name, any) in [
        ("tools", !told.tools.is_empty()),
        (
            "resources",
            !told.resources.is_empty() || !told.templates.is_empty(),
        ),
        ("prompts", !told.prompts.is_empty()),
    ] {
        if any {
            members.push(format!("\"{name}\":{{\"listChanged\":true}}"));
        }
    }
    raw(format!("{{{}}}", members.join(","))).unwrap_or_else(|| RawValue::NULL.to_owned())
}

/// Looks at what the agent tells, for as long as the connection lasts.
struct Watcher {
    agent: Agent,
    server: String,
    inbound: mpsc::Sender<Inbound>,
    tell: watch::Sender<Arc<ServerTools>>,
    in_flight: Arc<AtomicUsize>,
}

impl Watcher {
    /// Until the server is gone, is another one, or its agent is away for too long.
    async fn watch(
        self,
        mut changes: watch::Receiver<u64>,
        mut online: watch::Receiver<bool>,
    ) -> CloseReason {
        let mut away_until: Option<Instant> = None;
        loop {
            match (*online.borrow_and_update(), away_until) {
                (true, _) => away_until = None,
                (false, None) => away_until = Some(Instant::now() + AWAY_FOR),
                (false, Some(_)) => {}
            }
            let too_long = async {
                match away_until {
                    Some(until) => sleep_until(until).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                news = changes.changed() => match (news, self.look()) {
                    (Ok(()), None) => {}
                    (Ok(()), Some(why)) => return CloseReason::Lost(why.to_owned()),
                    (Err(_), _) => return CloseReason::Asked,
                },
                turn = online.changed() => if turn.is_err() {
                    return CloseReason::Asked;
                },
                () = too_long => {
                    if self.in_flight.load(Ordering::Relaxed) == 0 {
                        return CloseReason::Lost("the agent is offline".to_owned());
                    }
                    away_until = Some(Instant::now() + LOOK_AGAIN);
                }
            }
        }
    }

    /// Takes in what the agent offers now; why the connection ends, if it does.
    fn look(&self) -> Option<&'static str> {
        let catalogue = self.agent.catalogue();
        let Some(found) = catalogue.server(&self.server) else {
            return Some("the agent no longer offers the server");
        };
        let (old, new) = (Arc::clone(&self.tell.borrow()), Arc::clone(&found.told));
        if old.era != new.era || old.protocol_version != new.protocol_version {
            return Some("the server was replaced by one of another revision");
        }
        self.tell.send_replace(Arc::clone(&new));
        let lists = [
            ("tools", !same(&old.tools, &new.tools)),
            (
                "resources",
                !same(&old.resources, &new.resources) || !same(&old.templates, &new.templates),
            ),
            ("prompts", !same(&old.prompts, &new.prompts)),
        ];
        for (name, _) in lists.iter().filter(|(_, changed)| *changed) {
            let news = Inbound::Notification(Notification {
                method: format!("notifications/{name}/list_changed"),
                params: None,
            });
            if self.inbound.try_send(news).is_err() {
                self.agent.count_lost_note();
            }
        }
        None
    }
}

fn same(one: &[Box<RawValue>], other: &[Box<RawValue>]) -> bool {
    one.len() == other.len() && one.iter().zip(other).all(|(a, b)| a.get() == b.get())
}
