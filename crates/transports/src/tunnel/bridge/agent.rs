//! One agent as the rest of the bridge sees it: facts, a catalogue, and calls that outlive its connections.

use std::borrow::Cow;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use serde_json::value::RawValue;
use tokio::sync::{mpsc, oneshot, watch};

use super::catalogue::AgentCatalogue;
use super::core::Core;
use super::machine::{Ask, Ending, Fate, NotTaken};
use super::outcome::{Listening, outcome};
use crate::error::{Executed, RequestError};
use crate::tunnel::frame::{AgentMeta, Configure, InvokeMethod};
use crate::tunnel::id::{AgentId, ReqId};
use crate::wire::Notification;

/// The notification that tells an invocation's listener that the agent has the call.
pub const ACKED: &str = "notifications/paperbot/acked";
/// The notification that tells what was lost just before the next one: `{"channel", "bytes", "lines"}`.
pub const DROPPED: &str = "notifications/paperbot/dropped";

/// A future that owns what it needs.
pub type OwnFuture<T> = Pin<Box<dyn Future<Output = T> + Send + 'static>>;

/// What the bridge half tells its owner. Must not block.
pub trait AgentOwner: Send + Sync + fmt::Debug {
    /// A connection stands; also told when a newer one took the place of the last.
    fn online(&self, facts: &AgentFacts);
    /// The last connection is gone.
    fn offline(&self, why: &str);
    /// It offers something else than before.
    fn catalogue(&self, catalogue: Arc<AgentCatalogue>);
    /// What the ledger says of a call that nobody in this process waits for (a late or resumed RESULT).
    fn fate(&self, req_id: &ReqId) -> OwnFuture<Fate>;
}

/// What is known of an agent.
#[derive(Debug, Clone, Default)]
pub struct AgentFacts {
    /// A connection stands.
    pub online: bool,
    /// Since when it is online or offline, in unix seconds; 0 when it was never seen by this process.
    pub since_unix_s: u64,
    /// The last connection's.
    pub epoch: u64,
    /// What the agent said of itself; untrusted text.
    pub meta: AgentMeta,
    /// Calls that have not ended.
    pub in_flight: usize,
    /// When it was last heard, in unix seconds.
    pub last_seen_unix_s: u64,
    /// Bytes of progress and logging that the agent dropped.
    pub dropped_bytes: u64,
    /// Frames that were refused.
    pub bad_frames: u64,
}

/// A call to be made.
#[derive(Debug)]
pub struct Invocation {
    /// The call's id; never used for another.
    pub req_id: ReqId,
    /// The server, as the agent names it.
    pub server: String,
    /// `tools/call`, `resources/read`, `prompts/get` or `completion/complete`.
    pub method: Cow<'static, str>,
    /// Raw `params`, an object.
    pub params: Box<RawValue>,
    /// The deadline, from now.
    pub timeout: Duration,
    /// Calls of different keys share no connection to the server.
    pub isolation_key: String,
    /// Gets [`ACKED`], progress and logging in order, and [`DROPPED`] before what follows a loss. A full
    /// channel loses notifications, counted. Without one the agent is asked to send none.
    pub progress: Option<mpsc::Sender<Notification>>,
    /// The RESULT is acknowledged at once, for nobody keeps it; else when [`Agent::settled`] says so.
    pub acknowledge: bool,
}

/// A call that an earlier process of the bridge made.
#[derive(Debug)]
pub struct Attendance {
    /// The call's id.
    pub req_id: ReqId,
    /// The deadline, from now.
    pub timeout: Duration,
    /// As in [`Invocation`].
    pub progress: Option<mpsc::Sender<Notification>>,
}

/// One agent, over all its connections. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Agent(pub(super) Arc<Core>);

impl Agent {
    /// An agent that has not been seen yet.
    #[must_use]
    pub fn new(id: AgentId, owner: Arc<dyn AgentOwner>) -> Self {
        Self(Arc::new(Core::new(id, owner)))
    }

    /// Its id, unique per user.
    #[must_use]
    pub fn id(&self) -> &AgentId {
        &self.0.id
    }

    /// What is known of it.
    #[must_use]
    pub fn facts(&self) -> AgentFacts {
        self.0.facts()
    }

    /// Whether calls are taken.
    #[must_use]
    pub fn is_online(&self) -> bool {
        self.0.state().machine.takes_calls()
    }

    /// What it offers, as last told; kept while it is offline.
    #[must_use]
    pub fn catalogue(&self) -> Arc<AgentCatalogue> {
        self.0.catalogue()
    }

    /// Puts back what the store kept, unless the agent itself has told something since.
    pub fn restore_catalogue(&self, kept: AgentCatalogue) {
        self.0.restore_catalogue(kept);
    }

    /// Notifications lost to callers that did not listen fast enough.
    #[must_use]
    pub fn notes_lost(&self) -> u64 {
        self.0.notes_lost.load(Ordering::Relaxed)
    }

    pub(crate) fn count_lost_note(&self) {
        self.0.count_lost();
    }

    /// Rises whenever the catalogue changes.
    #[must_use]
    pub fn catalogue_changes(&self) -> watch::Receiver<u64> {
        self.0.changes.subscribe()
    }

    /// True while calls are taken.
    #[must_use]
    pub fn online_changes(&self) -> watch::Receiver<bool> {
        self.0.online.subscribe()
    }

