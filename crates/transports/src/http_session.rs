//! The session of a legacy server over streamable HTTP: kept, and opened once more when it was lost.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Method, Response};
use serde::Deserialize;

use crate::error::{Executed, RequestError};
use crate::http_answer::{self, protocol};
use crate::http_call::{Call, Outcome};
use crate::http_core::{Core, Speech};
use crate::http_headers::{SESSION, VERSION};
use crate::http_pool::Answer;
use crate::http_stream;
use crate::spec::Era;
use crate::wire::{self, EraMeta};
use crate::wishes::{log_level_request, watch_request};

/// How long a call that failed with its session waits for the new one.
const RENEWAL_PATIENCE: Duration = Duration::from_secs(1);
/// How long a new session may take to be told one thing it forgot.
const SAY_AGAIN_TIMEOUT: Duration = Duration::from_secs(30);
/// Longest session id; it travels in each request's head.
const MAX_SESSION_BYTES: usize = 1024;

impl Core {
    pub(crate) fn speech_of(
        &self,
        era: Era,
        version: &str,
        (session, generation): (Option<HeaderValue>, u64),
    ) -> Speech {
        let mut headers = self.base.clone();
        if let Ok(version) = HeaderValue::from_str(version) {
            headers.insert(VERSION, version);
        }
        if let Some(session) = &session {
            headers.insert(SESSION, session.clone());
        }
        Speech {
            era,
            session,
            generation,
            headers,
        }
    }

    /// Keeps the session a server gave with its answer to `initialize`, and how it was asked.
    pub(crate) fn take_session(&self, response: &Response<Answer>, line: &Bytes) {
        let session = response
            .headers()
            .get(SESSION)
            .filter(|id| id.len() <= MAX_SESSION_BYTES)
            .cloned();
        let session = session.map(|mut id| {
            id.set_sensitive(true);
            id
        });
        self.greeting.send_replace(Some(line.clone()));
        self.respeak(|speech| Speech {
            era: speech.era,
            headers: speech.headers.clone(),
            session,
            generation: speech.generation,
        });
    }

    pub(crate) async fn after_lost_session(
        self: &Arc<Self>,
        speech: &Speech,
        call: &Call<'_>,
    ) -> Outcome {
        if call.request.repeatable {
            self.renew(speech.generation).await?;
            return self.post_again(&self.speech(), call).await;
        }
        let (core, lost) = (Arc::clone(self), speech.generation);
        let renewing = self.tasks.spawn(async move {
            tokio::select! {
                () = core.stop.cancelled() => {}
                // Who needs the session finds it dead once more, and sees why.
                _ = core.renew(lost) => {}
            }
        });
        // The next call should find the new session, but this one's failure is known already.
        let _ = tokio::time::timeout(RENEWAL_PATIENCE, renewing).await;
        Err(protocol(
            "the server lost the session; the call was not sent again",
        ))
    }

    /// Opens a new session in place of number `lost`. Of several that found it dead, one does the work.
    pub(crate) async fn renew(self: &Arc<Self>, lost: u64) -> Result<(), RequestError> {
        let Ok(_turn) = self.renewing.acquire().await else {
            return Err(RequestError::Closed {
                executed: Executed::No,
            });
        };
        if self.speech().generation != lost {
            return Ok(());
        }
        let greeting = self.greeting.borrow().clone();
        let greeting = greeting.ok_or_else(|| protocol("the session was lost"))?;
        let renewed = tokio::time::timeout(self.renew_timeout, self.greet_again(greeting, lost));
        renewed.await.unwrap_or(Err(RequestError::Timeout {
            after: self.renew_timeout,
        }))?;
        self.announce_possible_change();
        let core = Arc::clone(self);
        self.tasks.spawn(async move {
            tokio::select! {
                () = core.stop.cancelled() => {}
                () = core.say_again(lost + 1) => {}
            }
        });
        Ok(())
    }

    /// Tells a new session what was asked of the one before it: the log level and the watched resources.
    /// Beside the calls, not before them; given up when the session is replaced in its turn.
    async fn say_again(&self, generation: u64) {
        let level = self.wishes.log_level().map(log_level_request);
        let watched = self.wishes.wanted().resources;
        let watched = watched.iter().map(|uri| watch_request(true, uri));
        for request in level.into_iter().chain(watched) {
            let speech = self.speech();
            if speech.generation != generation {
                return;
            }
            // One after the other under the one id that no call has.
            let line = Bytes::from(wire::encode_request(0, &request, EraMeta::Legacy));
            let said = async {
                let sent = self.send(Method::POST, speech.headers.clone(), line).await;
                let response = sent.map_err(http_answer::unanswered)?;
                if !response.status().is_success() {
                    return Err(http_answer::read_refusal(response).await.error);
                }
                http_stream::first_result(response, self.frame_bytes).await
            };
            match tokio::time::timeout(SAY_AGAIN_TIMEOUT, said).await {
                Ok(Ok(_)) => {}
                Ok(Err(error)) => {
                    tracing::warn!(rpc.method = %request.method, error = %error, "transports.not_said_again");
                }
                Err(_elapsed) => {
                    tracing::warn!(rpc.method = %request.method, "transports.not_said_again");
                }
            }
        }
    }

    pub(crate) async fn greet_again(&self, greeting: Bytes, lost: u64) -> Result<(), RequestError> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Initialized {
            protocol_version: String,
        }
        let sent = self.send(Method::POST, self.base.clone(), greeting).await;
        let response = sent.map_err(http_answer::unanswered)?;
        if !response.status().is_success() {
            return Err(http_answer::read_refusal(response).await.error);
        }
        let session = response
            .headers()
            .get(SESSION)
            .filter(|id| id.len() <= MAX_SESSION_BYTES)
            .cloned();
        let result = http_stream::first_result(response, self.frame_bytes).await?;
        let answer: Initialized = serde_json::from_str(result.get())
            .map_err(|_| protocol("the answer to initialize is no handshake"))?;
        let speech = self.speech_of(Era::Legacy, &answer.protocol_version, (session, lost + 1));
        let line = wire::encode_notification("notifications/initialized", &wire::Params::default());
        self.tell(speech.headers.clone(), Bytes::from(line)).await?;
        // Only now: whoever sees the new session may use it at once.
        self.respeak(|_| speech);
        Ok(())
    }
}
