//! One server: its definition, its connections by isolation key, what it offers.
//!
//! The connection that is kept for the catalogue also serves the first key that calls, so that an agent of one
//! person runs one process for each server. Further keys get their own, which go when they are idle.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, OnceCell, mpsc, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::super::config::AgentServer;
use super::super::status::{ServerState, ServerStatus};
use super::Shared;
use super::filter::Filter;
use super::keeper;
use super::line::{INBOUND_QUEUE, Line, OnLine};
use crate::connection::{ConnectOptions, Inbound};
use crate::error::ConnectError;
use crate::spec::{Era, ServerSpec};
use crate::tunnel::frame::{Lists, ServerTools};
use crate::tunnel::id::ReqId;
use crate::tunnel::limits::RESULT_BYTES;

/// Connections of one server besides the kept one.
const MAX_SLOTS: usize = 64;
/// How often a call looks for a connection that was closed under it before it could enter.
const MAX_ENTRIES: usize = 3;
/// Of [`RESULT_BYTES`] for what stands around a result in its frame.
const AROUND_RESULT_BYTES: usize = 64 * 1024;
/// What is said of a server of which nothing is known yet.
const NOT_YET: &str = "it was not reached yet";
/// A key that begins so is one call's alone, and so is its connection.
const ONE_CALL: &str = "call:";
/// A key's own connection that no call used for so long is closed.
pub(super) const SLOT_IDLE: Duration = Duration::from_mins(5);

/// How the kept connection is.
#[derive(Debug, Clone)]
pub(super) enum Base {
    /// It is being opened.
    Opening,
    /// It stands; the number tells one from its successor.
    Ready(u64, Arc<Line>),
    /// It could not be opened, and will be tried again.
    Down { failures: u64, why: String },
    /// It will not be opened again.
    Retired,
}

/// One server.
#[derive(Debug)]
pub(super) struct Server {
    definition: AgentServer,
    pub(super) filter: Filter,
    pub(super) shared: Arc<Shared>,
    pub(super) base: watch::Sender<Base>,
    /// A call wants the server now.
    pub(super) wake: Notify,
    /// Ends everything at once.
    pub(super) stop: CancellationToken,
    /// Ends it when no call is on it any more.
    pub(super) retired: CancellationToken,
    pub(super) tasks: TaskTracker,
    slots: Mutex<HashMap<String, Arc<OnceCell<Arc<Line>>>>>,
    /// Which key uses which kept connection.
    adopted: Mutex<Option<(u64, String)>>,
    facts: Mutex<Facts>,
}

#[derive(Debug)]
struct Facts {
    offered: ServerTools,
    status: ServerStatus,
    era: Option<Era>,
}

impl Server {
    pub(super) fn new(mut definition: AgentServer, shared: Arc<Shared>) -> Arc<Self> {
        let limits = &mut definition.spec.limits;
        limits.frame_bytes = limits.frame_bytes.min(RESULT_BYTES - AROUND_RESULT_BYTES);
        let name = definition.name.clone();
        let status = ServerStatus {
            name: name.clone(),
            state: ServerState::Starting,
            tools: 0,
            restarts: 0,
            problem: None,
            pid: None,
        };
        Arc::new(Self {
            filter: Filter::new(&definition.allow_tools, &definition.deny_tools),
            definition,
            shared,
            base: watch::channel(Base::Opening).0,
            wake: Notify::new(),
            stop: CancellationToken::new(),
            retired: CancellationToken::new(),
            tasks: TaskTracker::new(),
            slots: Mutex::default(),
            adopted: Mutex::default(),
            facts: Mutex::new(Facts {
                offered: nothing(name),
                status,
                era: None,
            }),
        })
    }

    pub(super) fn name(&self) -> &str {
        &self.definition.name
    }

    pub(super) fn spec(&self) -> &ServerSpec {
        &self.definition.spec
    }

    /// Whether this is what a definition wants.
    pub(super) fn is(&self, wanted: &AgentServer) -> bool {
        self.definition.same(wanted) && !self.retired.is_cancelled()
    }

