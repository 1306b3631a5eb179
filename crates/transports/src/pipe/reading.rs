//! The reading end of a pair of streams: each line goes to whom it concerns.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::sync::mpsc;

use crate::connection::Inbound;
use crate::error::{CloseReason, RequestError};
use crate::frame::{Frame, Framer, find_id};
use crate::listen::{ACKNOWLEDGED, CANCELLED};
use crate::pending::Pending;
use crate::wire::{self, Incoming, ServerRequest};

/// Bytes asked for in one read.
const READ_CHUNK_BYTES: usize = 16 * 1024;

/// What the reading end knows.
pub(super) struct Reading {
    pub(super) pending: Arc<Pending>,
    pub(super) inbound: mpsc::Sender<Inbound>,
    pub(super) lines: mpsc::WeakSender<String>,
    pub(super) limit: usize,
    /// The call the present over-long line belongs to has failed already.
    pub(super) blamed: AtomicBool,
}

impl Reading {
    /// Reads to the end.
    pub(super) async fn run(&self, mut reader: impl AsyncRead + Unpin) -> CloseReason {
        let mut framer = Framer::new(self.limit);
        loop {
            let buffer: &mut BytesMut = framer.buffer();
            buffer.reserve(READ_CHUNK_BYTES);
            match reader.read_buf(buffer).await {
                Ok(0) if framer.rest() > 0 => {
                    return CloseReason::Lost("the stream ended inside a message".to_owned());
                }
                Ok(0) => return CloseReason::Lost("the stream ended".to_owned()),
                Ok(_) => {}
                Err(error) => {
                    return CloseReason::Lost(format!("reading failed: {}", error.kind()));
                }
            }
            while let Some(frame) = framer.next_frame() {
                self.take(frame);
            }
        }
    }

    fn take(&self, frame: Frame) {
        match frame {
            Frame::Line(line) => match wire::parse(&line) {
                Ok(message) => self.deliver(message),
                Err(_) => self.garbage(&line),
            },
            Frame::TooLong { head } => {
                self.pending.count_garbage();
                self.blamed.store(false, Ordering::Relaxed);
                self.too_long(find_id(&head, false));
            }
            Frame::TooLongEnded { tail } => {
                // Its end says whose it was only when its beginning did not.
                if !self.blamed.load(Ordering::Relaxed) {
                    self.too_long(find_id(&tail, true));
                }
            }
        }
    }

    fn deliver(&self, message: Incoming) {
        match message {
            Incoming::Response(response) => self.pending.answer(response),
            Incoming::Notification(notification) => {
                let rest = match notification.method.as_str() {
                    "notifications/progress" => self.pending.progress(notification),
                    "notifications/message" => self.pending.log(notification),
                    ACKNOWLEDGED | CANCELLED => self.pending.about_standing(notification),
                    _ => Some(notification),
                };
                if let Some(notification) = rest
                    && self
                        .inbound
                        .try_send(Inbound::Notification(notification))
                        .is_err()
                {
                    self.pending.count_dropped();
                }
            }
            Incoming::Request(request) => self.ask(request),
            Incoming::Batch(messages) => messages
                .into_iter()
                .for_each(|message| self.deliver(message)),
        }
    }

    /// A request of the server. With nobody to take it, it is refused at once: never a hang.
    fn ask(&self, request: ServerRequest) {
        let id = request.id.clone();
        if self.inbound.try_send(Inbound::Request(request)).is_err() {
            self.pending.count_dropped();
            let refusal =
                wire::encode_answer(&id, &Err((-32603, "the client is too busy".to_owned())));
            if let Some(lines) = self.lines.upgrade() {
                let _ = lines.try_send(refusal);
            }
        }
    }

    /// A line that is no message. One that begins like the answer to a call was that answer, broken:
    /// its call fails now instead of at its deadline.
    fn garbage(&self, line: &[u8]) {
        self.pending.count_garbage();
        let broken = line.starts_with(b"{") && memchr::memmem::find(line, b"\"jsonrpc\"").is_some();
        if let Some(id) = find_id(line, false).filter(|_| broken) {
            self.pending.fail(
                id,
                RequestError::Protocol {
                    detail: "the answer is no valid JSON".to_owned(),
                },
            );
        }
    }

    fn too_long(&self, id: Option<u64>) {
        // Without an id it was this call's answer when nobody else is waiting.
        let only = || match self.pending.ids()[..] {
            [only] => Some(only),
            _ => None,
        };
        if let Some(id) = id.or_else(only) {
            self.blamed.store(true, Ordering::Relaxed);
            let limit_bytes = self.limit;
            self.pending
                .fail(id, RequestError::TooLarge { limit_bytes });
        }
    }
}
