//! The way to the bridge as the agent's task polls it: dialled, then read and written side by side.
//!
//! A side that writes and does not read would wait for ever for another that does the same, so one poll does
//! both. Frames go out in batches, one flush each.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use secrecy::SecretString;
use tokio::time::Instant;

use super::dial::DialError;
use super::machine::{AgentMachine, Input, Output};
use crate::tunnel::batch::Batch;
use crate::tunnel::bridge::machine::Now;
use crate::tunnel::frame::{Frame, Known};
use crate::tunnel::limits::close;
use crate::tunnel::socket::{FrameSocket, SocketError};

/// Messages read before what they made is written.
const READ_BATCH: usize = 128;
/// Rounds of writing and reading before other things get their turn.
const ROUNDS: usize = 4;

type Dialing<S> = Pin<Box<dyn Future<Output = Result<(S, SecretString), DialError>> + Send>>;

/// The way to the bridge.
pub(super) enum Way<S> {
    /// Nobody asked for one.
    None,
    /// Waiting or dialling.
    Dialing(Dialing<S>),
    /// There.
    Open(Box<Open<S>>),
}

/// A line that stands.
pub(super) struct Open<S> {
    pub(super) socket: S,
    batch: Batch,
}

/// Why the task has something to do.
pub(super) enum Happened<S> {
    /// The dial came to its end.
    Dialed(Result<(S, SecretString), DialError>),
    /// The machine wants things done.
    Acts,
    /// The line is gone.
    Lost(String),
}

/// What time it is for the machine.
pub(super) fn now(born: Instant) -> Now {
    Now {
        at: born.elapsed(),
        unix_s: unix_s(),
    }
}

/// Unix seconds.
pub(super) fn unix_s() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.unwrap_or(Duration::ZERO).as_secs()
}

/// Goes on with the way until something happened.
pub(super) async fn step<S: FrameSocket>(
    way: &mut Way<S>,
    machine: &mut AgentMachine,
    (born, outputs): (Instant, &mut Vec<Output>),
) -> Happened<S> {
    poll_fn(|cx| match way {
        Way::None => Poll::Pending,
        Way::Dialing(dialing) => dialing.as_mut().poll(cx).map(Happened::Dialed),
        Way::Open(open) => open.poll(machine, (born, outputs), cx),
    })
    .await
}

impl<S: FrameSocket> Open<S> {
    pub(super) fn new(socket: S) -> Self {
        Self {
            socket,
            batch: Batch::default(),
        }
    }

    fn poll(
        &mut self,
        machine: &mut AgentMachine,
        (born, outputs): (Instant, &mut Vec<Output>),
        cx: &mut Context<'_>,
    ) -> Poll<Happened<S>> {
        for _ in 0..ROUNDS {
            let now = now(born);
            if let Poll::Ready(Err(error)) = self.poll_write(machine, (now, outputs), cx) {
                return Poll::Ready(Happened::Lost(error.to_string()));
            }
            let read = self.poll_read(machine, (now, outputs), cx);
            if let Poll::Ready(Err(why)) = read {
                return Poll::Ready(Happened::Lost(why));
            }
            if !outputs.is_empty() {
                return Poll::Ready(Happened::Acts);
            }
            if read.is_pending() {
                return Poll::Pending;
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Writes what there is. Ready when nothing is left.
    fn poll_write(
        &mut self,
        machine: &mut AgentMachine,
        (now, outputs): (Now, &mut Vec<Output>),
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), SocketError>> {
        loop {
            while !self.batch.is_full()
                && let Some(text) = machine.next_frame(now)
            {
                self.batch.push(text);
            }
            outputs.append(&mut machine.take_outputs());
            if self.batch.is_written() {
                return Poll::Ready(Ok(()));
            }
            ready!(self.batch.poll_write(&mut self.socket, cx))?;
        }
    }

    /// Reads what there is. Ready when something was heard.
    fn poll_read(
        &mut self,
        machine: &mut AgentMachine,
        (now, outputs): (Now, &mut Vec<Output>),
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), String>> {
        for count in 0..READ_BATCH {
            // Woken by the socket when it takes frames again.
            if machine.is_congested() {
                return if count > 0 {
                    Poll::Ready(Ok(()))
                } else {
                    Poll::Pending
                };
            }
            let frame = match self.socket.poll_recv(cx) {
                Poll::Pending if count > 0 => return Poll::Ready(Ok(())),
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Some(Ok(text))) => read(machine, &text),
                Poll::Ready(Some(Err(SocketError::NotText))) => None,
                Poll::Ready(Some(Err(SocketError::TooLarge))) => {
                    let reason = "a message over the bound";
                    let code = close::TOO_BIG;
                    outputs.push(Output::Close { code, reason });
                    return Poll::Ready(Ok(()));
                }
                Poll::Ready(Some(Err(SocketError::Lost(why)))) => return Poll::Ready(Err(why)),
                Poll::Ready(None) => {
                    return Poll::Ready(Err("the bridge closed the connection".to_owned()));
                }
            };
            outputs.append(&mut machine.handle(now, Input::Received(frame)));
        }
        Poll::Ready(Ok(()))
    }
}

fn read(machine: &AgentMachine, text: &str) -> Option<Box<Frame>> {
    let known = Known {
        agent_id: machine.agent_id(),
        conn_session_id: machine.conn_session_id(),
    };
    Frame::decode_known(text, Some(known)).ok().map(Box::new)
}
