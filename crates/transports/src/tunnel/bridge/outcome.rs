//! What the agent says of a call, in the words of every other carrier.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::Deserialize;
use serde_json::value::{RawValue, to_raw_value};
use tokio::sync::{mpsc, oneshot};

use super::agent::{ACKED, DROPPED};
use super::core::Core;
use super::machine::{Ending, Told, Waiter};
use crate::error::{Executed, RequestError};
use crate::tunnel::frame::{CallResult, Channel, Chunk, Failure, FailureCode};
use crate::wire::{Notification, RpcError};

/// Who waits for a call.
#[derive(Debug)]
pub(super) struct Listening {
    end: oneshot::Sender<Ending>,
    following: Option<Following>,
}

/// Who hears of a call while it runs.
#[derive(Debug)]
struct Following {
    notes: mpsc::Sender<Notification>,
    /// With whom losses are counted.
    core: Arc<Core>,
    /// What was lost and not told yet.
    lost: Mutex<Lost>,
}

/// Words of a call that its follower did not get, here or at the agent.
#[derive(Debug, Clone, Copy, Default)]
struct Lost {
    /// Where the last of them came from.
    channel: Option<Channel>,
    bytes: u64,
    lines: u64,
}

impl Lost {
    fn of(chunk: &Chunk) -> Self {
        Self {
            channel: Some(chunk.channel),
            bytes: chunk.dropped_bytes,
            lines: chunk.dropped_lines,
        }
    }

    fn is_nothing(self) -> bool {
        (self.bytes, self.lines) == (0, 0)
    }

    fn add(&mut self, other: Self) {
        self.channel = other.channel.or(self.channel);
        self.bytes = self.bytes.saturating_add(other.bytes);
        self.lines = self.lines.saturating_add(other.lines);
    }

    fn note(self) -> Notification {
        let channel = self.channel.unwrap_or(Channel::Stderr);
        Notification {
            method: DROPPED.to_owned(),
            params: to_raw_value(&serde_json::json!({
                "channel": channel.as_str(),
                "bytes": self.bytes,
                "lines": self.lines,
            }))
            .ok(),
        }
    }
}

impl Listening {
    pub(super) fn new(
        core: &Arc<Core>,
        end: oneshot::Sender<Ending>,
        progress: Option<mpsc::Sender<Notification>>,
    ) -> Self {
        let following = progress.map(|notes| Following {
            notes,
            core: Arc::clone(core),
            lost: Mutex::default(),
        });
        Self { end, following }
    }
}

impl Waiter for Listening {
    fn told(&self, told: Told) {
        let Some(following) = &self.following else {
            return;
        };
        match told {
            Told::Acked => {
                let acked = Notification {
                    method: ACKED.to_owned(),
                    params: None,
                };
                following.tell(acked, Lost::default());
            }
            Told::Chunk(chunk) => following.hear(chunk),
        }
    }

    fn ended(self, ending: Ending) {
        if let Some(following) = &self.following {
            following.tell_losses();
        }
        // The caller may have given up just now; then nobody needs it.
        let _ = self.end.send(ending);
    }
}

impl Following {
    /// A CHUNK as the notifications it stands for.
    fn hear(&self, chunk: Chunk) {
        self.lost().add(Lost::of(&chunk));
        if chunk.data.is_empty() {
            return;
        }
        let if_lost = Lost {
            channel: Some(chunk.channel),
            bytes: u64::try_from(chunk.data.len()).unwrap_or(u64::MAX),
            lines: u64::try_from(chunk.data.lines().count()).unwrap_or(u64::MAX),
        };
        self.tell(note(chunk), if_lost);
    }

    /// Hands it over; what finds no room is told as lost with the next that does, or before the end.
    fn tell(&self, note: Notification, if_lost: Lost) {
        let mut lost = self.lost();
        // One place stays free: what was lost at last must find room too.
        if !lost.is_nothing() && self.notes.capacity() > 2 {
            let _ = self.notes.try_send(std::mem::take(&mut *lost).note());
        }
        let room = lost.is_nothing() && self.notes.capacity() > 1;
        if !room || self.notes.try_send(note).is_err() {
            lost.add(if_lost);
            self.core.count_lost();
        }
    }

    fn tell_losses(&self) {
        let lost = std::mem::take(&mut *self.lost());
        if !lost.is_nothing() {
            // Without a receiver nobody wants to know.
            let _ = self.notes.try_send(lost.note());
        }
    }

    fn lost(&self) -> MutexGuard<'_, Lost> {
        self.lost.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn note(chunk: Chunk) -> Notification {
    let plain = |text| serde_json::json!({"progress": 0, "message": text});
    let (method, params) = match chunk.channel {
        Channel::Progress => ("notifications/progress", object(chunk.data).map_err(plain)),
        Channel::Stdout => ("notifications/progress", Err(plain(chunk.data))),
        Channel::Stderr => (
            "notifications/message",
            object(chunk.data).map_err(|text| serde_json::json!({"level": "info", "data": text})),
        ),
    };
    Notification {
        method: method.to_owned(),
        params: params.or_else(|json| to_raw_value(&json)).ok(),
    }
}

/// The text as a JSON object, when it is one.
fn object(text: String) -> Result<Box<RawValue>, String> {
    if !text.starts_with('{') || serde_json::from_str::<&RawValue>(&text).is_err() {
        return Err(text);
    }
    RawValue::from_string(text).map_err(|_| String::new())
}

/// What the caller is told.
pub(super) fn outcome(ending: Ending, timeout: Duration) -> Result<Box<RawValue>, RequestError> {
    let result = match ending {
        Ending::Result(result) => result,
        Ending::Lost { detail } => {
            let detail = detail.to_owned();
            return Err(RequestError::Disconnected { detail });
        }
        Ending::NotSent => {
            return Err(RequestError::Closed {
                executed: Executed::No,
            });
        }
    };
    match result {
        CallResult {
            ok: true,
            result_json: Some(raw),
            ..
        } => Ok(raw),
        CallResult {
            error: Some(failure),
            ..
        } => Err(failed(failure, timeout)),
        // The reader of frames lets neither pass.
        CallResult { .. } => Err(RequestError::Protocol {
            detail: "the agent said neither a result nor an error".to_owned(),
        }),
    }
}

fn failed(failure: Failure, timeout: Duration) -> RequestError {
    let detail = failure.message;
    match failure.code {
        FailureCode::Canceled => RequestError::Closed {
            executed: Executed::Unknown,
        },
        FailureCode::Timeout => RequestError::Timeout { after: timeout },
        FailureCode::Disconnected => RequestError::Disconnected { detail },
        FailureCode::UpstreamExited => RequestError::Exited {
            detail,
            status: None,
            stderr: Vec::new(),
        },
        FailureCode::ProtocolError => match rpc_of(failure.details.as_deref()) {
            Some(rpc) => RequestError::Rpc {
                code: rpc.code,
                message: rpc.message,
                data: rpc.data,
            },
            None => RequestError::Protocol { detail },
        },
        FailureCode::ToolNotFound => RequestError::Rpc {
            code: -32602,
            message: detail,
            data: None,
        },
        FailureCode::Rejected => RequestError::Unreachable { detail },
    }
}

/// The error the server itself answered with.
fn rpc_of(details: Option<&RawValue>) -> Option<RpcError> {
    #[derive(Deserialize)]
    struct Details {
        rpc: RpcError,
    }
    serde_json::from_str::<Details>(details?.get())
        .ok()
        .map(|details| details.rpc)
}
