//! The servers an agent runs: kept open, read, called. Knows no line to the bridge; what happens is told as
//! [`Event`]s, in order for each call, and what is offered is asked for with [`Servers::offered`].

mod backoff;
mod call;
mod catalogue;
mod failure;
mod filter;
mod keeper;
mod line;
mod one;

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::config::AgentServer;
use super::status::ServerStatus;
use crate::tunnel::frame::{CallResult, Channel, FailureCode, Invoke, ServerTools};
use crate::tunnel::id::ReqId;
use crate::tunnel::limits::IN_FLIGHT;
use one::Server;

/// Things that happened to calls, waiting for the line's task, which does little more than take them.
const EVENT_QUEUE: usize = 1024;

/// What happened to a call.
#[derive(Debug)]
pub(super) enum Event {
    /// It told something.
    Chunk {
        req_id: ReqId,
        channel: Channel,
        data: String,
    },
    /// So many notifications of its server were lost before anybody could read them.
    Lost { req_id: ReqId, lines: u64 },
    /// It ended.
    Ended { req_id: ReqId, result: CallResult },
}

/// All servers of one agent.
#[derive(Debug, Clone)]
pub(super) struct Servers {
    shared: Arc<Shared>,
    tasks: TaskTracker,
}

/// What the servers' tasks share.
#[derive(Debug)]
pub(super) struct Shared {
    servers: Mutex<BTreeMap<String, Arc<Server>>>,
    calls: Mutex<HashMap<ReqId, CancellationToken>>,
    pub(super) events: mpsc::Sender<Event>,
    changes: watch::Sender<u64>,
    /// Counts the changes of what is offered.
    offers: AtomicU64,
}

impl Shared {
    /// How a server is has changed, and perhaps what is offered.
    pub(super) fn changed(&self, offered: bool) {
        if offered {
            self.offers.fetch_add(1, Ordering::AcqRel);
        }
        self.changes.send_modify(|count| *count += 1);
    }

    fn calls(&self) -> MutexGuard<'_, HashMap<ReqId, CancellationToken>> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn servers(&self) -> MutexGuard<'_, BTreeMap<String, Arc<Server>>> {
        self.servers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Servers {
    /// Starts them all; returns at once. The receiver gets what happens to calls.
    pub(super) fn start(servers: Vec<AgentServer>) -> (Self, mpsc::Receiver<Event>) {
        let (events, happened) = mpsc::channel(EVENT_QUEUE);
        let shared = Shared {
            servers: Mutex::default(),
            calls: Mutex::default(),
            events,
            changes: watch::channel(0).0,
            offers: AtomicU64::new(1),
        };
        let all = Self {
            shared: Arc::new(shared),
            tasks: TaskTracker::new(),
        };
        all.replace(servers);
        (all, happened)
    }

    /// Counts up whenever [`Servers::offered`] or [`Servers::status`] may say something else.
    pub(super) fn changes(&self) -> watch::Receiver<u64> {
        self.shared.changes.subscribe()
    }

    /// Runs these servers from now on. One whose definition did not change keeps its connections; calls on one
    /// that went are finished first.
    pub(super) fn replace(&self, servers: Vec<AgentServer>) {
        let mut running = self.shared.servers();
        let mut old = std::mem::take(&mut *running);
        for wanted in servers {
            let name = wanted.name.clone();
            let server = match old.remove(&name) {
                Some(same) if same.is(&wanted) => same,
                changed => {
                    if let Some(changed) = changed {
                        changed.retire();
                    }
                    let server = Server::new(wanted, Arc::clone(&self.shared));
                    self.tasks.spawn(keeper::keep(Arc::clone(&server)));
                    server
                }
            };
            running.insert(name, server);
        }
        drop(running);
        for gone in old.into_values() {
            gone.retire();
        }
        self.shared.changed(true);
    }

    /// How often [`Servers::offered`] has changed; never 0.
    pub(super) fn offers(&self) -> u64 {
        self.shared.offers.load(Ordering::Acquire)
    }

    /// What all of them offer, in the order of their names. One that was never reached says why.
    pub(super) fn offered(&self) -> Vec<ServerTools> {
        self.shared
            .servers()
            .values()
            .map(|one| one.offered())
            .collect()
    }

    /// Whether there are any, and of each it is known what it offers or that it cannot be reached.
    pub(super) fn are_settled(&self) -> bool {
        let servers = self.shared.servers();
        !servers.is_empty() && servers.values().all(|one| one.is_settled())
    }

    /// How each of them is.
    pub(super) fn status(&self) -> Vec<ServerStatus> {
        self.shared
            .servers()
            .values()
            .map(|one| one.status())
            .collect()
    }

    /// Runs a call; its end comes as an [`Event`], whatever happens.
    pub(super) fn call(&self, req_id: ReqId, invoke: Invoke) {
        let cancelled = CancellationToken::new();
        let server = self.shared.servers().get(&invoke.server).cloned();
        let mut calls = self.shared.calls();
        let refused = if calls.len() >= IN_FLIGHT {
            let words = format!("{IN_FLIGHT} calls are running already");
            Some(CallResult::failed(FailureCode::Rejected, words))
        } else if server.is_none() {
            let words = "the agent has no such server";
            Some(CallResult::failed(FailureCode::ToolNotFound, words))
        } else {
            calls.insert(req_id.clone(), cancelled.clone());
            None
        };
        drop(calls);
        let shared = Arc::clone(&self.shared);
        self.tasks.spawn(async move {
            let result = match (server, refused) {
                (Some(server), None) => call::run(&server, &req_id, invoke, &cancelled).await,
                (_, refused) => refused.unwrap_or_else(|| {
                    CallResult::failed(FailureCode::ToolNotFound, "the agent has no such server")
                }),
            };
            shared.calls().remove(&req_id);
            // Without a receiver the agent is ending, and the mark in the spool tells the rest.
            let _ = shared.events.send(Event::Ended { req_id, result }).await;
        });
    }

    /// Stops a call; its end comes as any other. False when it does not run.
    pub(super) fn cancel(&self, req_id: &str) -> bool {
        let found = self.shared.calls().get(req_id).cloned();
        found.inspect(CancellationToken::cancel).is_some()
    }

    /// Ends every server with its whole process tree. Nothing is left when this returns.
    pub(super) async fn close(&self) {
        let servers = std::mem::take(&mut *self.shared.servers());
        for server in servers.into_values() {
            server.stop();
        }
        for cancelled in self.shared.calls().values() {
            cancelled.cancel();
        }
        self.tasks.close();
        self.tasks.wait().await;
    }
}

#[cfg(test)]
mod tests;
