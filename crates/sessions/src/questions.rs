//! What a server asks its client in the middle of things (elicitation, sampling, roots): who hears it, and that
//! each question is answered exactly once, whatever its hearer does. One table for each connection, for the ids
//! are the server's own. Sends nothing itself: answers wait here for the session's task.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::sync::{Notify, mpsc};
use transports::{Notification, RequestId, ServerRequest};

/// Questions waiting to be looked at by one lease; the next is declined.
const HEARD: usize = 16;
/// Questions of one connection that are not answered yet; the next is declined.
const MAX_OPEN: usize = 64;
/// JSON-RPC's code for a method that is not offered.
const NOT_OFFERED: i64 = -32601;
/// JSON-RPC's code for what went wrong on our side.
const INTERNAL: i64 = -32603;

/// An answer: the raw result, or a JSON-RPC code and message.
pub type Answer = Result<Box<RawValue>, (i64, String)>;

/// What a listening lease hears of its server.
#[derive(Debug, Clone)]
pub enum Question {
    /// The server asks. To be answered with [`crate::SessionLease::answer`].
    Asked(ServerRequest),
    /// The server no longer wants an answer.
    Withdrawn {
        /// The question's id.
        id: RequestId,
        /// The `notifications/cancelled` as it came.
        notification: Notification,
    },
}

/// Who may be in the session besides the hearer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Company {
    /// Whether users share the session.
    pub(crate) shared: bool,
    /// Everybody inside, whether listening or not.
    pub(crate) in_flight: usize,
}

/// The questions of one connection.
#[derive(Debug, Default)]
pub(crate) struct Questions {
    table: Mutex<Table>,
    /// Woken when there is an answer to send.
    answered: Notify,
}

#[derive(Debug, Default)]
struct Table {
    /// By the order in which the leases were taken.
    listeners: Vec<Listener>,
    open: Vec<Open>,
    answers: VecDeque<(RequestId, Answer)>,
    /// The connection is gone.
    over: bool,
}

#[derive(Debug)]
struct Listener {
    lease: u64,
    hears: mpsc::Sender<Question>,
}

#[derive(Debug)]
struct Open {
    lease: u64,
    id: RequestId,
    method: String,
}

impl Questions {
    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on a lease hears questions. Listening again ends what was heard before.
    pub(crate) fn listen(&self, lease: u64) -> mpsc::Receiver<Question> {
        let (hears, receiver) = mpsc::channel(HEARD);
        let mut table = self.table();
        if !table.over {
            table.listeners.retain(|one| one.lease != lease);
            let place = table.listeners.partition_point(|one| one.lease < lease);
            table.listeners.insert(place, Listener { lease, hears });
        }
        receiver
    }

    /// Hands a question to whom it belongs; queues the refusal when that is nobody.
    pub(crate) fn ask(&self, request: ServerRequest, company: Company) {
        let mut table = self.table();
        let (id, method) = (request.id.clone(), request.method.clone());
        if let Some(lease) = table.give(request, company) {
            table.open.push(Open { lease, id, method });
        } else {
            table.answers.push_back((id, refusal(&method)));
            self.answered.notify_one();
        }
    }

    /// The server no longer wants to know; false when the notification is about no open question.
    pub(crate) fn withdraw(&self, notification: &Notification) -> bool {
        #[derive(Deserialize)]
        struct Cancelled<'a> {
            #[serde(borrow, rename = "requestId")]
            id: &'a RawValue,
        }
        let params = notification.params.as_deref().map_or("", RawValue::get);
        let Ok(Cancelled { id }) = serde_json::from_str(params) else {
            return false;
        };
        let mut table = self.table();
        let asked = |open: &Open| open.id.0.get() == id.get();
        let Some(open) = table.take(asked) else {
            return false;
        };
        let listener = table.listeners.iter().find(|one| one.lease == open.lease);
        if let Some(listener) = listener {
            let notification = notification.clone();
            // Whoever hears too slowly finds his answer unwanted.
            let _ = listener.hears.try_send(Question::Withdrawn {
                id: open.id,
                notification,
            });
        }
        true
    }

    /// Queues a lease's answer; false when it has no such question (any more).
    pub(crate) fn answer(&self, lease: u64, id: &RequestId, answer: Answer) -> bool {
        let mut table = self.table();
        let own = |open: &Open| open.lease == lease && open.id.0.get() == id.0.get();
        let Some(open) = table.take(own) else {
            return false;
        };
        table.answers.push_back((open.id, answer));
        self.answered.notify_one();
        true
    }

    /// The lease is given back: what it left unanswered is answered for it.
    pub(crate) fn leave(&self, lease: u64) {
        let mut table = self.table();
        table.listeners.retain(|one| one.lease != lease);
        while let Some(open) = table.take(|open| open.lease == lease) {
            table.answers.push_back((open.id, farewell(&open.method)));
            self.answered.notify_one();
        }
    }

    /// The next answer to send.
    pub(crate) async fn next_answer(&self) -> (RequestId, Answer) {
        loop {
            if let Some(answer) = self.queued_answer() {
                return answer;
            }
            self.answered.notified().await;
        }
    }

    /// The next answer to send, if there is one now.
    pub(crate) fn queued_answer(&self) -> Option<(RequestId, Answer)> {
        self.table().answers.pop_front()
    }

    /// The connection is gone: who listens hears no more.
    pub(crate) fn end(&self) {
        let mut table = self.table();
        table.over = true;
        table.listeners.clear();
        table.open.clear();
    }
}

impl Table {
    /// Hands a question over, and tells to which lease.
    fn give(&mut self, request: ServerRequest, company: Company) -> Option<u64> {
        if self.open.len() + self.answers.len() >= MAX_OPEN {
            return None;
        }
        self.listeners.retain(|one| !one.hears.is_closed());
        // On a session that users share, the question may be about another one's call.
        if company.shared && company.in_flight > 1 {
            return None;
        }
        let newest = self.listeners.last()?;
        let given = newest.hears.try_send(Question::Asked(request));
        given.is_ok().then_some(newest.lease)
    }

    fn take(&mut self, wanted: impl Fn(&Open) -> bool) -> Option<Open> {
        let place = self.open.iter().position(wanted)?;
        Some(self.open.remove(place))
    }
}

/// What a server hears when nobody listens.
fn refusal(method: &str) -> Answer {
    match method {
        "roots/list" => Ok(raw("{\"roots\":[]}")),
        "elicitation/create" => Ok(raw("{\"action\":\"decline\"}")),
        _ => Err((NOT_OFFERED, "the client does not offer this".to_owned())),
    }
}

/// What a server hears when the call it asked in is over.
fn farewell(method: &str) -> Answer {
    match method {
        "elicitation/create" => Ok(raw("{\"action\":\"cancel\"}")),
        _ => Err((INTERNAL, "the call has ended".to_owned())),
    }
}

/// What a server hears to a ping.
pub(crate) fn alive() -> Box<RawValue> {
    raw("{}")
}

fn raw(text: &str) -> Box<RawValue> {
    RawValue::from_string(text.to_owned()).unwrap_or_else(|_| RawValue::NULL.to_owned())
}
