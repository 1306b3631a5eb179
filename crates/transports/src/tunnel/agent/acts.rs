//! What the machine wants done, done: the disk, the servers, the line, and what is told of it.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, timeout};

use super::configure;
use super::dial::Dialer;
use super::line::{Way, unix_s};
use super::machine::{Input, Note, Output};
use super::run::Runner;
use super::status::{AgentStatus, LineState};
use crate::tunnel::frame::{CallResult, Configure, FailureCode, Invoke, Tools};
use crate::tunnel::id::ReqId;
use crate::tunnel::socket::FrameSocket;

/// How long a close may take to be said.
const CLOSE_WITHIN: Duration = Duration::from_secs(2);
/// Counts are told no more often than this.
const STATUS_EVERY: Duration = Duration::from_secs(1);
/// Records of the spool are brought to the disk this long after the first of them.
const SYNC_AFTER: Duration = Duration::from_secs(1);

impl<D: Dialer> Runner<D> {
    /// Does all that the machine wants done, and what comes of that.
    pub(super) fn act(&mut self) {
        while !self.outputs.is_empty() {
            for output in std::mem::take(&mut self.outputs) {
                self.one(output);
            }
        }
    }

    fn one(&mut self, output: Output) {
        match output {
            Output::Dial { after } => self.dial(after),
            Output::Close { code, reason } => {
                // Another one may be on its way by now, or none.
                if matches!(self.way, Way::Open(_))
                    && let Way::Open(open) = std::mem::replace(&mut self.way, Way::None)
                {
                    self.tasks.spawn(close(open.socket, code, reason));
                    self.lost(format!("the line was closed: {reason}"));
                }
            }
            Output::SpoolStarted(req_id) => self.note_start(&req_id),
            Output::StartCall { req_id, invoke } => self.start(req_id, *invoke),
            Output::CancelCall { req_id, reason } => {
                tracing::debug!(%req_id, reason, "a call is stopped");
                self.servers.cancel(&req_id);
            }
            Output::SpoolPut { req_id, payload } => self.put(req_id, payload),
            Output::SpoolRead(req_id) => {
                let payload = self.spool.read(&req_id);
                self.take(Input::SpoolRead { req_id, payload });
            }
            Output::SpoolDelete(req_id) => {
                if let Err(error) = self.spool.remove(&req_id, unix_s()) {
                    tracing::error!(%error, "the spool cannot be written");
                }
                self.wrote();
            }
            Output::Configure(configure) => self.configure(&configure),
            Output::Note(note) => self.noted(note),
            Output::Done => self.done = true,
        }
    }

    fn dial(&mut self, after: Duration) {
        let dialer = Arc::clone(&self.dialer);
        self.way = Way::Dialing(Box::pin(async move {
            tokio::time::sleep(after).await;
            let token = dialer.token()?;
            Ok((dialer.dial().await?, token))
        }));
    }

    /// A call that cannot be noted is not started: it could be run again after a restart.
    fn note_start(&mut self, req_id: &ReqId) {
        if let Err(error) = self.spool.started(req_id, unix_s()) {
            tracing::error!(%error, "a call cannot be noted and is not started");
            self.unnoted = Some(req_id.clone());
        }
        self.wrote();
    }

    fn start(&mut self, req_id: ReqId, invoke: Invoke) {
        if self.unnoted.take().as_ref() == Some(&req_id) {
            let words = "the agent cannot write to its disk";
            let result = CallResult::failed(FailureCode::Rejected, words);
            return self.take(Input::Ended { req_id, result });
        }
        self.servers.call(req_id, invoke);
    }

    fn put(&mut self, req_id: ReqId, payload: Arc<str>) {
        match self.spool.put(&req_id, &payload, unix_s()) {
            Ok(dropped) => {
                for req_id in dropped {
                    tracing::warn!(%req_id, "the spool is full: a result was given up");
                    self.report.dropped();
                }
                if std::mem::take(&mut self.refuses) {
                    tracing::info!("the disk takes results again");
                    self.take(Input::SpoolWorks);
                }
            }
            Err(error) => {
                // Told once, not with each result and try.
                if !std::mem::replace(&mut self.refuses, true) {
                    tracing::error!(%error, "the disk takes no result; they are kept in memory until it does");
                }
                self.take(Input::SpoolRefused { req_id, payload });
            }
        }
        self.wrote();
    }

    fn wrote(&mut self) {
        self.sync_at
            .get_or_insert_with(|| Instant::now() + SYNC_AFTER);
    }

