//! The requests in flight on one connection whose answers come back on one shared stream
//! (stdio, legacy SSE). Matches answers and progress to their requests; never touches I/O.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::sync::{mpsc, oneshot};

use crate::error::RequestError;
use crate::wire::{Notification, Request, Response};

/// Cancelled requests remembered; a server that answers later than so many others is not told apart from a wrong one.
const LEFT_REMEMBERED: usize = 256;

type Outcome = Result<Box<RawValue>, RequestError>;

#[derive(Debug)]
struct Waiting {
    answer: oneshot::Sender<Outcome>,
    progress: Option<mpsc::Sender<Notification>>,
    /// It hears logs too, and what it loses is counted here.
    losses: Option<Arc<AtomicU64>>,
}

impl Waiting {
    /// Hands it a notification; counts it as lost, here or in `dropped`, when its channel is full.
    fn hand(&self, notification: Notification, dropped: &AtomicU64) {
        if let Some(channel) = &self.progress
            && channel.try_send(notification).is_err()
        {
            let count = self.losses.as_deref().unwrap_or(dropped);
            count.fetch_add(1, Ordering::Relaxed);
        }
    }
}

#[derive(Debug, Default)]
struct Table {
    waiting: HashMap<u64, Waiting>,
    /// Requests that stay open for as long as the server speaks. They are outside of the bound, and no
    /// stray answer is taken for theirs.
    standing: HashMap<u64, Waiting>,
    /// Requests given up, by the caller or because their answer was broken, whose (true) answers may
    /// still come; those are no fault of the server.
    left: VecDeque<u64>,
    /// Set once the stream ended: nobody may wait any more.
    ended: bool,
}

impl Table {
    fn take(&mut self, id: u64) -> Option<Waiting> {
        let waiting = self.waiting.remove(&id);
        waiting.or_else(|| self.standing.remove(&id))
    }

    /// Takes a request out before it was answered.
    fn give_up(&mut self, id: u64) -> Option<Waiting> {
        let waiting = self.take(id)?;
        if self.left.len() == LEFT_REMEMBERED {
            self.left.pop_front();
        }
        self.left.push_back(id);
        Some(waiting)
    }
}

/// The requests in flight.
#[derive(Debug)]
pub struct Pending {
    table: Mutex<Table>,
    limit: usize,
    dropped: AtomicU64,
    garbage: AtomicU64,
}

