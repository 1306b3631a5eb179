//! One POST to the bridge's MCP face and what comes back: messages on the way, the answer, or why there
//! is none. Passes messages on in the order they come; keeps nothing.

use std::borrow::Cow;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{Method, Response, StatusCode};
use hyper::body::Incoming;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;
use tokio::sync::mpsc;

use super::message::{Message, header_value};
use super::session::View;
use crate::ask::Ask;
use crate::bridge::{Bridge, header_text, read_body, refusal};
use crate::failure::{Executed, Failure};
use crate::sse::EventStream;

/// What a client must say it takes.
const ACCEPT: &str = "application/json, text/event-stream";

/// The method is unknown: an answer, although the modern era gives it the status of a lost session.
const METHOD_NOT_FOUND: i64 = -32601;

/// What became of a request.
#[derive(Debug)]
pub(crate) enum Reply {
    /// Its answer, not passed on yet.
    Answer {
        /// One line.
        line: String,
        /// `Mcp-Session-Id`, which only the answer to `initialize` has.
        session: Option<String>,
    },
    /// The legacy session it belongs to is gone; nothing was done.
    SessionGone,
}

/// What matters of a message from the bridge.
#[derive(Debug, Deserialize)]
struct Told<'a> {
    #[serde(borrow)]
    id: Option<&'a RawValue>,
    method: Option<IgnoredAny>,
    result: Option<IgnoredAny>,
    #[serde(borrow)]
    error: Option<&'a RawValue>,
}

#[derive(Debug, Deserialize)]
struct Code {
    code: i64,
}

/// The way to one MCP endpoint and back to the client.
#[derive(Debug, Clone)]
pub(crate) struct Endpoint {
    /// The client of the bridge.
    pub(crate) bridge: Bridge,
    /// A `GET` of `/mcp` or `/mcp/{server}`, with its query.
    pub(crate) place: Ask,
    /// Where messages on the way go.
    pub(crate) host: mpsc::Sender<String>,
}

impl Endpoint {
    /// Sends a request and reads until its last answer; what comes before is passed on.
    ///
    /// # Errors
    /// The bridge's problem, or why there was no answer.
    pub(crate) async fn exchange(
        &self,
        message: &Message,
        view: &View,
        mirrored: Vec<(Cow<'static, str>, String)>,
    ) -> Result<Reply, Failure> {
        let bridge = self.bridge.under_new_trace();
        let trace_id = Some(bridge.trace_id().to_owned());
        let mut ask = self.post(message, view);
        ask.headers.extend(mirrored);
        let exchanged = async {
            let response = bridge.send(ask).await?;
            if response.status().is_success() {
                self.answer(response, message).await
            } else {
                refused(response, message, view).await
            }
        };
        exchanged.await.map_err(|failure| failure.traced(trace_id))
    }

    /// Sends what wants no answer.
    ///
    /// # Errors
    /// As [`Endpoint::exchange`]; `Ok(false)` when the legacy session is gone.
    pub(crate) async fn tell(&self, message: &Message, view: &View) -> Result<bool, Failure> {
        let bridge = self.bridge.under_new_trace();
        let response = bridge.send(self.post(message, view)).await?;
        if response.status().is_success() {
            return Ok(true);
        }
        let (head, body) = response.into_parts();
        if head.status == StatusCode::NOT_FOUND && view.id.is_some() {
            return Ok(false);
        }
        Err(refusal(&head, &read_body(body).await?))
    }

    /// Everything a POST of this message has to say.
    fn post(&self, message: &Message, view: &View) -> Ask {
        let mut ask = self.place.clone().method(Method::POST);
        ask.body = Some(message.line.clone());
        let ask = ask.header("accept", Some(ACCEPT));
        let Some(version) = &message.version else {
            return with_session(ask, view);
        };
        let method = message.method().map(header_value);
        ask.header("mcp-protocol-version", Some(header_value(version)))
            .header("mcp-method", method)
            .header("mcp-name", message.name.as_deref().map(header_value))
    }

    async fn answer(
        &self,
        response: Response<Incoming>,
        message: &Message,
    ) -> Result<Reply, Failure> {
        let session = header_text(response.headers(), "mcp-session-id");
        let kind = header_text(response.headers(), CONTENT_TYPE.as_str()).unwrap_or_default();
        if !kind.starts_with("text/event-stream") {
            let body = read_body(response.into_body()).await?;
            let line = one_line(&body)?;
            return Ok(Reply::Answer { line, session });
        }
        let mut events = EventStream::new(response);
        let mut missing = message.ids().len();
        while let Some(data) = events.next().await? {
            // Revision 2025-11-25 begins streams with an event that has an id and says nothing.
            if data.is_empty() {
                continue;
            }
            let line = one_line(data.as_bytes())?;
            if is_answer(&line) {
                missing = missing.saturating_sub(1);
                if missing == 0 {
                    return Ok(Reply::Answer { line, session });
                }
            }
            self.pass(line).await?;
        }
        Err(
            Failure::protocol("the bridge ended the stream before the answer")
                .executed(Executed::Unknown),
        )
    }

    /// Passes a message on to the client.
    ///
    /// # Errors
    /// When the client went away.
    pub(crate) async fn pass(&self, line: String) -> Result<(), Failure> {
        let gone = |_| Failure::reader_gone();
        self.host.send(line).await.map_err(gone)
    }
}

/// A legacy request names its session and the revision agreed on.
pub(crate) fn with_session(ask: Ask, view: &View) -> Ask {
    ask.header("mcp-session-id", view.id.clone())
        .header("mcp-protocol-version", view.version.clone())
}

/// An answer that is no success: JSON-RPC's own error, a lost session, or the bridge's problem.
async fn refused(
    response: Response<Incoming>,
    message: &Message,
    view: &View,
) -> Result<Reply, Failure> {
    let (head, body) = response.into_parts();
    let body = read_body(body).await?;
    let code = error_code(&body);
    let legacy = message.version.is_none() && view.id.is_some();
    if legacy && head.status == StatusCode::NOT_FOUND && code != Some(METHOD_NOT_FOUND) {
        return Ok(Reply::SessionGone);
    }
    match (code, message.ids()) {
        (Some(_), [id]) => Ok(Reply::Answer {
            line: with_id(&one_line(&body)?, id),
            session: None,
        }),
        _ => Err(refusal(&head, &body)),
    }
}

/// JSON on one line: between tokens a line break means nothing, within them there is none.
///
/// # Errors
/// A protocol failure when it is no JSON.
pub(crate) fn one_line(json: &[u8]) -> Result<String, Failure> {
    let unreadable = |error| Failure::protocol(format!("the bridge's message is no JSON: {error}"));
    let message: &RawValue = serde_json::from_slice(json).map_err(unreadable)?;
    Ok(message.get().replace(['\n', '\r'], " "))
}

fn is_answer(line: &str) -> bool {
    serde_json::from_str::<Told<'_>>(line).is_ok_and(|told| {
        let ended = told.result.is_some() || told.error.is_some();
        told.id.is_some() && told.method.is_none() && ended
    })
}

