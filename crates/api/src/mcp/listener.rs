//! The GET stream of a session: one connection at a time, the newest.

use std::sync::{Mutex, PoisonError};

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// Messages that wait for the stream.
const MAX_SAID: usize = 64;

/// The connection that gets unsolicited messages.
#[derive(Debug, Default)]
pub(super) struct Listener(Mutex<Option<Connected>>);

#[derive(Debug)]
struct Connected {
    replaced: CancellationToken,
    said: mpsc::Sender<Vec<u8>>,
}

/// What a connection hears.
#[derive(Debug)]
pub(super) struct Heard {
    /// Cancelled when a newer connection takes over, or the session ends.
    pub(super) replaced: CancellationToken,
    /// What is [said](Listener::say).
    pub(super) said: mpsc::Receiver<Vec<u8>>,
}

impl Listener {
    /// This connection listens from now on; the one before it ends. `gone`: when the session does.
    pub(super) fn connect(&self, gone: &CancellationToken) -> Heard {
        let replaced = gone.child_token();
        let (said, heard) = mpsc::channel(MAX_SAID);
        let connected = Connected {
            replaced: replaced.clone(),
            said,
        };
        let mut now = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(before) = now.replace(connected) {
            before.replaced.cancel();
        }
        Heard {
            replaced,
            said: heard,
        }
    }

    /// Says something. Where nobody listens, or not fast enough, it is lost.
    pub(super) fn say(&self, json: Vec<u8>) {
        let now = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(connected) = &*now {
            let _ = connected.said.try_send(json);
        }
    }
}
