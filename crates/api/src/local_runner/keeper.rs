//! The daemon's side of the local agent: finds it or starts it, serves its line, tells it what to run, and
//! replaces it after an upgrade when nothing runs on it.

use std::sync::Arc;
use std::time::Duration;

use broker::agents::{LocalRunner, LocalServer};
use nix::unistd::Pid;
use serde_json::value::RawValue;
use tokio::process::Child;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use transports::tunnel::LocalSocket;
use transports::tunnel::agent::{AgentServer, configure};
use transports::tunnel::bridge::{ServeEnd, serve};
use transports::tunnel::frame::Configure;
use transports::tunnel::limits::close;

use super::process::{Process, Reached, ask_to_end};

/// How long a started agent may take until its socket is there, and how often is looked.
const START_WITHIN: Duration = Duration::from_secs(10);
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// The first pause after an agent that could not be had, and the longest; it doubles.
const PAUSES: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(30));
/// An older agent that always has calls is replaced after so long all the same.
const REPLACE_WITHIN: Duration = Duration::from_mins(10);
/// How often is looked whether an older agent has finished its calls.
const IDLE_EVERY: Duration = Duration::from_millis(200);

/// The task that keeps the local agent.
pub(crate) struct Keeper {
    runner: LocalRunner,
    wanted: watch::Receiver<Arc<Vec<LocalServer>>>,
    process: Process,
    closing: CancellationToken,
    /// The one this daemon started; kept so that its end is waited for.
    child: Option<Child>,
    generation: u64,
}

impl Keeper {
    /// A keeper of the runner's agent, in the daemon's state directory.
    pub(crate) fn new(
        runner: LocalRunner,
        (state, orphan): (&std::path::Path, Duration),
        closing: CancellationToken,
    ) -> Self {
        let id = runner.agent().id().clone();
        Self {
            wanted: runner.wanted(),
            process: Process::new(state, id, orphan),
            runner,
            closing,
            child: None,
            generation: 0,
        }
    }

    /// Keeps it until the daemon closes. The agent stays then: it is what outlives the daemon.
    pub(crate) async fn run(mut self) {
        let closing = self.closing.clone();
        closing.run_until_cancelled(self.keep()).await;
        let agent = self.runner.agent();
        agent.disconnect(close::GOING_AWAY, "the bridge is going");
    }

    async fn keep(&mut self) {
        let mut pause = PAUSES.0;
        loop {
            self.configure();
            // One that an earlier daemon left is taken up even when nothing is wanted of it any more: it may hold
            // results.
            let reached = match self.process.reach().await {
                Ok(reached) => Some(reached),
                Err(_) if self.wanted.borrow().is_empty() => {
                    self.until_wanted().await;
                    continue;
                }
                Err(_) => self.started().await,
            };
            let Some(reached) = reached else {
                tracing::error!(again_in = ?pause, "the local agent cannot be had");
                sleep(pause).await;
                pause = (pause * 2).min(PAUSES.1);
                continue;
            };
            pause = PAUSES.0;
            let end = self.serve(reached).await;
            tracing::warn!(?end, "the local agent's line ended");
            sleep(LOOK_EVERY).await;
        }
    }

    async fn until_wanted(&mut self) {
        // The sender lives as long as the broker, and this task no longer than that.
        let wanted = self.wanted.wait_for(|wanted| !wanted.is_empty());
        let ended = wanted.await.is_err();
        if ended {
            std::future::pending::<()>().await;
        }
    }

    /// Starts one and waits for its socket.
    async fn started(&mut self) -> Option<Reached> {
        match self.process.spawn() {
            Ok(child) => self.child = Some(child),
            Err(error) => {
                tracing::error!(%error, "the local agent cannot be started");
                return None;
            }
        }
        let waiting = async {
            loop {
                if let Ok(reached) = self.process.reach().await {
                    return reached;
                }
                sleep(LOOK_EVERY).await;
            }
        };
        timeout(START_WITHIN, waiting).await.ok()
    }

    /// Serves its line until that ends; meanwhile tells it of changes.
    async fn serve(&mut self, reached: Reached) -> ServeEnd {
        let runner = self.runner.clone();
        let serving = serve(LocalSocket::new(reached.stream), &runner);
        tokio::pin!(serving);
        let mut old = reached.pid.filter(|_| !reached.is_current);
        let replacing = replaced(old, runner.clone());
        tokio::pin!(replacing);
        loop {
            tokio::select! {
                end = &mut serving => return end,
                // It finishes what may have come meanwhile, says goodbye and goes; then one of ours is started.
                () = &mut replacing, if old.is_some() => old = None,
                changed = self.wanted.changed() => match changed {
                    Ok(()) => self.configure(),
                    Err(_) => return serving.await,
                },
            }
        }
    }

    /// Tells the agent, now and on each new line, what is wanted.
    fn configure(&mut self) {
        let wanted = self.wanted.borrow_and_update().clone();
        let servers: Vec<AgentServer> = wanted.iter().map(as_agents).collect();
        self.generation += 1;
        let servers: Box<RawValue> = configure::encode(&servers);
        self.runner.agent().configure(Configure {
            generation: self.generation,
            servers,
        });
    }
}

fn as_agents(server: &LocalServer) -> AgentServer {
    AgentServer {
        name: server.name.clone(),
        spec: (*server.spec).clone(),
        allow_tools: Vec::new(),
        deny_tools: Vec::new(),
    }
}

/// Asks an agent of another program to end once nothing runs on it.
async fn replaced(old: Option<Pid>, runner: LocalRunner) {
    let Some(pid) = old else { return };
    tracing::info!(%pid, "the local agent is of another version; it is replaced when its calls are done");
    let started = Instant::now();
    // Until HELLO was heard it is not known what runs.
    while started.elapsed() < REPLACE_WITHIN {
        sleep(IDLE_EVERY).await;
        let facts = runner.agent().facts();
        if facts.online && facts.in_flight == 0 {
            break;
        }
    }
    ask_to_end(pid);
}
