//! One message of the tunnel: the envelope, parsed once and strictly, and what each type says.

mod decode;
mod encode;
mod parts;
mod payload;

use std::fmt;
use std::sync::Arc;

pub use decode::BadFrame;
pub(crate) use decode::Known;
pub use encode::{Draft, payload_text, read_payload};
pub use parts::{Assembly, BadPart};
pub use payload::{
    AgentMeta, Auth, CallResult, Cancel, CancelAck, Channel, Chunk, Configure, Failure,
    FailureCode, Goodbye, Hello, HelloAck, Invoke, InvokeAck, InvokeMethod, KnownState, Lists,
    Part, ProtocolRange, ResumeAnswer, ResumeOffer, ServerTools, Stream, Tools,
};

use super::id::{AgentId, ReqId};

/// The types of frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Agent to bridge: who it is.
    Hello,
    /// Agent to bridge: its token.
    Auth,
    /// Bridge to agent: the connection stands.
    HelloAck,
    /// Agent to bridge: what it offers.
    Tools,
    /// Bridge to agent: run a call.
    Invoke,
    /// Agent to bridge: it has the call.
    InvokeAck,
    /// Agent to bridge: what a call tells.
    Chunk,
    /// Agent to bridge: a call's end.
    Result,
    /// Bridge to agent: the end is kept.
    ResultAck,
    /// Bridge to agent: the result is no longer wanted.
    Cancel,
    /// Agent to bridge: whether it can be stopped.
    CancelAck,
    /// Both: are you there?
    Ping,
    /// Both: yes.
    Pong,
    /// Both: a planned end.
    Goodbye,
    /// Bridge to its local agent: the servers to run.
    Configure,
}

impl Kind {
    /// Every type.
    pub const ALL: [Self; 15] = [
        Self::Hello,
        Self::Auth,
        Self::HelloAck,
        Self::Tools,
        Self::Invoke,
        Self::InvokeAck,
        Self::Chunk,
        Self::Result,
        Self::ResultAck,
        Self::Cancel,
        Self::CancelAck,
        Self::Ping,
        Self::Pong,
        Self::Goodbye,
        Self::Configure,
    ];

    /// The type as it is written.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Hello => "HELLO",
            Self::Auth => "AUTH",
            Self::HelloAck => "HELLO_ACK",
            Self::Tools => "TOOLS",
            Self::Invoke => "INVOKE",
            Self::InvokeAck => "INVOKE_ACK",
            Self::Chunk => "CHUNK",
            Self::Result => "RESULT",
            Self::ResultAck => "RESULT_ACK",
            Self::Cancel => "CANCEL",
            Self::CancelAck => "CANCEL_ACK",
            Self::Ping => "PING",
            Self::Pong => "PONG",
            Self::Goodbye => "GOODBYE",
            Self::Configure => "CONFIGURE",
        }
    }

    /// The type of that name.
    #[must_use]
    pub fn of(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == name)
    }

    /// Whether such a frame is about one call and must name it.
    #[must_use]
    pub fn names_call(self) -> bool {
        matches!(
            self,
            Self::Invoke
                | Self::InvokeAck
                | Self::Chunk
                | Self::Result
                | Self::ResultAck
                | Self::Cancel
                | Self::CancelAck
        )
    }

    /// Whether such a payload may come in parts.
    #[must_use]
    pub fn may_be_parted(self) -> bool {
        matches!(
            self,
            Self::Tools | Self::Invoke | Self::Result | Self::Configure
        )
    }
}

/// What a frame says.
#[derive(Debug, Clone)]
pub enum Payload {
    /// HELLO.
    Hello(Box<Hello>),
    /// AUTH.
    Auth(Auth),
    /// HELLO_ACK.
    HelloAck(Box<HelloAck>),
    /// TOOLS.
    Tools(Tools),
    /// INVOKE.
    Invoke(Box<Invoke>),
    /// INVOKE_ACK.
    InvokeAck(InvokeAck),
    /// CHUNK.
    Chunk(Chunk),
    /// RESULT.
    Result(CallResult),
    /// RESULT_ACK.
    ResultAck,
    /// CANCEL.
    Cancel(Cancel),
    /// CANCEL_ACK.
    CancelAck(CancelAck),
    /// PING.
    Ping,
    /// PONG.
    Pong,
    /// GOODBYE.
    Goodbye(Goodbye),
    /// CONFIGURE.
    Configure(Configure),
    /// A piece of a TOOLS, INVOKE, RESULT or CONFIGURE; see [`Assembly`].
    Part(Kind, Part),
}

impl Payload {
    /// The frame's type.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Self::Hello(_) => Kind::Hello,
            Self::Auth(_) => Kind::Auth,
            Self::HelloAck(_) => Kind::HelloAck,
            Self::Tools(_) => Kind::Tools,
            Self::Invoke(_) => Kind::Invoke,
            Self::InvokeAck(_) => Kind::InvokeAck,
            Self::Chunk(_) => Kind::Chunk,
            Self::Result(_) => Kind::Result,
            Self::ResultAck => Kind::ResultAck,
            Self::Cancel(_) => Kind::Cancel,
            Self::CancelAck(_) => Kind::CancelAck,
            Self::Ping => Kind::Ping,
            Self::Pong => Kind::Pong,
            Self::Goodbye(_) => Kind::Goodbye,
            Self::Configure(_) => Kind::Configure,
            Self::Part(kind, _) => *kind,
        }
    }
}

/// One message.
#[derive(Clone)]
pub struct Frame {
    /// Whose agent it is about; checked against the authenticated connection.
    pub agent_id: AgentId,
    /// The call, where the type names one ([`Kind::names_call`]).
    pub req_id: Option<ReqId>,
    /// The connection, as the bridge named it in HELLO_ACK; absent before.
    pub conn_session_id: Option<Arc<str>>,
    /// Rises by one per connection and direction, from 1.
    pub seq: u64,
    /// When it was made, in unix seconds.
    pub ts: u64,
    /// What it says.
    pub payload: Payload,
}

/// A payload may hold arguments, results and secrets: only its type is shown.
impl fmt::Debug for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Frame")
            .field("kind", &self.payload.kind())
            .field("agent_id", &self.agent_id)
            .field("req_id", &self.req_id)
            .field("seq", &self.seq)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
