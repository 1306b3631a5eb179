//! Messages over streamable HTTP that are no call: what the server says by itself, and what we tell it.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method};
use tokio::sync::mpsc;

use crate::connection::Inbound;
use crate::error::RequestError;
use crate::http_answer;
use crate::http_core::{Core, NOTIFY_TIMEOUT};
use crate::http_headers;
use crate::spec::Era;
use crate::wire::{self, Incoming as Message, Notification, Request, ServerRequest};

/// News about the server as a whole. Old servers send them on whatever stream is open.
fn concerns_everybody(method: &str) -> bool {
    matches!(
        method,
        "notifications/tools/list_changed"
            | "notifications/prompts/list_changed"
            | "notifications/resources/list_changed"
            | "notifications/resources/updated"
    )
}

impl Core {
    /// A notification of a call's own stream: it belongs to the call unless it is news for everybody.
    pub(crate) fn hand_on(&self, notification: Notification, of: Option<&Request>) {
        let progress = of.and_then(|request| request.progress.as_ref());
        let losses = of.and_then(|request| request.losses.as_deref());
        let is_progress = notification.method == "notifications/progress";
        let lost = match progress {
            Some(channel) if !concerns_everybody(&notification.method) => {
                let full = channel.try_send(notification).is_err();
                if let Some(losses) = losses.filter(|_| full) {
                    losses.fetch_add(1, Ordering::Relaxed);
                    return;
                }
                full
            }
            // Nobody asked for it.
            None if is_progress => false,
            _ => self
                .inbound
                .try_send(Inbound::Notification(notification))
                .is_err(),
        };
        if lost {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Takes a message that belongs to no call.
    pub(crate) async fn deliver(self: &Arc<Self>, message: Message) {
        let messages = match message {
            Message::Batch(messages) => messages,
            one => vec![one],
        };
        for message in messages {
            match message {
                Message::Notification(notification) => self.hand_on(notification, None),
                Message::Request(request) => self.ask(request, None).await,
                Message::Response(_) | Message::Batch(_) => {
                    self.garbage.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
    }

    /// A request of the server, for the call on whose stream it came or for whoever owns the connection.
    /// With nobody to take it, it is declined at once: never a hang.
    pub(crate) async fn ask(
        &self,
        request: ServerRequest,
        asks: Option<&mpsc::Sender<ServerRequest>>,
    ) {
        let id = request.id.clone();
        // A ping asks for the connection, whatever stream it takes.
        let taken = match asks.filter(|_| request.method != "ping") {
            Some(channel) => channel.try_send(request).is_ok(),
            None => self.inbound.try_send(Inbound::Request(request)).is_ok(),
        };
        if !taken {
            self.dropped.fetch_add(1, Ordering::Relaxed);
            let refusal =
                wire::encode_answer(&id, &Err((-32603, "the client is too busy".to_owned())));
            // If it cannot be told, the server has its own deadline.
            let _ = self.notify(refusal, NOTIFY_TIMEOUT).await;
        }
    }

    /// Makes the catalogue look again, after a stretch in which its server may have changed unseen.
    pub(crate) fn announce_possible_change(&self) {
        let method = "notifications/tools/list_changed".to_owned();
        self.hand_on(
            Notification {
                method,
                params: None,
            },
            None,
        );
    }

    pub(crate) async fn notify(&self, line: String, timeout: Duration) -> Result<(), RequestError> {
        let speech = self.speech();
        let mut headers = speech.headers.clone();
        if speech.era == Era::Modern
            && let Ok(Message::Notification(notification)) = wire::parse(line.as_bytes())
        {
            http_headers::add_method(&mut headers, &notification.method);
        }
        let told = tokio::time::timeout(timeout, self.tell(headers, Bytes::from(line)));
        told.await
            .unwrap_or(Err(RequestError::Timeout { after: timeout }))
    }

    pub(crate) async fn tell(&self, headers: HeaderMap, line: Bytes) -> Result<(), RequestError> {
        let response = self
            .send(Method::POST, headers, line)
            .await
            .map_err(http_answer::unanswered)?;
        if !response.status().is_success() {
            return Err(http_answer::read_refusal(response).await.error);
        }
        http_answer::drain(response).await;
        Ok(())
    }
}