    /// Calls, and waits for the result over any number of connections until the deadline. Dropping the
    /// future cancels the call.
    ///
    /// # Errors
    /// [`RequestError::AgentOffline`] when there is no connection now, [`RequestError::Overloaded`] when
    /// too many calls are in flight; else what the agent said.
    pub async fn invoke(&self, invocation: Invocation) -> Result<Box<RawValue>, RequestError> {
        let Some(method) = InvokeMethod::of(&invocation.method) else {
            return Err(RequestError::Rpc {
                code: -32601,
                message: "the method does not cross a tunnel".to_owned(),
                data: None,
            });
        };
        let ask = Ask {
            req_id: invocation.req_id.clone(),
            server: invocation.server,
            method,
            params: invocation.params,
            timeout: invocation.timeout,
            isolation_key: invocation.isolation_key,
            stream: invocation.progress.is_some(),
            acknowledge: invocation.acknowledge,
        };
        let (end, ended) = oneshot::channel();
        let waiter = Listening::new(&self.0, end, invocation.progress);
        let now = self.0.now();
        let taken = self.0.change(|machine| machine.invoke(now, ask, waiter));
        taken.map_err(|(refused, _)| self.not_taken(refused))?;
        self.until(invocation.req_id, invocation.timeout, ended)
            .await
    }

    /// Waits for the RESULT of a call that an earlier process of the bridge made; nothing is sent. Best
    /// begun before the agent is admitted, so that no RESULT finds nobody waiting. Dropping the future
    /// cancels the call.
    ///
    /// # Errors
    /// As [`Agent::invoke`]; [`RequestError::Disconnected`] when the agent does not know the call.
    pub async fn attend(&self, attendance: Attendance) -> Result<Box<RawValue>, RequestError> {
        self.attending(attendance)?.await
    }

    /// As [`Agent::attend`], but waits from the moment of this call, not of the first poll.
    ///
    /// # Errors
    /// [`RequestError::Overloaded`], and [`RequestError::Protocol`] when it is waited for already.
    pub fn attending(
        &self,
        attendance: Attendance,
    ) -> Result<
        impl Future<Output = Result<Box<RawValue>, RequestError>> + Send + use<>,
        RequestError,
    > {
        let (end, ended) = oneshot::channel();
        let waiter = Listening::new(&self.0, end, attendance.progress);
        let now = self.0.now();
        let call = (attendance.req_id.clone(), attendance.timeout);
        let taken = self.0.change(|machine| machine.attend(now, call, waiter));
        taken.map_err(|(refused, _)| self.not_taken(refused))?;
        let agent = self.clone();
        let began = tokio::time::Instant::now();
        let leaver = Leaver::new(agent.clone(), attendance.req_id);
        Ok(async move {
            let left = attendance.timeout.saturating_sub(began.elapsed());
            agent.wait(leaver, (left, attendance.timeout), ended).await
        })
    }

    async fn until(
        &self,
        req_id: ReqId,
        timeout: Duration,
        ended: oneshot::Receiver<Ending>,
    ) -> Result<Box<RawValue>, RequestError> {
        let leaver = Leaver::new(self.clone(), req_id);
        self.wait(leaver, (timeout, timeout), ended).await
    }

    async fn wait(
        &self,
        mut leaver: Leaver,
        (left, timeout): (Duration, Duration),
        ended: oneshot::Receiver<Ending>,
    ) -> Result<Box<RawValue>, RequestError> {
        match tokio::time::timeout(left, ended).await {
            Ok(Ok(ending)) => {
                leaver.done = true;
                outcome(ending, timeout)
            }
            // The machine lets go of a call only long after its deadline.
            Ok(Err(_)) => Err(RequestError::Closed {
                executed: Executed::Unknown,
            }),
            Err(_elapsed) => {
                leaver.reason = "the deadline passed";
                Err(RequestError::Timeout { after: timeout })
            }
        }
    }

    fn not_taken(&self, refused: NotTaken) -> RequestError {
        match refused {
            NotTaken::Offline => RequestError::AgentOffline {
                agent: self.id().to_string(),
            },
            NotTaken::Full { limit } => RequestError::Overloaded { limit },
            NotTaken::Known => RequestError::Protocol {
                detail: "a call of this id was made already".to_owned(),
            },
        }
    }

    /// Asks the agent to stop a call; its RESULT comes all the same. False when it is not in flight.
    #[must_use]
    pub fn cancel(&self, req_id: &str, reason: &str) -> bool {
        self.0.change(|machine| machine.cancel(req_id, reason))
    }

    /// The ledger has committed this call's end: from now on its RESULT is acknowledged. To be said for
    /// every call that was made without [`Invocation::acknowledge`], however it ended.
    pub fn settled(&self, req_id: &str) {
        self.0.change(|machine| machine.settled(req_id));
    }

    /// The servers a local agent is to run. Sent over a Unix socket only, now and on every new connection.
    pub fn configure(&self, configure: Configure) {
        self.0.change(|machine| machine.configure(configure));
    }

    /// Says GOODBYE and closes the present connection: the token was reset, the agent deleted, or the
    /// bridge goes. What runs goes on running.
    pub fn disconnect(&self, code: u16, reason: &str) {
        self.0.change(|machine| machine.leave(code, reason));
    }
}

/// Lets a call go, unless it ended.
struct Leaver {
    agent: Agent,
    req_id: ReqId,
    reason: &'static str,
    done: bool,
}

impl Leaver {
    fn new(agent: Agent, req_id: ReqId) -> Self {
        Self {
            agent,
            req_id,
            reason: "the caller gave up",
            done: false,
        }
    }
}

impl Drop for Leaver {
    fn drop(&mut self) {
        if !self.done {
            let leave = |machine: &mut super::core::Machine| {
                machine.abandon(&self.req_id, self.reason);
            };
            self.agent.0.change(leave);
        }
    }
}
