//! Every bound of the tunnel (`design/tunnel.md`), and the codes a connection is closed with.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The WebSocket subprotocol both sides must name.
pub const SUBPROTOCOL: &str = "paperbot.tunnel.v1";
/// The revision of the frames.
pub const PROTOCOL: u32 = 1;

/// Longest frame, in bytes of its text.
pub const FRAME_BYTES: usize = 1024 * 1024;
/// Longest payload sent in parts (a RESULT, TOOLS, INVOKE or CONFIGURE), in bytes of its JSON.
pub const RESULT_BYTES: usize = 16 * 1024 * 1024;
/// Bytes of a payload in one part. As JSON text it may double (each byte an escape), and must fit a frame then.
pub const PART_BYTES: usize = 480 * 1024;
/// Most parts of one payload.
pub const PARTS: usize = RESULT_BYTES.div_ceil(PART_BYTES - 4);
/// A payload of this size or more goes in parts: the envelope around it has its ids only.
pub const WHOLE_BYTES: usize = FRAME_BYTES - 2048;

/// Longest text of what an agent says of itself, in bytes; the rest is cut off.
pub const META_TEXT_BYTES: usize = 256;
/// Servers one agent may offer.
pub const SERVERS: usize = 256;
/// Entries of one list of one server.
pub const LIST_ENTRIES: usize = 10_000;
/// Calls in flight per agent.
pub const IN_FLIGHT: usize = 256;
/// Longest `req_id`, in bytes.
pub const REQ_ID_BYTES: usize = 128;
/// Most ids in one list of HELLO or HELLO_ACK, so that the frame keeps its bound.
pub const RESUME_IDS: usize = 4096;

/// How long a side hears nothing before it takes the line for dead.
pub const READ_DEADLINE: Duration = Duration::from_mins(1);
/// How often each side says PING.
pub const PING_EVERY: Duration = Duration::from_secs(20);
/// How long the bridge waits for HELLO and AUTH, and an agent for the answer.
pub const HELLO_DEADLINE: Duration = Duration::from_secs(10);

/// CHUNK bytes an agent holds for a line that is slow or away.
pub const CHUNK_BUFFER_BYTES: usize = 4 * 1024 * 1024;
/// Longest `data` of one CHUNK, in bytes.
pub const CHUNK_FRAME_BYTES: usize = 16 * 1024;

/// Finished results an agent keeps on disk, in bytes.
pub const SPOOL_BYTES: u64 = 256 * 1024 * 1024;
/// How long an agent keeps a finished result.
pub const SPOOL_AGE: Duration = Duration::from_hours(24);

/// The first wait before an agent dials again; doubles.
pub const RECONNECT_INITIAL: Duration = Duration::from_secs(1);
/// The longest wait before an agent dials again.
pub const RECONNECT_MAX: Duration = Duration::from_mins(1);
/// A line that held so long was a good one: the wait begins small again.
pub const HEALTHY: Duration = Duration::from_mins(1);

/// Bad frames after which a good connection is closed.
pub const BAD_FRAMES: u32 = 3;

/// Close codes (RFC 6455 § 7.4 and the private range).
pub mod close {
    /// Nothing is wrong; the side that closes goes or wants a new connection.
    pub const NORMAL: u16 = 1000;
    /// The side that closes shuts down.
    pub const GOING_AWAY: u16 = 1001;
    /// Before the handshake's end: a bad token, a bad envelope, a frame out of turn.
    pub const POLICY: u16 = 1008;
    /// A message over [`super::FRAME_BYTES`].
    pub const TOO_BIG: u16 = 1009;
    /// Too many bad frames.
    pub const BAD_FRAMES: u16 = 4400;
    /// The token was reset or the agent deleted.
    pub const REVOKED: u16 = 4401;
    /// Nothing was heard for [`super::READ_DEADLINE`].
    pub const SILENT: u16 = 4408;
    /// A newer connection of the same agent.
    pub const REPLACED: u16 = 4409;
}

/// The bounds the bridge tells an agent in HELLO_ACK.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// [`FRAME_BYTES`].
    pub frame_bytes: usize,
    /// [`RESULT_BYTES`].
    pub result_bytes: usize,
    /// [`IN_FLIGHT`].
    pub in_flight: usize,
    /// [`READ_DEADLINE`] in milliseconds.
    pub read_deadline_ms: u64,
    /// [`PING_EVERY`] in milliseconds.
    pub ping_every_ms: u64,
    /// [`CHUNK_FRAME_BYTES`].
    pub chunk_frame_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            frame_bytes: FRAME_BYTES,
            result_bytes: RESULT_BYTES,
            in_flight: IN_FLIGHT,
            read_deadline_ms: 60_000,
            ping_every_ms: 20_000,
            chunk_frame_bytes: CHUNK_FRAME_BYTES,
        }
    }
}
