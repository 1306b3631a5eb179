//! An agent that runs: one task owns the line, and does what the machine wants done.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, Sleep, sleep_until};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::acts::{Report, close};
use super::config::AgentConfig;
use super::dial::Dialer;
use super::line::{Happened, Open, Way, now, step, unix_s};
use super::machine::{AgentMachine, Input, Output, Settings, SpoolState, Spooled as Kept};
use super::servers::{Event, Servers};
use super::spool::{Recovered, Spool, SpoolError, SpoolLimits};
use super::status::{AgentStatus, LineState};
use crate::tunnel::frame::AgentMeta;
use crate::tunnel::id::ReqId;
use crate::tunnel::limits;
use crate::tunnel::socket::FrameSocket;

/// Things that happened to calls taken at once, before frames are written again.
const EVENT_BATCH: usize = 64;
/// How long an agent that is to end lets calls run on.
const STOP_GRACE: Duration = Duration::from_secs(10);
/// How long it then waits for the ends of those it stopped to be said.
const LAST_WORDS: Duration = Duration::from_secs(2);
/// How long after its start an agent says nothing of its servers while one of them is not known yet.
const HOLD_TOOLS: Duration = Duration::from_secs(5);
/// How long the task sleeps when nothing is due.
const NOTHING_TO_DO: Duration = Duration::from_hours(1);
/// Where the kernel tells the machine's name.
const HOSTNAME: &str = "/proc/sys/kernel/hostname";

/// An agent cannot run.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// What it must not forget has no place.
    #[error(transparent)]
    Spool(#[from] SpoolError),
}

/// Runs an agent until `stop`; then it finishes what runs, for a while, and ends its servers. `status` is told
/// how it is whenever that changes.
///
/// # Errors
/// [`AgentError`] when it cannot begin. A line or a server that fails is no error: it is tried again.
pub async fn run<D: Dialer>(
    config: AgentConfig,
    dialer: D,
    status: watch::Sender<AgentStatus>,
    stop: CancellationToken,
) -> Result<(), AgentError> {
    let (spool, recovered) = Spool::open(&config.spool_dir, SpoolLimits::default())?;
    let mut runner = Runner::new(config, dialer, (spool, status));
    runner.begin(recovered);
    runner.until(&stop).await;
    runner.end().await;
    Ok(())
}

/// The task of an agent.
pub(super) struct Runner<D: Dialer> {
    pub(super) machine: AgentMachine,
    pub(super) dialer: Arc<D>,
    pub(super) way: Way<D::Socket>,
    pub(super) servers: Servers,
    events: mpsc::Receiver<Event>,
    pub(super) spool: Spool,
    pub(super) outputs: Vec<Output>,
    born: Instant,
    /// Of the last TOOLS.
    pub(super) generation: u64,
    /// Until then TOOLS waits for servers that are just being started.
    pub(super) hold_until: Option<Instant>,
    /// How often what is offered had changed then.
    pub(super) offers: u64,
    pub(super) tasks: TaskTracker,
    pub(super) report: Report,
    /// When records that may not be on the disk yet are to go there.
    pub(super) sync_at: Option<Instant>,
    /// A call whose start could not be written down.
    pub(super) unnoted: Option<ReqId>,
    /// The disk did not take the last result it was given.
    pub(super) refuses: bool,
    pub(super) done: bool,
}

impl<D: Dialer> Runner<D> {
    fn new(
        config: AgentConfig,
        dialer: D,
        (spool, status): (Spool, watch::Sender<AgentStatus>),
    ) -> Self {
        let meta = meta(config.label, spool.id());
        let settings = Settings {
            chunk_buffer_bytes: config.chunk_buffer_bytes,
            chunk_frame_bytes: config.chunk_frame_bytes,
            reconnect_initial: config.reconnect_initial,
            reconnect_max: config.reconnect_max,
            ..Settings::new(config.id, meta)
        };
        let (servers, events) = Servers::start(config.servers);
        Self {
            machine: AgentMachine::new(settings),
            dialer: Arc::new(dialer),
            way: Way::None,
            servers,
            events,
            spool,
            outputs: Vec::new(),
            born: Instant::now(),
            generation: 0,
            hold_until: Some(Instant::now() + HOLD_TOOLS),
            offers: 0,
            tasks: TaskTracker::new(),
            report: Report::new(status),
            sync_at: None,
            unnoted: None,
            refuses: false,
            done: false,
        }
    }

    /// Tells the machine what an earlier process left.
    fn begin(&mut self, recovered: Recovered) {
        if recovered.damaged_bytes > 0 {
            let bytes = recovered.damaged_bytes;
            tracing::error!(bytes, "a part of the spool was damaged and is lost");
        }
        let now = unix_s();
        let kept = recovered.calls.into_iter().map(|call| Kept {
            req_id: call.req_id,
            state: match call.result_bytes {
                Some(bytes) => SpoolState::Finished {
                    bytes,
                    age: Duration::from_secs(now.saturating_sub(call.at)),
                },
                None => SpoolState::Started,
            },
        });
        let kept: Vec<_> = kept.collect();
        if !kept.is_empty() {
            let calls = kept.len();
            tracing::info!(calls, "calls of an earlier process will be answered");
        }
        self.take(Input::Start(kept));
    }

