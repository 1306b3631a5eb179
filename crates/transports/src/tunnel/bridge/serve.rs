//! One connection of an agent, from its first frame to its end.

use std::future::Future;
use std::sync::Arc;

use futures_util::task::AtomicWaker;
use tokio::time::timeout;

use super::agent::Agent;
use super::link::{Link, say_goodbye};
use super::machine::Opening;
use crate::tunnel::frame::{Auth, Frame, Hello, Payload, ResumeAnswer};
use crate::tunnel::id::AgentId;
use crate::tunnel::limits::{HELLO_DEADLINE, PROTOCOL, close};
use crate::tunnel::socket::{FrameSocket, SocketError};

/// Frames before HELLO_ACK: HELLO and AUTH.
const GREETING_FRAMES: u64 = 2;

/// Who says which agents may come in.
pub trait Door: Send + Sync {
    /// Checks the token, says whose agent it is, and what becomes of the calls it offers to resume. The
    /// agent's id in both is the one on the envelope.
    ///
    /// # Errors
    /// [`Refused`]: the connection is closed with 1008 and the reason.
    fn admit(
        &self,
        agent_id: &AgentId,
        hello: &Hello,
        auth: &Auth,
    ) -> impl Future<Output = Result<Admission, Refused>> + Send;
}

/// A connection that may come in.
#[derive(Debug)]
pub struct Admission {
    /// Whose agent it is.
    pub agent: Agent,
    /// Higher than that of every connection of this agent before.
    pub epoch: u64,
    /// What the ledger says of the calls offered. Those that are in neither list are wanted.
    pub resume: ResumeAnswer,
}

/// A connection that may not come in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// Why, for the agent; short, and without secrets.
    pub reason: String,
}

/// How a connection ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ServeEnd {
    /// The agent or the line ended it.
    Lost(String),
    /// The bridge closed it, with this code.
    Closed {
        /// The close code.
        code: u16,
        /// Why.
        reason: String,
    },
}

/// Serves one connection until it ends. Nothing but HELLO and then AUTH is taken before the door was asked,
/// and both must come within [`HELLO_DEADLINE`].
pub async fn serve<S: FrameSocket, D: Door>(mut socket: S, door: &D) -> ServeEnd {
    // Boxed: what it needs is needed once, and an idle connection shall be small.
    let admitted = Box::pin(timeout(HELLO_DEADLINE, admitted(&mut socket, door))).await;
    let opened = match admitted {
        Ok(Ok(opened)) => opened,
        Ok(Err(end)) => {
            if let ServeEnd::Closed { code, reason } = &end {
                say_goodbye(&mut socket, *code, reason).await;
            }
            return end;
        }
        Err(_elapsed) => {
            let reason = "no HELLO and AUTH in time";
            say_goodbye(&mut socket, close::POLICY, reason).await;
            return closed(close::POLICY, reason);
        }
    };
    let Opened { agent, epoch, bell } = opened;
    let Some(bell) = bell else {
        let reason = "a newer connection of this agent";
        say_goodbye(&mut socket, close::REPLACED, reason).await;
        return closed(close::REPLACED, reason);
    };
    Link::new(socket, agent, (epoch, bell)).run().await
}

struct Opened {
    agent: Agent,
    epoch: u64,
    /// None when a newer connection stands already.
    bell: Option<Arc<AtomicWaker>>,
}

fn closed(code: u16, reason: &str) -> ServeEnd {
    ServeEnd::Closed {
        code,
        reason: reason.to_owned(),
    }
}

async fn admitted<S: FrameSocket, D: Door>(socket: &mut S, door: &D) -> Result<Opened, ServeEnd> {
    let first = greeting(socket, 1).await?;
    let Payload::Hello(hello) = first.payload else {
        return Err(closed(close::POLICY, "the first frame must be HELLO"));
    };
    if !(hello.protocol.min..=hello.protocol.max).contains(&PROTOCOL) {
        return Err(closed(close::POLICY, "no protocol revision in common"));
    }
    let second = greeting(socket, GREETING_FRAMES).await?;
    let Payload::Auth(auth) = second.payload else {
        return Err(closed(close::POLICY, "the second frame must be AUTH"));
    };
    if first.agent_id != second.agent_id {
        return Err(closed(close::POLICY, "HELLO and AUTH of different agents"));
    }
    let admission = match door.admit(&first.agent_id, &hello, &auth).await {
        Ok(admission) => admission,
        Err(refused) => return Err(closed(close::POLICY, &refused.reason)),
    };
    if *admission.agent.id() != first.agent_id {
        return Err(closed(close::POLICY, "the token is another agent's"));
    }
    let bell = Arc::new(AtomicWaker::new());
    let opening = Opening {
        epoch: admission.epoch,
        conn_session_id: format!("ws_{:032x}", rand::random::<u128>()).into(),
        hello: &hello,
        resume: admission.resume,
        local: socket.is_local(),
        seq_in: GREETING_FRAMES,
    };
    let stands = admission.agent.0.attach(&opening, &bell);
    Ok(Opened {
        agent: admission.agent,
        epoch: admission.epoch,
        bell: stands.then_some(bell),
    })
}

/// One of the two frames before the door is asked.
async fn greeting<S: FrameSocket>(socket: &mut S, seq: u64) -> Result<Frame, ServeEnd> {
    let text = match socket.recv().await {
        Some(Ok(text)) => text,
        Some(Err(SocketError::TooLarge)) => {
            return Err(closed(close::TOO_BIG, "a message over the bound"));
        }
        Some(Err(SocketError::NotText)) => {
            return Err(closed(close::POLICY, "a message that is no text"));
        }
        Some(Err(SocketError::Lost(why))) => return Err(ServeEnd::Lost(why)),
        None => return Err(ServeEnd::Lost("the agent closed the connection".to_owned())),
    };
    let frame = Frame::decode(&text).map_err(|bad| closed(close::POLICY, &bad.to_string()))?;
    if frame.seq != seq {
        return Err(closed(close::POLICY, "a frame out of turn"));
    }
    Ok(frame)
}