    /// Brings what was written to the disk, beside everything else.
    pub(super) fn sync(&mut self) {
        self.sync_at = None;
        let log = self.spool.syncing();
        self.tasks.spawn_blocking(move || {
            if let Err(error) = log.sync_data() {
                tracing::error!(%error, "the spool cannot be brought to the disk");
            }
        });
    }

    fn configure(&mut self, configure: &Configure) {
        match configure::decode(&configure.servers) {
            Ok(servers) => {
                let count = servers.len();
                tracing::info!(count, "the bridge says which servers to run");
                self.servers.replace(servers);
            }
            Err(error) => tracing::error!(%error, "the bridge's servers are not run"),
        }
    }

    /// What is offered, or how a server is, has changed. After a start nothing is said until all is known: the bridge
    /// has the last list, and would take half of one for a change.
    pub(super) fn offer(&mut self) {
        self.report.servers(self.servers.status());
        if self.hold_until.is_some() && !self.servers.are_settled() {
            return;
        }
        self.hold_until = None;
        let offers = self.servers.offers();
        if offers == std::mem::replace(&mut self.offers, offers) {
            return;
        }
        // Later than every generation of an earlier process of this agent.
        let now = unix_s().saturating_mul(1000);
        self.generation = now.max(self.generation + 1);
        let tools = Tools {
            generation: self.generation,
            servers: self.servers.offered(),
        };
        self.take(Input::Tools(tools));
    }

    fn noted(&mut self, note: Note) {
        match note {
            Note::Online { epoch } => {
                tracing::info!(epoch, "online");
                self.report.online(epoch);
            }
            Note::Offline => {}
            Note::Goodbye(reason) => tracing::info!(reason, "the bridge says goodbye"),
            Note::BadFrame => tracing::warn!("a frame of the bridge was refused"),
            Note::Dropped { req_id, bytes } => {
                tracing::warn!(%req_id, bytes, "a result was given up: there was no room for it, or it is too old");
                self.report.dropped();
            }
        }
    }

    /// Tells how it is, if that is another than before and not just now told.
    pub(super) fn tell(&mut self) {
        let counts = self.machine.counts();
        let bytes = self.spool.result_bytes();
        self.report.counts((counts.running, counts.results), bytes);
        self.report.tell_when_due();
    }
}

/// Says why and closes a line; who does not read it in time is cut off.
pub(super) async fn close<S: FrameSocket>(mut socket: S, code: u16, reason: &'static str) {
    let _ = timeout(CLOSE_WITHIN, socket.close(code, reason)).await;
}

/// What is told of the agent, and when it was told last.
pub(super) struct Report {
    status: watch::Sender<AgentStatus>,
    now: AgentStatus,
    told_at: Option<Instant>,
    urgent: bool,
}

impl Report {
    pub(super) fn new(status: watch::Sender<AgentStatus>) -> Self {
        let now = AgentStatus {
            since: unix_s(),
            ..AgentStatus::default()
        };
        Self {
            status,
            now,
            told_at: None,
            urgent: true,
        }
    }

    /// How the line is.
    pub(super) fn line(&mut self, line: LineState, why: Option<String>) {
        // One that is to end stays so, whatever happens to its line.
        let ending = self.now.line == LineState::Stopping && line != LineState::Offline;
        if self.now.line != line && !ending {
            self.now.line = line;
            self.now.since = unix_s();
        }
        self.now.why = why;
        self.urgent = true;
    }

    fn online(&mut self, epoch: u64) {
        self.now.epoch = epoch;
        self.line(LineState::Online, None);
    }

    fn servers(&mut self, servers: Vec<super::status::ServerStatus>) {
        self.now.servers = servers;
        self.urgent = true;
    }

    fn dropped(&mut self) {
        self.now.dropped_results += 1;
    }

    fn counts(&mut self, (running, results): (usize, usize), bytes: u64) {
        self.now.in_flight = running;
        self.now.unacknowledged = results;
        self.now.spool_bytes = bytes;
    }

    /// When there is something to tell.
    pub(super) fn due(&self) -> Option<Instant> {
        let told_at = self.told_at?;
        (*self.status.borrow() != self.now).then(|| told_at + STATUS_EVERY)
    }

    fn tell_when_due(&mut self) {
        let waited = self
            .told_at
            .is_none_or(|told| told.elapsed() >= STATUS_EVERY);
        if self.urgent || (waited && *self.status.borrow() != self.now) {
            self.tell();
        }
    }

    /// Tells it now.
    pub(super) fn tell(&mut self) {
        self.urgent = false;
        self.told_at = Some(Instant::now());
        self.status.send_replace(self.now.clone());
    }
}
