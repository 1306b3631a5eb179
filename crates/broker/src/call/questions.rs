//! Puts a server's questions to whoever follows a call, and takes the answers back to the server.
//! What nobody can answer is answered here at once: never a hang.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::{Arc, LazyLock};

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use serde::Deserialize;
use serde_json::value::RawValue;
use sessions::{Question, SessionLease};
use transports::{RequestId, ServerRequest};

use super::dialogue::InputAnswer;
use super::run::Job;
use crate::operations::Inner;
use crate::operations::relay::ClientSide;

/// JSON-RPC code for a question the user did not answer, as the specification's examples have it.
const REFUSED: i64 = -1;
/// JSON-RPC code for a method the client does not know.
const UNKNOWN_METHOD: i64 = -32601;

/// What callers without an MCP client of their own can answer by `POST /v1/calls/{id}/input`.
static REST_CAPABILITIES: LazyLock<Arc<RawValue>> =
    LazyLock::new(|| shared(r#"{"elicitation":{"form":{},"url":{}},"sampling":{}}"#));

fn shared(json: &'static str) -> Arc<RawValue> {
    Arc::from(RawValue::from_string(json.to_owned()).unwrap_or_else(|_| RawValue::NULL.to_owned()))
}

/// What the caller's side can do, as the server is told. `None`: nothing, for the caller learns of his call only
/// by its result.
pub(super) fn capabilities(client: Option<&ClientSide>, attended: bool) -> Option<Arc<RawValue>> {
    match client.and_then(|client| client.capabilities.as_ref()) {
        Some(capabilities) => Some(Arc::clone(capabilities)),
        None if attended => Some(Arc::clone(&REST_CAPABILITIES)),
        None => None,
    }
}

/// The answer to a question this caller cannot be asked.
pub(super) fn at_once(capabilities: Option<&RawValue>, method: &str) -> Option<InputAnswer> {
    #[derive(Deserialize, Default)]
    struct Known<'a> {
        #[serde(borrow, default)]
        elicitation: Option<&'a RawValue>,
        #[serde(borrow, default)]
        sampling: Option<&'a RawValue>,
        #[serde(borrow, default)]
        roots: Option<&'a RawValue>,
    }
    let known: Known<'_> = capabilities
        .and_then(|raw| serde_json::from_str(raw.get()).ok())
        .unwrap_or_default();
    let (can, otherwise) = match method {
        "elicitation/create" => (known.elicitation, result(r#"{"action":"decline"}"#)),
        "roots/list" => (known.roots, result(r#"{"roots":[]}"#)),
        "sampling/createMessage" => (known.sampling, refusal("the client offers no sampling")),
        _ => (None, refusal("the client does not offer this")),
    };
    can.is_none().then_some(otherwise)
}

fn result(json: &str) -> InputAnswer {
    let raw = RawValue::from_string(json.to_owned());
    InputAnswer::Result(raw.unwrap_or_else(|_| RawValue::NULL.to_owned()))
}

fn refusal(words: &str) -> InputAnswer {
    InputAnswer::Error {
        code: UNKNOWN_METHOD,
        message: words.to_owned(),
    }
}

/// The answer to a question nobody answered in time.
pub(super) fn too_late(method: &str) -> InputAnswer {
    match method {
        "elicitation/create" => result(r#"{"action":"cancel"}"#),
        "roots/list" => result(r#"{"roots":[]}"#),
        _ => InputAnswer::Error {
            code: REFUSED,
            message: "nobody answered in time".to_owned(),
        },
    }
}

/// The questions of a legacy server that are open on one call.
pub(super) struct Questions<'a> {
    inner: &'a Inner,
    job: &'a Job,
    lease: &'a SessionLease,
    waiting: FuturesUnordered<Waiting>,
    /// The server's ids of what is open, and the names it is asked under.
    names: HashMap<String, String>,
}

type Waiting = Pin<Box<dyn Future<Output = Answered> + Send + Sync>>;

/// Where a question came from, and its answer goes.
#[derive(Debug, Clone, Copy)]
pub(super) enum Source {
    /// The call's own stream.
    Stream,
    /// A stream that all of the session share.
    Session,
}

struct Answered {
    id: RequestId,
    source: Source,
    key: String,
    answer: Option<InputAnswer>,
}

impl<'a> Questions<'a> {
    pub(super) fn new(inner: &'a Inner, job: &'a Job, lease: &'a SessionLease) -> Self {
        Self {
            inner,
            job,
            lease,
            waiting: FuturesUnordered::new(),
            names: HashMap::new(),
        }
    }

    /// What the session hands over: a question, or that one was taken back.
    pub(super) async fn heard(&mut self, heard: Question) {
        match heard {
            Question::Asked(request) => self.put(request, Source::Session).await,
            Question::Withdrawn { id, .. } => {
                if let Some(key) = self.names.remove(id.0.get()) {
                    self.job.live.dialogue.withdraw(&key);
                    self.told();
                }
            }
        }
    }

    /// Puts one question.
    pub(super) async fn put(&mut self, asked: ServerRequest, source: Source) {
        let capabilities = capabilities(self.job.client.as_deref(), self.job.attended);
        if let Some(answer) = at_once(capabilities.as_deref(), &asked.method) {
            self.job.live.dialogue.beyond(&asked.method);
            self.send(asked.id, answer, source).await;
            return;
        }
        let question = (None, asked.method, asked.params);
        let Ok(mut put) = self.job.live.dialogue.ask(vec![question]).await else {
            let answer = refusal("too many questions are open");
            self.send(asked.id, answer, source).await;
            return;
        };
        self.told();
        let Some((request, receiver)) = put.pop() else {
            return;
        };
        let id = asked.id;
        self.names
            .insert(id.0.get().to_owned(), request.key.clone());
        let wait = self.inner.calls.input_wait;
        self.waiting.push(Box::pin(async move {
            let answer = tokio::time::timeout(wait, receiver).await;
            Answered {
                id,
                source,
                key: request.key,
                // Withdrawn: its sender is gone, and the server wants no answer.
                answer: match answer {
                    Ok(answer) => answer.ok(),
                    Err(_elapsed) => Some(too_late(&request.method)),
                },
            }
        }));
    }

    /// Takes one answer to the server; pending for ever when nothing is open.
    pub(super) async fn serve(&mut self) -> bool {
        let Some(answered) = self.waiting.next().await else {
            return std::future::pending().await;
        };
        self.names.remove(answered.id.0.get());
        self.job.live.dialogue.withdraw(&answered.key);
        self.told();
        if let Some(answer) = answered.answer {
            self.send(answered.id, answer, answered.source).await;
        }
        true
    }

    async fn send(&self, id: RequestId, answer: InputAnswer, source: Source) {
        let outcome = match answer {
            InputAnswer::Result(raw) => Ok(raw),
            InputAnswer::Error { code, message } => Err((code, message)),
        };
        match source {
            Source::Stream => self.lease.answer_on_stream(id, outcome).await,
            // False: the server has taken the question back.
            Source::Session => drop(self.lease.answer(&id, outcome)),
        }
    }

    fn told(&self) {
        self.inner.tell_dialogue(&self.job.live);
    }
}