    /// Takes no new call, and ends when the last one has.
    pub(super) fn retire(&self) {
        self.retired.cancel();
    }

    /// Ends now.
    pub(super) fn stop(&self) {
        self.retired.cancel();
        self.stop.cancel();
    }

    pub(super) fn offered(&self) -> ServerTools {
        self.facts().offered.clone()
    }

    /// Whether it was read, or is known not to be there.
    pub(super) fn is_settled(&self) -> bool {
        self.facts().offered.problem.as_deref() != Some(NOT_YET)
    }

    pub(super) fn status(&self) -> ServerStatus {
        self.facts().status.clone()
    }

    /// Changes what is known; tells it when it is something else than before.
    pub(super) fn note(&self, change: impl FnOnce(&mut ServerTools, &mut ServerStatus)) {
        let (offers, told) = {
            let mut facts = self.facts();
            let before = (facts.offered.clone(), facts.status.clone());
            let Facts {
                offered, status, ..
            } = &mut *facts;
            change(offered, status);
            status.tools = offered.tools.len();
            let offers = !super::catalogue::same(&before.0, offered);
            (offers, offers || before.1 != *status)
        };
        if told {
            self.shared.changed(offers);
        }
    }

    /// A connection for a call of this key, with the call on it.
    ///
    /// # Errors
    /// Why there is none, in words; nothing was sent then.
    pub(super) async fn enter(
        self: &Arc<Self>,
        key: &str,
        (req_id, streams): (&ReqId, bool),
    ) -> Result<OnLine, String> {
        for _ in 0..MAX_ENTRIES {
            if self.retired.is_cancelled() {
                return Err("the server is no longer offered".to_owned());
            }
            if self.may_use_base(key) {
                let (number, line) = self.ready().await?;
                if self.adopt(number, key) {
                    return Ok(line.enter(req_id, streams));
                }
                continue;
            }
            let cell = self.slot(key)?;
            let line = cell.get_or_try_init(|| self.open_slot(key)).await?;
            // Under the lock an idle connection cannot go between finding and entering it.
            let slots = self.slots();
            if slots
                .get(key)
                .is_some_and(|known| Arc::ptr_eq(known, &cell))
            {
                return Ok(line.enter(req_id, streams));
            }
        }
        Err("the server's connections close as fast as they open".to_owned())
    }

    /// Opens a connection; what it says on its own goes to the receiver.
    ///
    /// # Errors
    /// As [`crate::connect`].
    pub(super) async fn open(&self) -> Result<(Arc<Line>, mpsc::Receiver<Inbound>), ConnectError> {
        let (inbound, heard) = mpsc::channel(INBOUND_QUEUE);
        let options = ConnectOptions {
            known_era: self.facts().era,
            inbound,
        };
        let connection = crate::connect_unless(self.spec(), options, &self.stop).await?;
        self.facts().era = Some(connection.info().era);
        Ok((Line::new(connection), heard))
    }

    /// Takes an idle key's connection away, unless a call came onto it.
    pub(super) fn leave_slot(&self, key: &str, line: &Arc<Line>, idle_for: Duration) -> bool {
        let mut slots = self.slots();
        let idle = line
            .idle_since()
            .is_some_and(|since| since.elapsed() >= idle_for);
        if idle {
            remove(&mut slots, key, line);
            line.closing.cancel();
        }
        idle
    }

    /// A call has left its line: a key that was for it alone is done.
    pub(super) fn left(&self, key: &str, line: &Arc<Line>) {
        if key.starts_with(ONE_CALL) {
            self.leave_slot(key, line, Duration::ZERO);
        }
    }

    /// Takes a key's connection away that is gone.
    pub(super) fn forget_slot(&self, key: &str, line: &Arc<Line>) {
        remove(&mut self.slots(), key, line);
    }

    async fn open_slot(self: &Arc<Self>, key: &str) -> Result<Arc<Line>, String> {
        match self.open().await {
            Ok((line, heard)) => {
                let tended =
                    keeper::tend_slot(Arc::clone(self), key.to_owned(), Arc::clone(&line), heard);
                self.tasks.spawn(tended);
                Ok(line)
            }
            Err(error) => {
                // The next call of this key tries anew.
                self.slots().remove(key);
                Err(told(&error))
            }
        }
    }

