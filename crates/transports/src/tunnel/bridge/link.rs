//! The task of one connection: what the machine has to say goes out, what comes in goes to the machine.
//!
//! One hand-written future reads and writes side by side: a side that writes and does not read would wait
//! for ever for another that does the same. Frames go out in batches, one flush each.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_util::stream::{FuturesUnordered, StreamExt as _};
use futures_util::task::AtomicWaker;
use tokio::time::{Instant, Sleep, sleep_until, timeout};

use super::agent::{Agent, OwnFuture};
use super::machine::{Fate, Heard, Next, Output};
use super::serve::ServeEnd;
use crate::tunnel::batch::Batch;
use crate::tunnel::frame::{Frame, Known};
use crate::tunnel::id::ReqId;
use crate::tunnel::limits::close;
use crate::tunnel::socket::{FrameSocket, SocketError};

/// Messages read in one round.
const READ_BATCH: usize = 128;
/// Rounds of writing and reading before other tasks get their turn.
const ROUNDS: usize = 4;
/// Questions to the ledger at once; at more of them nothing is read.
const FATES: usize = 16;
/// How long a close may take to be said.
const CLOSE_WITHIN: Duration = Duration::from_secs(2);

/// One connection whose agent is admitted.
pub(super) struct Link<S> {
    socket: S,
    agent: Agent,
    epoch: u64,
    bell: Arc<AtomicWaker>,
    conn_session_id: Option<Arc<str>>,
    batch: Batch,
    closing: Option<(u16, Box<str>)>,
    /// Since one of the sides left: what waits must be read by then.
    leave_by: Option<Pin<Box<Sleep>>>,
    fates: FuturesUnordered<OwnFuture<(ReqId, Fate)>>,
    timer: Pin<Box<Sleep>>,
}

/// Takes the connection off the agent, however it ends: also when the task is dropped.
struct Attached<'a> {
    agent: &'a Agent,
    epoch: u64,
    why: String,
}

impl Drop for Attached<'_> {
    fn drop(&mut self) {
        self.agent.0.detach(self.epoch, &self.why);
    }
}

impl<S: FrameSocket> Link<S> {
    pub(super) fn new(socket: S, agent: Agent, (epoch, bell): (u64, Arc<AtomicWaker>)) -> Self {
        let core = &agent.0;
        let timer = Box::pin(sleep_until(core.instant(core.now().at)));
        let conn_session_id = core.state().machine.conn_session_id(epoch);
        Self {
            socket,
            agent,
            epoch,
            bell,
            conn_session_id,
            batch: Batch::default(),
            closing: None,
            leave_by: None,
            fates: FuturesUnordered::new(),
            timer,
        }
    }

    /// Serves until the connection ends.
    pub(super) async fn run(mut self) -> ServeEnd {
        let agent = self.agent.clone();
        let mut attached = Attached {
            agent: &agent,
            epoch: self.epoch,
            why: "the task of the connection was stopped".to_owned(),
        };
        let lost = poll_fn(|cx| self.poll(cx)).await;
        let end = match self.closing.take() {
            Some((code, reason)) => ServeEnd::Closed {
                code,
                reason: reason.into(),
            },
            None => ServeEnd::Lost(lost),
        };
        attached.why = match &end {
            ServeEnd::Lost(why) | ServeEnd::Closed { reason: why, .. } => why.clone(),
        };
        // Calls are refused from here on, not when the other side has read why.
        drop(attached);
        if let ServeEnd::Closed { code, reason } = &end {
            say_goodbye(&mut self.socket, *code, reason).await;
        }
        end
    }

