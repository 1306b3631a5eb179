//! `mcp`: a host that speaks MCP on standard input and output, and the bridge's MCP face over HTTP.
//! Passes messages on; understands only what the way asks for: eras, sessions, cancelling. When the
//! bridge is away each request is answered with an error, and the next one tries again.

mod errors;
mod exchange;
mod lines;
mod listening;
mod message;
mod mirrored;
mod opening;
mod session;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::{AbortHandle, JoinSet};

use self::exchange::{Endpoint, Reply};
use self::lines::Line;
use self::message::{Id, Kind, Message};
use self::mirrored::Mirrored;
use self::session::Session;
use crate::ask::{Ask, SHORT_WAIT};
use crate::bridge::Bridge;
use crate::failure::Failure;
use crate::output::Output;

/// Requests under way; a host has a handful, and each may hold a connection for long.
const MAX_UNDER_WAY: usize = 128;

/// Notifications and answers waiting to be told to the bridge; then reading waits.
const MAX_WAITING_NOTICES: usize = 64;

/// What ending the session and writing what is left may take; hosts kill those that linger.
const PARTING_WAIT: Duration = Duration::from_secs(2);

/// One host and one MCP endpoint of the bridge.
struct Pump {
    endpoint: Endpoint,
    session: Session,
    mirrored: Mirrored,
    under_way: Mutex<HashMap<Id, UnderWay>>,
    places: Arc<Semaphore>,
    output: Output,
}

/// A request under way.
struct UnderWay {
    task: AbortHandle,
    /// Closing its connection cancels it; a legacy one is cancelled by a notification.
    modern: bool,
    cancelled: bool,
}

/// What the pump has running besides requests.
struct Running {
    tasks: JoinSet<()>,
    notices: mpsc::Sender<Message>,
    listener: Option<AbortHandle>,
}

/// Pumps until the host closes standard input, stops reading, or ends this process. `place` is a `GET` of the
/// MCP endpoint, with its query.
pub(crate) async fn run(bridge: Bridge, place: Ask, output: Output) {
    let mut lines = lines::input();
    let (host, mut written) = lines::output();
    let pump = Arc::new(Pump {
        endpoint: Endpoint {
            bridge,
            place,
            host,
        },
        session: Session::default(),
        mirrored: Mirrored::default(),
        under_way: Mutex::default(),
        places: Arc::new(Semaphore::new(MAX_UNDER_WAY)),
        output,
    });
    let (notices, waiting) = mpsc::channel(MAX_WAITING_NOTICES);
    let mut running = Running {
        tasks: JoinSet::new(),
        notices,
        listener: None,
    };
    running.tasks.spawn(Arc::clone(&pump).tell(waiting));
    let mut stopped = std::pin::pin!(stopped());
    loop {
        let line = tokio::select! {
            line = lines.recv() => line,
            () = pump.endpoint.host.closed() => None,
            () = &mut stopped => None,
            Some(_ended) = running.tasks.join_next() => continue,
        };
        let Some(line) = line else { break };
        tokio::select! {
            () = pump.take(line, &mut running) => {}
            () = &mut stopped => break,
        }
    }
    running.tasks.shutdown().await;
    let view = pump.session.view();
    // Whatever could not be ended in time, the bridge ends by itself when it is idle.
    let _ = tokio::time::timeout(PARTING_WAIT, pump.part(&view)).await;
    drop(pump);
    let _ = tokio::time::timeout(PARTING_WAIT, written.recv()).await;
}

impl Pump {
    /// Does what a line asks for, or starts it. Waits only for what everything else must wait for.
    async fn take(self: &Arc<Self>, line: Line, running: &mut Running) {
        let message = match line {
            Line::Whole(line) if line.trim_ascii().is_empty() => return,
            Line::Whole(line) => Message::read(line),
            Line::TooLong(id) => return self.pass(errors::too_long(id.as_deref())).await,
        };
        let message = match message {
            Ok(message) => message,
            Err(why) => return self.pass(errors::no_message(&why)).await,
        };
        match &message.kind {
            Kind::Request { method, .. } if method == "initialize" => {
                if let Some(listener) = running.listener.take() {
                    listener.abort();
                }
                self.initialize(&message).await;
            }
            Kind::Request { .. } | Kind::Batch(_) => self.start(message, &mut running.tasks).await,
            Kind::Notification { method, .. } if method == "notifications/initialized" => {
                self.initialized(&message).await;
                let listening = Arc::clone(self).listen();
                running.listener = Some(running.tasks.spawn(listening));
            }
            Kind::Notification {
                about: Some(id), ..
            } if self.cancelled(id) => {}
            Kind::Notification { .. } | Kind::Answer => {
                // Fails only after the end.
                let _ = running.notices.send(message).await;
            }
        }
    }

