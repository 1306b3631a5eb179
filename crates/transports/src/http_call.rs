//! One call over streamable HTTP: what is sent, what the answer means, what is harmless to send again.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, StatusCode};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::error::RequestError;
use crate::handshake;
use crate::http_answer::{self, Media, Refusal, protocol};
use crate::http_core::{Core, Speech};
use crate::http_headers;
use crate::http_stream;
use crate::spec::Era;
use crate::wire::{self, Incoming as Message, Request};

/// The specification's code for headers that do not match the body.
const MISMATCH: i64 = -32020;
/// Pages of a tool list read to learn mirrored arguments.
const MAX_LEARNT_PAGES: usize = 100;

/// One request on its way.
pub(crate) struct Call<'a> {
    pub(crate) id: u64,
    pub(crate) line: Bytes,
    pub(crate) request: &'a Request,
}

/// How one attempt failed.
pub(crate) enum Failure {
    /// The session is unknown to the server.
    SessionLost,
    /// A kept connection was closed by the server just when it was used.
    Stale(RequestError),
    Final(RequestError),
}

impl From<RequestError> for Failure {
    fn from(error: RequestError) -> Self {
        Self::Final(error)
    }
}

impl Failure {
    /// As the caller sees it when nothing more is tried.
    pub(crate) fn into_error(self) -> RequestError {
        match self {
            Self::SessionLost => protocol("the server lost the session"),
            Self::Stale(error) | Self::Final(error) => error,
        }
    }
}

/// A raw result, or why there is none.
pub(crate) type Outcome = Result<Box<RawValue>, RequestError>;

impl Core {
    /// One call, with what is repeated after a fault that is known to be harmless.
    pub(crate) async fn call(self: &Arc<Self>, call: &Call<'_>) -> Outcome {
        let speech = self.speech();
        match self.post(&speech, call).await {
            Ok(result) => Ok(result),
            // The rare ways are boxed, so that the common one stays small.
            Err(Failure::SessionLost) => Box::pin(self.after_lost_session(&speech, call)).await,
            Err(Failure::Stale(_)) if call.request.repeatable => {
                self.post_again(&speech, call).await
            }
            Err(Failure::Final(RequestError::Rpc { code: MISMATCH, .. }))
                if speech.era == Era::Modern && call.request.method == "tools/call" =>
            {
                // The server refused the headers before it looked at the call (-32020).
                Box::pin(self.learn_mirrored(&speech)).await;
                self.post_again(&speech, call).await
            }
            Err(failure) => Err(failure.into_error()),
        }
    }

    pub(crate) async fn post_again(self: &Arc<Self>, speech: &Speech, call: &Call<'_>) -> Outcome {
        Box::pin(self.post(speech, call))
            .await
            .map_err(Failure::into_error)
    }

    /// Lists the tools once more to learn which arguments the server wants in headers: the list the catalogue
    /// has may have come over another connection. What cannot be learnt shows as the repeated refusal.
    pub(crate) async fn learn_mirrored(&self, speech: &Speech) {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Next {
            next_cursor: Option<String>,
        }
        let mut cursor: Option<String> = None;
        for _ in 0..MAX_LEARNT_PAGES {
            let mut params = wire::Params::default();
            if let Some(cursor) = &cursor {
                params = params.with_text("cursor", cursor);
            }
            let request = Request {
                params,
                ..Request::new("tools/list", Duration::ZERO)
            };
            let mut headers = speech.headers.clone();
            http_headers::add_method(&mut headers, &request.method);
            let line = wire::encode_request(0, &request, handshake::meta_of(Era::Modern, None));
            let Ok(response) = self.send(Method::POST, headers, Bytes::from(line)).await else {
                return;
            };
            let Ok(result) = http_stream::first_result(response, self.frame_bytes).await else {
                return;
            };
            let result = self.mirrored.learn(result);
            cursor = serde_json::from_str::<Next>(result.get())
                .ok()
                .and_then(|next| next.next_cursor);
            if cursor.is_none() {
                return;
            }
        }
    }