impl Pending {
    /// An empty table for at most `limit` requests.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self {
            table: Mutex::default(),
            limit,
            dropped: AtomicU64::new(0),
            garbage: AtomicU64::new(0),
        }
    }

    fn table(&self) -> std::sync::MutexGuard<'_, Table> {
        // A poisoned table is still a map; nothing in here leaves it half changed.
        self.table
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Enters a request before it is written.
    ///
    /// # Errors
    /// [`RequestError::Overloaded`] at the limit; `None` when the stream has ended.
    pub fn enter(
        &self,
        id: u64,
        request: &Request,
    ) -> Result<Option<oneshot::Receiver<Outcome>>, RequestError> {
        let (answer, receiver) = oneshot::channel();
        let mut table = self.table();
        if table.ended {
            return Ok(None);
        }
        if table.waiting.len() >= self.limit {
            return Err(RequestError::Overloaded { limit: self.limit });
        }
        let waiting = Waiting {
            answer,
            progress: request.progress.clone(),
            losses: request.losses.clone(),
        };
        table.waiting.insert(id, waiting);
        Ok(Some(receiver))
    }

    /// Enters a request that stays open before it is written; `None` when the stream has ended.
    pub fn enter_standing(
        &self,
        id: u64,
        notes: Option<mpsc::Sender<Notification>>,
    ) -> Option<oneshot::Receiver<Outcome>> {
        let (answer, receiver) = oneshot::channel();
        let mut table = self.table();
        if table.ended {
            return None;
        }
        let waiting = Waiting {
            answer,
            progress: notes,
            losses: None,
        };
        table.standing.insert(id, waiting);
        Some(receiver)
    }

    /// Takes a request out: it was answered, cancelled or timed out. False when it was gone already.
    pub fn leave(&self, id: u64) -> bool {
        self.table().give_up(id).is_some()
    }

    /// Requests in flight.
    #[must_use]
    pub fn len(&self) -> usize {
        self.table().waiting.len()
    }

    /// Whether nothing is in flight.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Hands an answer to its request. An id nobody waits for is counted; when exactly one request
    /// is in flight it fails, for its answer will not come (rulings.md § Upstream faults).
    pub fn answer(&self, response: Response) {
        let mut table = self.table();
        if let Some(waiting) = response.id.and_then(|id| table.take(id)) {
            drop(table);
            let outcome = response.outcome.map_err(|error| RequestError::Rpc {
                code: error.code,
                message: error.message,
                data: error.data,
            });
            // The caller may have given up just now; then nobody needs the answer.
            let _ = waiting.answer.send(outcome);
            return;
        }
        if response.id.is_some_and(|id| table.left.contains(&id)) {
            return;
        }
        self.count_garbage();
        if table.waiting.len() == 1 {
            let only: Vec<Waiting> = table.waiting.drain().map(|(_, waiting)| waiting).collect();
            drop(table);
            for waiting in only {
                let detail = "the server answered an id it was not asked with".to_owned();
                let _ = waiting.answer.send(Err(RequestError::Protocol { detail }));
            }
        }
    }

    /// Hands a progress notification to its request. Gives it back when it belongs to none.
    pub fn progress(&self, notification: Notification) -> Option<Notification> {
        #[derive(Deserialize)]
        struct Token {
            #[serde(rename = "progressToken")]
            token: u64,
        }
        let token: Option<Token> = notification
            .params
            .as_ref()
            .and_then(|raw| serde_json::from_str(raw.get()).ok());
        let Some(token) = token else {
            return Some(notification);
        };
        let table = self.table();
        let Some(waiting) = table.waiting.get(&token.token) else {
            return Some(notification);
        };
        waiting.hand(notification, &self.dropped);
        None
    }

    /// Hands what the server logs to every request that hears logs. Gives it back when there is none.
    pub fn log(&self, notification: Notification) -> Option<Notification> {
        let table = self.table();
        let mut hearing = table
            .waiting
            .values()
            .filter(|waiting| waiting.losses.is_some());
        let Some(first) = hearing.next() else {
            return Some(notification);
        };
        for waiting in hearing {
            waiting.hand(notification.clone(), &self.dropped);
        }
        first.hand(notification, &self.dropped);
        None
    }

    /// Hands a notification about a request that stays open to it: that it is acknowledged, or ended.
    /// Gives it back when it is about none.
    pub fn about_standing(&self, notification: Notification) -> Option<Notification> {
        let about = notification.params.as_deref().and_then(standing_id);
        let table = self.table();
        let Some(standing) = about.and_then(|id| table.standing.get(&id)) else {
            return Some(notification);
        };
        standing.hand(notification, &self.dropped);
        None
    }

    /// Fails one request. Its true answer may come yet, and is nobody's then.
    pub fn fail(&self, id: u64, error: RequestError) {
        let waiting = self.table().give_up(id);
        if let Some(waiting) = waiting {
            let _ = waiting.answer.send(Err(error));
        }
    }

    /// The ids in flight.
    #[must_use]
    pub fn ids(&self) -> Vec<u64> {
        self.table().waiting.keys().copied().collect()
    }

    /// Ends the table: everything in flight fails with what `error` makes, and nothing may enter.
    pub fn end(&self, error: impl Fn() -> RequestError) {
        let waiting: Vec<Waiting> = {
            let mut table = self.table();
            let table = &mut *table;
            table.ended = true;
            let all = table.waiting.drain().chain(table.standing.drain());
            all.map(|(_, waiting)| waiting).collect()
        };
        for waiting in waiting {
            let _ = waiting.answer.send(Err(error()));
        }
    }

    /// Counts a notification lost to a full channel.
    pub fn count_dropped(&self) {
        self.dropped.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a frame that was no JSON-RPC or answered nobody.
    pub fn count_garbage(&self) {
        self.garbage.fetch_add(1, Ordering::Relaxed);
    }

    /// Notifications lost to full channels.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// Frames that were no JSON-RPC or answered nobody.
    #[must_use]
    pub fn garbage(&self) -> u64 {
        self.garbage.load(Ordering::Relaxed)
    }
}

/// The request an acknowledgement or a cancellation is about.
fn standing_id(params: &RawValue) -> Option<u64> {
    #[derive(Deserialize)]
    struct About {
        #[serde(default, rename = "requestId")]
        request_id: Option<u64>,
        #[serde(default, rename = "_meta")]
        meta: Option<Meta>,
    }
    #[derive(Deserialize)]
    struct Meta {
        #[serde(rename = "io.modelcontextprotocol/subscriptionId")]
        subscription_id: u64,
    }
    let about: About = serde_json::from_str(params.get()).ok()?;
    about
        .request_id
        .or_else(|| about.meta.map(|meta| meta.subscription_id))
}
