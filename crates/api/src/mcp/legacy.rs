//! What a legacy client does with its session: requests, notifications, answers, batches, the GET stream.

use std::sync::Arc;

use axum::response::Response;
use broker::{Asker, InputAnswer};
use http::StatusCode;
use serde_json::value::RawValue;

use super::envelope::{Answer, Call, Id, Message, Refusal, Request};
use super::exchange::Exchange;
use super::http::Door;
use super::listen::Listen;
use super::problem::RpcFault;
use super::reply::{self, Outcome};
use super::respond::{self, Takes};
use super::running::Runs;
use super::session::Session;
use super::stream::{self, Places, Source};
use super::visit::{Client, Visit};
use super::{streams, wishes};
use crate::answer::Answer as HttpAnswer;
use crate::app::Shared;
use crate::problem::Refused;

/// Serves one message of a session.
pub(super) async fn message(door: Door, session: Arc<Session>, message: Message) -> Response {
    let request = match message {
        Message::Request(request) => request,
        Message::Notification(call) => {
            notified(&door.app, &door.asker, (&session, &call));
            return reply::accepted();
        }
        Message::Answer(answer) => {
            answered(&door.app, &door.asker, (&session, answer));
            return reply::accepted();
        }
    };
    let (visit, headers, peer) = door.visit(Client::Legacy(Arc::clone(&session)));
    let (app, id) = (visit.app.clone(), request.id.clone());
    match serve(&session, visit, (request, &headers)).await {
        Served::Ready(json) => respond::ready_legacy(&session, peer, &headers, (&app, json)),
        Served::Refused(fault) => reply::refused(
            &Refusal {
                id: Some(id),
                fault,
            },
            StatusCode::BAD_REQUEST,
        ),
        Served::Run(exchange) => respond::legacy(&session, peer, &headers, (&app, exchange)).await,
    }
}

/// What became of a request.
pub(super) enum Served {
    /// The answer is there.
    Ready(Vec<u8>),
    /// It is none that could be served.
    Refused(RpcFault),
    /// It runs.
    Run(Box<Exchange>),
}

/// Serves one request of a session.
pub(super) async fn serve(
    session: &Session,
    visit: Visit,
    (request, headers): (Request, &http::HeaderMap),
) -> Served {
    let Request { id, call } = request;
    if session.running(&id).is_some() {
        return Served::Refused(RpcFault::invalid_request("a request of this id is running"));
    }
    match super::serve(visit, (id.clone(), call), headers).await {
        Outcome::Result(result) => Served::Ready(reply::result(&id, &result)),
        Outcome::Fault(fault) => Served::Ready(reply::fault(Some(&id), &fault)),
        Outcome::Run(exchange) => Served::Run(exchange),
        // Only modern clients subscribe by a request.
        Outcome::Listen(_) => {
            let fault = RpcFault::method_not_found("subscriptions/listen");
            Served::Ready(reply::fault(Some(&id), &fault))
        }
    }
}

/// Serves a batch, each member for itself.
pub(super) async fn batch(
    door: Door,
    session: Arc<Session>,
    members: Vec<Result<Message, Refusal>>,
) -> Response {
    let (visit, headers, peer) = door.visit(Client::Legacy(Arc::clone(&session)));
    let (app, asker) = (visit.app.clone(), visit.asker.clone());
    let (mut ready, mut exchanges) = (Vec::new(), Vec::new());
    for member in members {
        match member {
            Ok(Message::Notification(call)) => notified(&app, &asker, (&session, &call)),
            Ok(Message::Answer(answer)) => answered(&app, &asker, (&session, answer)),
            Ok(Message::Request(request)) => {
                let id = request.id.clone();
                match serve(&session, visit.clone(), (request, &headers)).await {
                    Served::Ready(json) => ready.push(json),
                    Served::Refused(fault) => ready.push(reply::fault(Some(&id), &fault)),
                    Served::Run(exchange) => exchanges.push(*exchange),
                }
            }
            Err(refusal) => ready.push(reply::fault(refusal.id.as_ref(), &refusal.fault)),
        }
    }
    if ready.is_empty() && exchanges.is_empty() {
        return reply::accepted();
    }
    respond::batch(&session, peer, &headers, (&app, ready, exchanges)).await
}

/// A notification of the client. All but cancellation tell nothing the bridge would need.
pub(super) fn notified(app: &Shared, asker: &Asker, (session, call): (&Session, &Call)) {
    if call.method != "notifications/cancelled" {
        return;
    }
    let id = call.params.get("requestId").and_then(Id::read);
    if let Some(call) = id.and_then(|id| session.running(&id)) {
        cancel(app, asker, call);
    }
}

/// Cancels the call of a request behind the answer, unless it is only waited for.
pub(super) fn cancel(app: &Shared, asker: &Asker, call: Runs) {
    if !call.cancels {
        return;
    }
    let (app, asker) = (app.clone(), asker.clone());
    app.mcp.tasks.clone().spawn(async move {
        // A call that ended meanwhile needs no cancelling.
        let _ = app.broker.cancel_call(&asker, &call.id).await;
    });
}

/// An answer of the client to a question of a server.
pub(super) fn answered(app: &Shared, asker: &Asker, (session, answer): (&Session, Answer)) {
    let Some(question) = session.answered(&answer.id) else {
        tracing::debug!("an answer to a question nobody asked (any more)");
        return;
    };
    let outcome = match answer.outcome {
        Ok(result) => InputAnswer::Result(result),
        Err(error) => InputAnswer::Error {
            code: error.code,
            message: error.message,
        },
    };
    let answers = vec![(question.key, outcome)];
    if let Err(fault) = app.broker.answer_input(asker, &question.call_id, answers) {
        tracing::debug!(error = %fault, "an answer came too late");
    }
}

/// The GET stream: one taken up again, or the unsolicited messages of the session.
pub(super) async fn listen(door: Door, session: Arc<Session>) -> HttpAnswer {
    if !Takes::of(&door.headers).events {
        return Err(Refused::invalid(
            "GET gives text/event-stream; Accept must name it",
        ));
    }
    let last = door
        .headers
        .get("last-event-id")
        .and_then(|value| value.to_str().ok());
    let resumed = match last {
        Some(last) if !streams::is_general(last) => match session.resume(last) {
            Some(reader) => {
                let source = Source::log(reader, &session);
                return Ok(stream::answer(&door.app, door.peer, source));
            }
            None => return Err(Refused::invalid("that stream cannot be taken up again")),
        },
        last => last.is_some(),
    };
    // What changed meanwhile is told of resources that are subscribed to again, too.
    wishes::told(&session).await;
    let place = Places::take(&door.app, &door.asker.principal.user)?;
    let (visit, _, peer) = door.visit(Client::Legacy(Arc::clone(&session)));
    let app = visit.app.clone();
    let listen = Listen::unsolicited(visit, (session, resumed), place).await?;
    Ok(stream::answer(&app, peer, Source::Listen(Box::new(listen))))
}

/// Text of a member of `params`.
pub(super) fn text(call: &Call, name: &str) -> Result<String, RpcFault> {
    let raw = call.params.get(name).map(RawValue::get);
    raw.and_then(|raw| serde_json::from_str(raw).ok())
        .ok_or_else(|| RpcFault::invalid_params(format!("params.{name} must be a string")))
}