    /// Ready when the connection is over: lost, or to be closed.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<String> {
        self.bell.register(cx.waker());
        self.poll_timer(cx);
        self.poll_farewell(cx);
        for _ in 0..ROUNDS {
            self.poll_fates(cx);
            if let Poll::Ready(Err(error)) = self.poll_write(cx) {
                return Poll::Ready(error.to_string());
            }
            if self.closing.is_some() && self.batch.is_written() {
                return Poll::Ready(String::new());
            }
            match self.poll_read(cx) {
                Poll::Ready(Err(why)) => return Poll::Ready(why),
                // What was heard may have made something to say.
                Poll::Ready(Ok(())) => {}
                Poll::Pending => return Poll::Pending,
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Writes what there is. Ready when nothing is left, or the line is to be closed.
    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), SocketError>> {
        loop {
            if self.batch.is_empty() && self.closing.is_none() {
                self.take_batch();
            }
            if self.batch.is_written() {
                return Poll::Ready(Ok(()));
            }
            ready!(self.batch.poll_write(&mut self.socket, cx))?;
        }
    }

    fn take_batch(&mut self) {
        let now = self.agent.0.now();
        let mut state = self.agent.0.state();
        while !self.batch.is_full() {
            match state.machine.next_frame(now, self.epoch) {
                Next::Frame(text) => self.batch.push(text),
                // A line that was replaced has nothing more to say.
                Next::Close(close::REPLACED, reason) => {
                    drop(state);
                    return self.close_now(close::REPLACED, &reason);
                }
                Next::Close(code, reason) => {
                    self.closing = Some((code, reason));
                    return;
                }
                Next::Nothing => return,
            }
        }
    }

    /// Closes without sending what waits: the other side may not read it.
    fn close_now(&mut self, code: u16, reason: &str) {
        self.closing = Some((code, reason.into()));
        self.batch = Batch::default();
    }

    /// Reads what there is. Ready when something was heard, or the line is to be closed.
    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), String>> {
        for count in 0..READ_BATCH {
            // Woken by an answer of the ledger, or by the socket when it takes frames again.
            let full = self.fates.len() >= FATES || self.agent.0.state().machine.is_congested();
            let message = if full || self.closing.is_some() {
                Poll::Pending
            } else {
                self.socket.poll_recv(cx)
            };
            let heard = match message {
                Poll::Pending if count > 0 => return Poll::Ready(Ok(())),
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Some(Ok(text))) => self.read(&text),
                Poll::Ready(Some(Err(SocketError::NotText))) => Heard::Bad,
                Poll::Ready(Some(Err(SocketError::TooLarge))) => {
                    self.close_now(close::TOO_BIG, "a message over the bound");
                    continue;
                }
                Poll::Ready(Some(Err(SocketError::Lost(why)))) => return Poll::Ready(Err(why)),
                Poll::Ready(None) => {
                    return Poll::Ready(Err("the agent closed the connection".to_owned()));
                }
            };
            self.take(heard);
        }
        Poll::Ready(Ok(()))
    }

    fn take(&mut self, heard: Heard) {
        let core = &self.agent.0;
        let now = core.now();
        let mut state = core.state();
        state.machine.received(now, self.epoch, heard);
        let outputs = state.machine.take_outputs();
        drop(state);
        self.act(outputs);
    }

    fn read(&self, text: &str) -> Heard {
        let known = Known {
            agent_id: self.agent.id(),
            conn_session_id: self.conn_session_id.as_ref(),
        };
        Frame::decode_known(text, Some(known)).map_or(Heard::Bad, Heard::Frame)
    }

    /// Does what the machine wants done.
    fn act(&mut self, outputs: Vec<Output>) {
        for output in outputs {
            match output {
                Output::Tools(tools) => self.agent.0.told(tools),
                Output::AskFate(req_id) => {
                    let fate = self.agent.0.owner.fate(&req_id);
                    self.fates
                        .push(Box::pin(async move { (req_id, fate.await) }));
                }
                Output::Close { code, reason } => self.close_now(code, reason),
            }
        }
    }

    fn poll_fates(&mut self, cx: &mut Context<'_>) {
        while let Poll::Ready(Some((req_id, fate))) = self.fates.poll_next_unpin(cx) {
            let mut state = self.agent.0.state();
            state.machine.fate(self.epoch, &req_id, fate);
            let outputs = state.machine.take_outputs();
            drop(state);
            self.act(outputs);
        }
    }

    /// A line that was replaced ends at once, and one that is left within [`CLOSE_WITHIN`], whether or not the
    /// other side reads.
    fn poll_farewell(&mut self, cx: &mut Context<'_>) {
        let farewell = self.agent.0.state().machine.farewell(self.epoch);
        let Some((code, reason)) = farewell.or_else(|| self.closing.clone()) else {
            return;
        };
        let by = self
            .leave_by
            .get_or_insert_with(|| Box::pin(sleep_until(Instant::now() + CLOSE_WITHIN)));
        if code == close::REPLACED || by.as_mut().poll(cx).is_ready() {
            self.close_now(code, &reason);
        }
    }

    fn poll_timer(&mut self, cx: &mut Context<'_>) {
        while self.timer.as_mut().poll(cx).is_ready() {
            let core = &self.agent.0;
            let (outputs, next) = {
                let mut state = core.state();
                state.machine.tick(core.now(), self.epoch);
                (state.machine.take_outputs(), state.machine.next_deadline())
            };
            let Some(next) = next else { return };
            let next = core.instant(next);
            self.timer.as_mut().reset(next);
            self.act(outputs);
            if self.closing.is_some() && self.batch.is_empty() {
                return;
            }
        }
    }
}

/// Tells the other side why, if it still listens.
pub(super) async fn say_goodbye<S: FrameSocket>(socket: &mut S, code: u16, reason: &str) {
    // Who does not read it in time is cut off.
    let _ = timeout(CLOSE_WITHIN, socket.close(code, reason)).await;
}
