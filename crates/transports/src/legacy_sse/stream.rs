//! The GET stream: its `endpoint` event, then everything the server says.

use std::sync::Arc;

use http::Uri;
use tokio::sync::mpsc;
use url::Url;

use super::{NOTIFY_TIMEOUT, Shared};
use crate::connection::Inbound;
use crate::error::{CloseReason, ConnectError, RequestError};
use crate::http_pool::Answer;
use crate::pending::Pending;
use crate::sse::{SseFault, SseReader};
use crate::wire::{self, Incoming as Message};

/// Waits for the event that says where to POST, and holds it to the stream's own origin: an endpoint
/// elsewhere would be handed our headers.
pub(super) async fn find_endpoint(
    reader: &mut SseReader<Answer>,
    stream: &Url,
) -> Result<Uri, ConnectError> {
    let protocol = |detail: &str| ConnectError::Protocol {
        detail: detail.to_owned(),
    };
    loop {
        let event = reader
            .next()
            .await
            .map_err(|_| protocol("the stream broke before its endpoint event"))?;
        let event = event.ok_or_else(|| protocol("the stream ended before its endpoint event"))?;
        if event.event.as_deref() != Some("endpoint") {
            continue;
        }
        let text =
            std::str::from_utf8(&event.data).map_err(|_| protocol("the endpoint is no text"))?;
        let endpoint = stream
            .join(text.trim())
            .map_err(|_| protocol("the endpoint is no URL"))?;
        let names_user = !endpoint.username().is_empty() || endpoint.password().is_some();
        if names_user || endpoint.origin() != stream.origin() {
            return Err(protocol("the endpoint has another origin than the stream"));
        }
        return endpoint
            .as_str()
            .parse()
            .map_err(|_| protocol("the endpoint is no URL"));
    }
}

/// The reader of the stream.
pub(super) struct Hearing {
    pub(super) pending: Arc<Pending>,
    pub(super) shared: Arc<Shared>,
    pub(super) inbound: mpsc::Sender<Inbound>,
}

impl Hearing {
    /// Hears until the stream ends, and says why it did.
    pub(super) async fn run(
        &self,
        mut reader: SseReader<Answer>,
        limit_bytes: usize,
    ) -> CloseReason {
        loop {
            let event = match reader.next().await {
                Ok(Some(event)) => event,
                Ok(None) => return CloseReason::Lost("the event stream ended".to_owned()),
                Err(SseFault::Broken) => {
                    return CloseReason::Lost("the event stream broke".to_owned());
                }
                Err(SseFault::TooLarge) => {
                    // What follows cannot be told apart any more, so the stream is over for all.
                    self.pending.end(|| RequestError::TooLarge { limit_bytes });
                    return CloseReason::Lost("an event was over the limit".to_owned());
                }
            };
            if matches!(event.event.as_deref(), None | Some("" | "message"))
                && !event.data.is_empty()
            {
                match wire::parse(&event.data) {
                    Ok(message) => self.take(message).await,
                    Err(_) => self.pending.count_garbage(),
                }
            }
        }
    }

    async fn take(&self, message: Message) {
        let messages = match message {
            Message::Batch(messages) => messages,
            one => vec![one],
        };
        for message in messages {
            match message {
                Message::Response(response) => self.pending.answer(response),
                Message::Notification(notification) => {
                    let rest = match notification.method.as_str() {
                        "notifications/progress" => self.pending.progress(notification),
                        "notifications/message" => self.pending.log(notification),
                        _ => Some(notification),
                    };
                    let lost = rest.is_some_and(|rest| {
                        self.inbound.try_send(Inbound::Notification(rest)).is_err()
                    });
                    if lost {
                        self.pending.count_dropped();
                    }
                }
                Message::Request(request) => {
                    let id = request.id.clone();
                    if self.inbound.try_send(Inbound::Request(request)).is_err() {
                        self.pending.count_dropped();
                        let refusal = wire::encode_answer(
                            &id,
                            &Err((-32603, "the client is too busy".to_owned())),
                        );
                        // If it cannot be told, the server has its own deadline.
                        let _ =
                            tokio::time::timeout(NOTIFY_TIMEOUT, self.shared.post(refusal)).await;
                    }
                }
                Message::Batch(_) => self.pending.count_garbage(),
            }
        }
    }
}