/// The code of a JSON-RPC error, if that is what the body is.
fn error_code(body: &Bytes) -> Option<i64> {
    let told: Told<'_> = serde_json::from_slice(body).ok()?;
    let code: Code = serde_json::from_str(told.error?.get()).ok()?;
    Some(code.code)
}

/// An error that names no request was still caused by this one, whose sender waits.
fn with_id(line: &str, id: &str) -> String {
    let told: Result<Told<'_>, _> = serde_json::from_str(line);
    match told {
        Ok(Told {
            id: None,
            error: Some(error),
            ..
        }) => format!(
            "{{\"jsonrpc\":\"2.0\",\"id\":{id},\"error\":{}}}",
            error.get()
        ),
        _ => line.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_becomes_one_line_and_keeps_its_bytes() {
        let pretty = b"{\n  \"id\": 1,\r\n  \"result\": {\"text\": \"a\\nb\", \"n\": 1.50}\n}";
        assert_eq!(
            one_line(pretty).unwrap(),
            r#"{   "id": 1,    "result": {"text": "a\nb", "n": 1.50} }"#
        );
        assert_eq!(one_line(b"<html>").unwrap_err().code, "bridge_protocol");
    }

    #[test]
    fn answers_are_told_from_requests_and_notifications() {
        assert!(is_answer(r#"{"jsonrpc":"2.0","id":1,"result":{}}"#));
        assert!(is_answer(r#"{"id":1,"error":{"code":-1,"message":""}}"#));
        assert!(!is_answer(
            r#"{"id":1,"method":"elicitation/create","params":{}}"#
        ));
        assert!(!is_answer(r#"{"method":"notifications/progress"}"#));
    }

    #[test]
    fn an_error_without_an_id_is_given_the_one_that_waits() {
        let error = r#"{"jsonrpc":"2.0","id":null,"error":{"code":-32020,"message":"m"}}"#;
        assert_eq!(
            with_id(error, "7"),
            r#"{"jsonrpc":"2.0","id":7,"error":{"code":-32020,"message":"m"}}"#
        );
        let own = r#"{"id":8,"error":{"code":1}}"#;
        assert_eq!(with_id(own, "7"), own);
    }
}