    pub(crate) async fn post(
        self: &Arc<Self>,
        speech: &Speech,
        call: &Call<'_>,
    ) -> Result<Box<RawValue>, Failure> {
        let greets = call.request.method == "initialize";
        let mut headers = if greets {
            self.base.clone()
        } else {
            speech.headers.clone()
        };
        if speech.era == Era::Modern {
            http_headers::add_routing(&mut headers, call.request);
            self.mirrored.add(&mut headers, call.request);
        }
        let sent = self.send(Method::POST, headers, call.line.clone()).await;
        let response = sent.map_err(|fault| {
            if fault.stale {
                Failure::Stale(http_answer::unanswered(fault))
            } else {
                Failure::Final(http_answer::unanswered(fault))
            }
        })?;
        if !response.status().is_success() {
            return Err(self.refused(http_answer::read_refusal(response).await, speech, greets));
        }
        if greets {
            self.take_session(&response, &call.line);
        }
        let result = match http_answer::media(response.headers()) {
            Media::Json => {
                let body = http_answer::read_json(response.into_body(), self.frame_bytes).await?;
                self.json_answer(&body, call).await?
            }
            Media::EventStream => {
                http_stream::read(self, response.into_body(), call, speech).await?
            }
            Media::Other(_) if response.status() == StatusCode::ACCEPTED => {
                return Err(protocol("the server took the request but answered nothing").into());
            }
            Media::Other(kind) => {
                let detail = format!("the server answered with `{kind}` instead of JSON");
                return Err(RequestError::Protocol { detail }.into());
            }
        };
        if speech.era == Era::Modern && call.request.method == "tools/list" {
            return Ok(self.mirrored.learn(result));
        }
        Ok(result)
    }

    pub(crate) fn refused(&self, refusal: Refusal, speech: &Speech, greets: bool) -> Failure {
        if greets {
            let no_post = matches!(refusal.status.as_u16(), 400 | 404 | 405) && !refusal.is_rpc;
            self.knows_no_post.store(no_post, Ordering::Relaxed);
        } else if speech.session.is_some() && refusal.session_unknown {
            return Failure::SessionLost;
        }
        Failure::Final(refusal.error)
    }

    /// The answer in a body of JSON: alone, or in a batch with what else the server had to say.
    pub(crate) async fn json_answer(self: &Arc<Self>, body: &[u8], call: &Call<'_>) -> Outcome {
        let message = wire::parse(body).map_err(|_| {
            self.garbage.fetch_add(1, Ordering::Relaxed);
            protocol("the answer is no JSON-RPC message")
        })?;
        let messages = match message {
            Message::Batch(messages) => messages,
            one => vec![one],
        };
        let mut answer = None;
        for message in messages {
            if let Some(outcome) = self.take(message, call).await? {
                answer = Some(outcome);
            }
        }
        answer.unwrap_or_else(|| Err(protocol("the body holds no answer")))
    }

    /// Takes one message of a call's own stream; `Some` when it is the answer.
    pub(crate) async fn take(
        self: &Arc<Self>,
        message: Message,
        call: &Call<'_>,
    ) -> Result<Option<Outcome>, RequestError> {
        match message {
            Message::Response(response) => {
                // An error that could not even read our id still answers the only request of this exchange.
                let ours = response.id == Some(call.id)
                    || (response.id.is_none() && response.outcome.is_err());
                if !ours {
                    self.garbage.fetch_add(1, Ordering::Relaxed);
                    return Err(protocol("the server answered an id it was not asked with"));
                }
                let outcome = response.outcome.map_err(|error| RequestError::Rpc {
                    code: error.code,
                    message: error.message,
                    data: error.data,
                });
                Ok(Some(outcome))
            }
            Message::Notification(notification) => {
                self.hand_on(notification, Some(call.request));
                Ok(None)
            }
            // Rare, and large: boxed, so that every exchange need not hold the room.
            Message::Request(asked) => {
                Box::pin(self.ask(asked, call.request.asks.as_ref())).await;
                Ok(None)
            }
            other @ Message::Batch(_) => {
                Box::pin(self.deliver(other)).await;
                Ok(None)
            }
        }
    }
}