    fn slot(&self, key: &str) -> Result<Arc<OnceCell<Arc<Line>>>, String> {
        let mut slots = self.slots();
        if let Some(cell) = slots.get(key) {
            return Ok(Arc::clone(cell));
        }
        if slots.len() >= MAX_SLOTS {
            let since = |cell: &Arc<OnceCell<Arc<Line>>>| cell.get().and_then(|l| l.idle_since());
            let idle = slots
                .iter()
                .filter_map(|(k, cell)| Some((since(cell)?, k.clone())));
            let Some((_, oldest)) = idle.min() else {
                return Err(format!("{MAX_SLOTS} connections to the server are in use"));
            };
            let gone = slots.remove(&oldest);
            if let Some(line) = gone.as_ref().and_then(|cell| cell.get()) {
                line.closing.cancel();
            }
        }
        let cell = Arc::<OnceCell<_>>::default();
        slots.insert(key.to_owned(), Arc::clone(&cell));
        Ok(cell)
    }

    /// The kept connection is this key's, or nobody's yet.
    fn may_use_base(&self, key: &str) -> bool {
        if key.starts_with(ONE_CALL) {
            return false;
        }
        let adopted = self.adopted();
        let current = match &*self.base.borrow() {
            Base::Ready(number, _) => Some(*number),
            _ => None,
        };
        match (&*adopted, current) {
            (Some((number, owner)), Some(current)) if *number == current => owner == key,
            _ => true,
        }
    }

    fn adopt(&self, number: u64, key: &str) -> bool {
        let mut adopted = self.adopted();
        match &*adopted {
            Some((of, owner)) if *of == number => owner == key,
            _ => {
                *adopted = Some((number, key.to_owned()));
                true
            }
        }
    }

    /// Waits for the kept connection, through one attempt more when it is down.
    async fn ready(&self) -> Result<(u64, Arc<Line>), String> {
        let mut base = self.base.subscribe();
        let mut seen = None;
        loop {
            match &*base.borrow_and_update() {
                Base::Ready(number, line) => return Ok((*number, Arc::clone(line))),
                Base::Retired => return Err("the server is no longer offered".to_owned()),
                Base::Opening => {}
                Base::Down { failures, why } => match seen {
                    Some(earlier) if earlier != *failures => return Err(why.clone()),
                    _ => {
                        seen = Some(*failures);
                        self.wake.notify_one();
                    }
                },
            }
            if base.changed().await.is_err() {
                return Err("the agent is ending".to_owned());
            }
        }
    }

    #[cfg(test)]
    pub(super) fn slot_count(&self) -> usize {
        self.slots().len()
    }

    fn slots(&self) -> MutexGuard<'_, HashMap<String, Arc<OnceCell<Arc<Line>>>>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn adopted(&self) -> MutexGuard<'_, Option<(u64, String)>> {
        self.adopted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn facts(&self) -> MutexGuard<'_, Facts> {
        self.facts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn remove(slots: &mut HashMap<String, Arc<OnceCell<Arc<Line>>>>, key: &str, line: &Arc<Line>) {
    let known = slots.get(key).and_then(|cell| cell.get());
    if known.is_some_and(|known| Arc::ptr_eq(known, line)) {
        slots.remove(key);
    }
}

/// Why a server could not be reached, with the last words of its process: they stay on this machine.
pub(super) fn told(error: &ConnectError) -> String {
    error.to_string()
}

fn nothing(server: String) -> ServerTools {
    ServerTools {
        server,
        era: Era::Legacy,
        lists: Lists::Unknown,
        tools: Vec::new(),
        resources: Vec::new(),
        templates: Vec::new(),
        prompts: Vec::new(),
        capabilities: None,
        server_info: None,
        instructions: None,
        protocol_version: None,
        problem: Some(NOT_YET.to_owned()),
    }
}
