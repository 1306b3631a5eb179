//! Listens to a modern server with `subscriptions/listen`, over any carrier: for changes of its lists and
//! for the resources its users watch.
//!
//! One task for each connection that has something to listen for, stopped with it. One stream at a time:
//! when other resources are wanted a second one is opened, and the first let go once that is acknowledged.

mod filter;
mod heard;

use std::collections::BTreeSet;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use serde_json::value::RawValue;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::task::AbortOnDropHandle;

use crate::carrier::Carrier;
use crate::error::RequestError;
use crate::handshake;
use crate::spec::Era;
use crate::wire::{Notification, Params, Request};
use crate::wishes::Wanted;
pub(crate) use filter::Lists;
use filter::acknowledged;
pub(crate) use heard::{Heard, Refusal};

/// First pause before a lost stream is opened again, and the longest.
const BACKOFF: (Duration, Duration) = (Duration::from_secs(1), Duration::from_mins(1));
/// A stream that lived so long worked; the next loss starts the backoff anew.
const STEADY: Duration = Duration::from_secs(10);
/// How long the acknowledgement may take; a server that forgets it is listened to all the same.
const ACKNOWLEDGED_WITHIN: Duration = Duration::from_secs(30);
/// How long a replaced stream is still heard: what it said last may be on its way.
const LINGER: Duration = Duration::from_millis(250);
/// Failures in a row of a server that never acknowledged anything, before it counts as one that cannot.
const MAX_UNHEARD: u32 = 8;
/// What a stream says beside its news; more at once is lost, and counted.
const NOTES_QUEUE: usize = 16;

/// The notification that says what the server will tell.
pub(crate) const ACKNOWLEDGED: &str = "notifications/subscriptions/acknowledged";
/// The notification by which a server ends a stream.
pub(crate) const CANCELLED: &str = "notifications/cancelled";

/// A listening task and what it heard last.
#[derive(Debug)]
pub(crate) struct Listener {
    pub(crate) heard: watch::Receiver<Heard>,
    task: AbortOnDropHandle<()>,
}

impl Listener {
    /// Starts to listen. The task ends with the connection, or when the listener is dropped.
    pub(crate) fn start(carrier: Arc<Carrier>, lists: Lists) -> Self {
        let (tell, heard) = watch::channel(Heard::default());
        let ear = Ear {
            carrier,
            lists,
            tell,
            missed: false,
        };
        Self {
            heard,
            task: AbortOnDropHandle::new(tokio::spawn(ear.listen())),
        }
    }

    /// Stops listening; the stream is let go when this returns.
    pub(crate) async fn stop(self) {
        self.task.abort();
        // It was aborted, or ended before.
        let _ = self.task.await;
    }
}

type Outcome = Result<Box<RawValue>, RequestError>;

/// One request that stays open.
struct Stream {
    exchange: Pin<Box<dyn Future<Output = Outcome> + Send>>,
    notes: mpsc::Receiver<Notification>,
    since: Instant,
}

/// What a stream says beside news for everybody.
enum Said {
    /// The resources it will tell of.
    Acknowledged(BTreeSet<String>),
    Ended(Outcome),
}

/// How patient the listener is with a server that does not let it listen.
struct Patience {
    pause: Duration,
    /// Failures in a row; `None` once the server has acknowledged a stream.
    failures: Option<u32>,
}

impl Patience {
    fn worked(&mut self) {
        self.failures = None;
    }

    /// Whether it is over: the server never let us listen.
    fn over(&mut self) -> bool {
        self.failures = self.failures.map(|failures| failures + 1);
        self.failures
            .is_some_and(|failures| failures >= MAX_UNHEARD)
    }

    /// Waits between half and the whole pause, so that the sessions of a restarted server do not come
    /// all at once.
    async fn wait(&mut self, lived: Duration) {
        if lived >= STEADY {
            self.pause = BACKOFF.0;
        }
        sleep(self.pause.mul_f64(rand::random_range(0.5..=1.0))).await;
        self.pause = (self.pause * 2).min(BACKOFF.1);
    }
}

/// The listening task's own.
struct Ear {
    carrier: Arc<Carrier>,
    lists: Lists,
    tell: watch::Sender<Heard>,
    /// Whether something may have happened that was not heard.
    missed: bool,
}

