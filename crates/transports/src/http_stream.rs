//! Reads a call's answer off an event stream, and takes a broken legacy stream up where it broke.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt as _;
use http::{Method, Response};
use serde_json::value::RawValue;

use crate::error::RequestError;
use crate::http_answer::{self, Media, protocol};
use crate::http_call::{Call, Failure};
use crate::http_core::{Core, Speech};
use crate::http_headers;
use crate::http_pool::Answer;
use crate::spec::Era;
use crate::sse::{SseEvent, SseFault, SseReader};
use crate::wire::{self, Incoming as Message};

/// Pause before a broken stream is taken up, when the server named none.
const DEFAULT_RETRY: Duration = Duration::from_millis(500);
/// Bounds of the pause a server may ask for: no busy loop, and no longer than a call usually waits.
const RETRY_BOUNDS: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(30));
/// Attempts in a row to take up a broken stream before the call fails.
const MAX_RESUME_FAILURES: u32 = 3;
/// How long the rest of a stream after the answer may take, to use its connection again.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(1);

/// The reader of one response.
pub(crate) type Reader = SseReader<Answer>;

/// Where a stream broke, and how soon it may be taken up.
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) last_id: Option<String>,
    pub(crate) retry: Option<Duration>,
}

impl Place {
    pub(crate) fn new() -> Self {
        Self {
            last_id: None,
            retry: None,
        }
    }

    /// Remembers what an event tells about resuming.
    pub(crate) fn note(&mut self, event: &mut SseEvent) {
        if let Some(id) = event.id.take() {
            self.last_id = (!id.is_empty()).then_some(id);
        }
        if let Some(retry) = event.retry {
            self.retry = Some(retry.clamp(RETRY_BOUNDS.0, RETRY_BOUNDS.1));
        }
    }
}

/// Whether an event holds a message of the protocol.
pub(crate) fn is_message(event: &SseEvent) -> bool {
    let named = event.event.as_deref().unwrap_or("message");
    (named == "message" || named.is_empty()) && !event.data.is_empty()
}

/// Reads the answer to `call` off the stream its POST was answered with.
pub(crate) async fn read(
    core: &Arc<Core>,
    body: Answer,
    call: &Call<'_>,
    speech: &Speech,
) -> Result<Box<RawValue>, Failure> {
    let mut reader = SseReader::new(body, core.frame_bytes);
    let mut place = Place::new();
    loop {
        if let Some(outcome) = until_answer(core, &mut reader, call, &mut place).await? {
            release(core, reader);
            return outcome.map_err(Failure::Final);
        }
        let Some(last_id) = place.last_id.clone().filter(|_| speech.era == Era::Legacy) else {
            return Err(protocol("the stream ended without a result").into());
        };
        reader = resume(core, &last_id, place.retry.unwrap_or(DEFAULT_RETRY)).await?;
    }
}

/// Reads until the answer, or `None` at a premature end.
async fn until_answer(
    core: &Arc<Core>,
    reader: &mut Reader,
    call: &Call<'_>,
    place: &mut Place,
) -> Result<Option<Result<Box<RawValue>, RequestError>>, RequestError> {
    loop {
        let mut event = match reader.next().await {
            Ok(Some(event)) => event,
            Ok(None) | Err(SseFault::Broken) => return Ok(None),
            Err(SseFault::TooLarge) => {
                return Err(RequestError::TooLarge {
                    limit_bytes: core.frame_bytes,
                });
            }
        };
        place.note(&mut event);
        if !is_message(&event) {
            continue;
        }
        let message = wire::parse(&event.data).map_err(|_| {
            core.garbage.fetch_add(1, Ordering::Relaxed);
            protocol("an event of the answer is no JSON-RPC message")
        })?;
        let messages = match message {
            Message::Batch(messages) => messages,
            one => vec![one],
        };
        for message in messages {
            if let Some(outcome) = core.take(message, call).await? {
                return Ok(Some(outcome));
            }
        }
    }
}

/// Takes a legacy stream up after event `last_id`. The caller's deadline bounds it.
async fn resume(core: &Arc<Core>, last_id: &str, retry: Duration) -> Result<Reader, RequestError> {
    for _ in 0..MAX_RESUME_FAILURES {
        tokio::time::sleep(retry).await;
        match open(core, &core.speech(), Some(last_id)).await {
            Opened::Stream(reader) => return Ok(reader),
            Opened::Refused => {
                return Err(protocol(
                    "the stream broke and the server does not take it up again",
                ));
            }
            Opened::Failed => {}
        }
    }
    Err(protocol("the stream broke and could not be taken up again"))
}

/// How a GET for a stream went.
#[expect(
    clippy::large_enum_variant,
    reason = "made once a stream and taken apart at once"
)]
pub(crate) enum Opened {
    Stream(Reader),
    /// The server answered that it will not.
    Refused,
    /// No answer, or one that says to come again.
    Failed,
}

/// Asks a legacy server for a stream.
pub(crate) async fn open(core: &Arc<Core>, speech: &Speech, last_id: Option<&str>) -> Opened {
    let headers = http_headers::for_stream(speech.headers.clone(), last_id);
    match core.send(Method::GET, headers, Bytes::new()).await {
        Err(_) => Opened::Failed,
        Ok(response) => opened(response, core.frame_bytes).await,
    }
}

/// Judges the answer to a request for a stream.
pub(crate) async fn opened(response: Response<Answer>, frame_bytes: usize) -> Opened {
    let status = response.status();
    if status.is_success() && http_answer::media(response.headers()) == Media::EventStream {
        return Opened::Stream(SseReader::new(response.into_body(), frame_bytes));
    }
    http_answer::drain(response).await;
    if status.is_server_error() && status.as_u16() != 501
        || matches!(status.as_u16(), 401 | 408 | 429)
    {
        Opened::Failed
    } else {
        Opened::Refused
    }
}

/// Reads a finished stream to its end, so that its connection is kept.
fn release(core: &Arc<Core>, mut reader: Reader) {
    if reader.next().now_or_never().is_some() {
        return;
    }
    core.in_background(async move {
        let _ = tokio::time::timeout(DRAIN_TIMEOUT, reader.next()).await;
    });
}

/// The first result in an answer, whatever its shape: for the repeated handshake, where nothing else counts.
pub(crate) async fn first_result(
    response: Response<Answer>,
    frame_bytes: usize,
) -> Result<Box<RawValue>, RequestError> {
    let of = |message| match message {
        Ok(Message::Response(response)) => response.outcome.ok(),
        _ => None,
    };
    let found = match http_answer::media(response.headers()) {
        Media::EventStream => {
            let mut reader = SseReader::new(response.into_body(), frame_bytes);
            loop {
                match reader.next().await {
                    Ok(Some(event)) => {
                        if let Some(result) = of(wire::parse(&event.data)) {
                            break Some(result);
                        }
                    }
                    Ok(None) | Err(_) => break None,
                }
            }
        }
        Media::Json | Media::Other(_) => of(wire::parse(
            &http_answer::read_json(response.into_body(), frame_bytes).await?,
        )),
    };
    found.ok_or_else(|| protocol("the session was lost and the server opens no new one"))
}