    /// Starts a request, unless too many are under way.
    async fn start(self: &Arc<Self>, message: Message, tasks: &mut JoinSet<()>) {
        let Ok(place) = Arc::clone(&self.places).try_acquire_owned() else {
            return self.fail(&message, &errors::too_many(MAX_UNDER_WAY)).await;
        };
        let modern = message.version.is_some();
        let id = message.ids().first().cloned();
        let task = tasks.spawn(Arc::clone(self).request(message, place));
        // The task cannot have run yet: nothing was awaited since.
        if let Some(id) = id {
            let entry = UnderWay {
                task,
                modern,
                cancelled: false,
            };
            self.under_way().insert(id, entry);
        }
    }

    async fn request(self: Arc<Self>, message: Message, place: OwnedSemaphorePermit) {
        let answered = self.answered(&message).await;
        let ended = message
            .ids()
            .first()
            .and_then(|id| self.under_way().remove(id));
        match answered {
            Ok(line) => self.pass(line).await,
            // Who cancelled a request waits for no answer to it.
            Err(_) if ended.is_some_and(|ended| ended.cancelled) => {}
            Err(failure) => self.fail(&message, &failure).await,
        }
        drop(place);
    }

    /// The answer; a session that is gone is opened again, once.
    async fn answered(&self, message: &Message) -> Result<String, Failure> {
        let mut view = self.session.view();
        for _ in 0..2 {
            let mirrored = self.mirrored.headers(message);
            match self.endpoint.exchange(message, &view, mirrored).await? {
                Reply::Answer { line, .. } => {
                    if message.method() == Some("tools/list") {
                        self.mirrored.learn(&line);
                    }
                    return Ok(line);
                }
                Reply::SessionGone => view = self.renewed(&view).await?,
            }
        }
        Err(Failure::protocol(
            "the bridge lost the session right after it was opened again",
        ))
    }

    /// Whether a cancellation needs no telling: the connection is closed, or nobody knows the request.
    fn cancelled(&self, id: &Id) -> bool {
        let mut under_way = self.under_way();
        match under_way.get_mut(id) {
            Some(entry) if entry.modern => {
                entry.task.abort();
                under_way.remove(id);
                true
            }
            Some(entry) => {
                entry.cancelled = true;
                false
            }
            None => self.session.view().generation == 0,
        }
    }

    /// Tells the bridge what wants no answer, one after the other.
    async fn tell(self: Arc<Self>, mut waiting: mpsc::Receiver<Message>) {
        while let Some(message) = waiting.recv().await {
            self.notify(&message).await;
        }
    }

    async fn notify(&self, message: &Message) {
        let view = self.session.view();
        let telling = self.endpoint.tell(message, &view);
        let what = message.method().unwrap_or("an answer");
        match tokio::time::timeout(SHORT_WAIT, telling).await {
            Ok(Ok(true)) => {}
            // What belongs to a session that is gone means nothing to the next one.
            Ok(Ok(false)) => self.output.detail(&format!("{what}: the session is gone")),
            Ok(Err(failure)) => self.output.note(&format!("{what}: {}", failure.message)),
            Err(_elapsed) => self.output.note(&format!("{what}: no answer in time")),
        }
    }

    async fn fail(&self, message: &Message, failure: &Failure) {
        for id in message.ids() {
            self.pass(errors::failed(id, failure)).await;
        }
    }

    async fn pass(&self, line: String) {
        // A host that went away is noticed by the loop.
        let _ = self.endpoint.pass(line).await;
    }

    fn under_way(&self) -> MutexGuard<'_, HashMap<Id, UnderWay>> {
        // Held for single operations that cannot panic.
        self.under_way
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// Ends when the host ends this process by a signal; where signals cannot be had, never.
async fn stopped() {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        let signals = [SignalKind::terminate(), SignalKind::interrupt()].map(signal);
        if let [Ok(mut terminate), Ok(mut interrupt)] = signals {
            tokio::select! {
                _ = terminate.recv() => return,
                _ = interrupt.recv() => return,
            }
        }
    }
    #[cfg(not(unix))]
    if tokio::signal::ctrl_c().await.is_ok() {
        return;
    }
    std::future::pending::<()>().await;
}