impl Ear {
    async fn listen(mut self) {
        let mut current = None;
        let mut patience = Patience {
            pause: BACKOFF.0,
            failures: Some(0),
        };
        loop {
            let wanted = self.carrier.wishes.wanted();
            let Some(filter) = self.lists.filter(&wanted.resources) else {
                current = None;
                self.answer(&wanted, BTreeSet::new(), None);
                self.carrier.wishes.changed().await;
                continue;
            };
            let mut next = self.open(filter);
            match self.until_acknowledged(&mut next, &mut current).await {
                Ok(resources) => {
                    patience.worked();
                    if std::mem::take(&mut self.missed) {
                        self.carrier.announce_possible_change();
                    }
                    self.answer(&wanted, resources, None);
                    if let Some(old) = current.replace(next) {
                        self.let_go(old, &mut current).await;
                    }
                }
                Err(error) if is_over(&error) => return,
                Err(error) if matches!(error, RequestError::Rpc { .. }) || patience.over() => {
                    self.answer(&wanted, BTreeSet::new(), Some(Refusal::of(error)));
                }
                Err(_) => {
                    self.missed = true;
                    patience.wait(Duration::ZERO).await;
                    continue;
                }
            }
            if !self
                .until_changed(&wanted, &mut current, &mut patience)
                .await
            {
                return;
            }
        }
    }

    /// Sends the request; nothing happens before the stream is heard.
    fn open(&self, filter: Box<RawValue>) -> Stream {
        let (progress, notes) = mpsc::channel(NOTES_QUEUE);
        let carrier = Arc::clone(&self.carrier);
        let exchange = async move {
            let request = Request {
                params: Params::default().with("notifications", filter),
                progress: Some(progress),
                repeatable: true,
                ..Request::new("subscriptions/listen", Duration::MAX)
            };
            let meta = handshake::meta_of(Era::Modern, None);
            carrier.stand(&request, meta).await
        };
        Stream {
            exchange: Box::pin(exchange),
            notes,
            since: Instant::now(),
        }
    }

    /// Waits for the acknowledgement of `next`, hearing the present stream meanwhile.
    async fn until_acknowledged(
        &self,
        next: &mut Stream,
        current: &mut Option<Stream>,
    ) -> Result<BTreeSet<String>, RequestError> {
        let mut late = std::pin::pin!(sleep(ACKNOWLEDGED_WITHIN));
        loop {
            tokio::select! {
                biased;
                said = self.hear(next) => return match said {
                    Said::Acknowledged(resources) => Ok(resources),
                    Said::Ended(outcome) => Err(outcome.err().unwrap_or_else(|| {
                        RequestError::Protocol { detail: "the server ended the stream".to_owned() }
                    })),
                },
                _ = self.ended(current) => *current = None,
                () = &mut late => return Ok(BTreeSet::new()),
            }
        }
    }

    /// Hears a replaced stream a moment longer.
    async fn let_go(&self, mut old: Stream, current: &mut Option<Stream>) {
        let both = async {
            tokio::select! {
                _ = self.hear(&mut old) => {}
                _ = self.ended(current) => *current = None,
            }
        };
        // What is not said by then is said on the new stream.
        let _ = timeout(LINGER, both).await;
    }

    /// Hears until something else is wanted or the stream is lost; false when the connection is over.
    async fn until_changed(
        &mut self,
        wanted: &Wanted,
        current: &mut Option<Stream>,
        patience: &mut Patience,
    ) -> bool {
        while self.carrier.wishes.version() == wanted.version {
            let since = current
                .as_ref()
                .map_or_else(Instant::now, |stream| stream.since);
            tokio::select! {
                () = self.carrier.wishes.changed() => {}
                outcome = self.ended(current) => {
                    if outcome.is_err_and(|error| is_over(&error)) {
                        return false;
                    }
                    *current = None;
                    self.missed = true;
                    patience.wait(since.elapsed()).await;
                    return true;
                }
            }
        }
        true
    }

    /// Hears a stream to its end; where there is none, forever.
    async fn ended(&self, stream: &mut Option<Stream>) -> Outcome {
        let Some(stream) = stream else {
            return std::future::pending().await;
        };
        loop {
            if let Said::Ended(outcome) = self.hear(stream).await {
                return outcome;
            }
        }
    }

    /// Hears a stream until it says something that concerns it. Losing the future loses nothing.
    async fn hear(&self, stream: &mut Stream) -> Said {
        loop {
            tokio::select! {
                biased;
                Some(note) = stream.notes.recv() => match note.method.as_str() {
                    ACKNOWLEDGED => return Said::Acknowledged(acknowledged(&note)),
                    CANCELLED => {
                        let detail = "the server ended the stream".to_owned();
                        return Said::Ended(Err(RequestError::Protocol { detail }));
                    }
                    _ => self.carrier.hand_up(note),
                },
                outcome = &mut stream.exchange => return Said::Ended(outcome),
            }
        }
    }

    fn answer(&self, wanted: &Wanted, resources: BTreeSet<String>, refusal: Option<Refusal>) {
        self.tell.send_replace(Heard {
            version: wanted.version,
            resources,
            refusal,
        });
    }
}

/// Whether an error says that the connection is over.
fn is_over(error: &RequestError) -> bool {
    matches!(
        error,
        RequestError::Closed { .. } | RequestError::Exited { .. }
    )
}