    /// Everything there is to do, until it is to end.
    async fn until(&mut self, stop: &CancellationToken) {
        let mut changes = self.servers.changes();
        changes.mark_changed();
        let mut timer = Box::pin(sleep_until(Instant::now()));
        let mut give_up: Option<Instant> = None;
        loop {
            self.act();
            self.tell();
            if self.done {
                return;
            }
            self.set(&mut timer);
            let end = give_up.unwrap_or_else(Instant::now);
            tokio::select! {
                () = stop.cancelled(), if give_up.is_none() => {
                    give_up = Some(Instant::now() + STOP_GRACE);
                    self.report.line(LineState::Stopping, None);
                    self.take(Input::Stop);
                }
                () = sleep_until(end), if give_up.is_some() => return,
                Some(event) = self.events.recv() => self.happened(event),
                Ok(()) = changes.changed() => self.offer(),
                () = &mut timer => self.tick(),
                happened = step(&mut self.way, &mut self.machine, (self.born, &mut self.outputs)) => {
                    self.on_way(happened);
                }
            }
        }
    }

    /// Ends the servers, says the ends of the calls that were still on them, and brings all to the disk.
    async fn end(&mut self) {
        let servers = self.servers.clone();
        let mut closing = Box::pin(async move { servers.close().await });
        let mut last: Option<Instant> = None;
        loop {
            self.act();
            let over = last.is_some_and(|end| self.done || Instant::now() >= end);
            if over {
                break;
            }
            let end = last.unwrap_or_else(Instant::now);
            tokio::select! {
                () = &mut closing, if last.is_none() => last = Some(Instant::now() + LAST_WORDS),
                Some(event) = self.events.recv() => self.happened(event),
                () = sleep_until(end), if last.is_some() => {}
                happened = step(&mut self.way, &mut self.machine, (self.born, &mut self.outputs)) => {
                    self.on_way(happened);
                }
            }
        }
        if let Way::Open(open) = std::mem::replace(&mut self.way, Way::None) {
            close(open.socket, limits::close::GOING_AWAY, "the agent stops").await;
        }
        self.sync();
        self.tasks.close();
        self.tasks.wait().await;
        self.report
            .line(LineState::Offline, Some("the agent was ended".to_owned()));
        self.report.tell();
    }

    /// Tells the machine what happened.
    pub(super) fn take(&mut self, input: Input) {
        let mut outputs = self.machine.handle(now(self.born), input);
        self.outputs.append(&mut outputs);
    }

    /// Something happened to a call, and perhaps to more of them.
    fn happened(&mut self, first: Event) {
        let mut next = Some(first);
        let mut taken = 0;
        while let Some(event) = next {
            match event {
                Event::Chunk {
                    req_id,
                    channel,
                    data,
                } => self.take(Input::Chunk {
                    req_id,
                    channel,
                    data,
                }),
                Event::Lost { req_id, lines } => self.take(Input::Lost { req_id, lines }),
                Event::Ended { req_id, result } => self.take(Input::Ended { req_id, result }),
            }
            taken += 1;
            next = (taken < EVENT_BATCH)
                .then(|| self.events.try_recv().ok())
                .flatten();
        }
    }

    /// Something happened on the way to the bridge.
    fn on_way(&mut self, happened: Happened<D::Socket>) {
        match happened {
            Happened::Acts => {}
            Happened::Dialed(Ok((socket, token))) => {
                let local = socket.is_local();
                self.way = Way::Open(Box::new(Open::new(socket)));
                self.take(Input::Connected { token, local });
            }
            Happened::Dialed(Err(error)) => self.lost(error.to_string()),
            Happened::Lost(why) => self.lost(why),
        }
    }

    /// The line is gone, or could not be had.
    pub(super) fn lost(&mut self, why: String) {
        let way = std::mem::replace(&mut self.way, Way::None);
        let code = match &way {
            Way::Open(open) => open.socket.close_code(),
            Way::None | Way::Dialing(_) => None,
        };
        drop(way);
        tracing::warn!(why, "no line to the bridge; it is dialled again");
        self.report.line(LineState::Offline, Some(why));
        let draw = rand::random();
        self.take(Input::Disconnected { code, draw });
    }

    /// Sets the timer to when there is something to do next.
    fn set(&self, timer: &mut std::pin::Pin<Box<Sleep>>) {
        let machine = self.machine.next_deadline().map(|after| self.born + after);
        let next = [machine, self.report.due(), self.sync_at, self.hold_until];
        let next = next.into_iter().flatten().min();
        // A timer that went off goes off again at once, unless it is set.
        let next = next.unwrap_or_else(|| Instant::now() + NOTHING_TO_DO);
        if next != timer.deadline() {
            timer.as_mut().reset(next);
        }
    }

    fn tick(&mut self) {
        self.take(Input::Tick);
        if self.sync_at.is_some_and(|at| at <= Instant::now()) {
            self.sync();
        }
        if self.hold_until.is_some_and(|at| at <= Instant::now()) {
            self.hold_until = None;
            self.offer();
        }
    }
}

fn meta(label: Option<String>, spool_id: &str) -> AgentMeta {
    let hostname = std::fs::read_to_string(HOSTNAME).unwrap_or_default();
    AgentMeta {
        hostname: hostname.trim().to_owned(),
        os: std::env::consts::OS.to_owned(),
        arch: std::env::consts::ARCH.to_owned(),
        pid: std::process::id(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        label,
        spool_id: Some(spool_id.to_owned()),
    }
}
