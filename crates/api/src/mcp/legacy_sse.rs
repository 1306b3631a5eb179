//! HTTP+SSE of 2024-11-05: `GET /sse` is the one stream a session has, `POST /message` brings messages to it.
//!
//! The session is there before the client is told where to post: fast clients post at once.

use std::sync::Arc;

use axum::extract::{RawQuery, Request, State};
use axum::response::Response;
use broker::{Asker, ErrorCode};
use bytes::Bytes;
use http::{HeaderMap, StatusCode};

use super::abilities::Abilities;
use super::endpoint::Endpoint;
use super::envelope::{self, Incoming, Message, Refusal};
use super::facts::Greeting;
use super::frame::{self, Outgoing, Weight};
use super::legacy::{self, Served};
use super::listen::Listen;
use super::log::{Log, Reader};
use super::problem::RpcFault;
use super::session::Session;
use super::stream::{self, Places, Source};
use super::visit::{Client, Visit};
use super::{initialize, reply, respond};
use crate::answer::{self, Answer};
use crate::app::{Asked, Shared};
use crate::front::{body, query::Query};
use crate::problem::Refused;
use crate::serve::peer::Peer;

/// The one stream of a session.
#[derive(Debug)]
pub(super) struct Outlet {
    reader: Reader,
    listen: Listen,
    end: End,
}

/// Ends the session with its stream.
#[derive(Debug)]
struct End {
    app: Shared,
    asker: Asker,
    session: Arc<Session>,
}

impl Drop for End {
    fn drop(&mut self) {
        self.app.mcp.registry.end(&self.session);
        for call in self.session.all_running() {
            legacy::cancel(&self.app, &self.asker, call);
        }
    }
}

impl Outlet {
    /// The next event. Cancel safe.
    pub(super) async fn next(&mut self) -> Option<Bytes> {
        tokio::select! {
            biased;
            frame = self.reader.next() => frame,
            frame = self.listen.next() => frame,
        }
    }

    /// No request of the session runs.
    pub(super) fn is_quiet(&self) -> bool {
        self.end.session.all_running().is_empty()
    }
}

/// `GET /sse`, `GET /sse/{server}`.
pub(super) async fn open(
    State(app): State<Shared>,
    endpoint: Endpoint,
    Asked(asker): Asked,
    request: Request,
) -> Answer {
    stream(app, endpoint, asker, request).await
}

/// Opens a session and its stream.
pub(super) async fn stream(
    app: Shared,
    endpoint: Endpoint,
    asker: Asker,
    request: Request,
) -> Answer {
    if !respond::Takes::of(request.headers()).events {
        let detail = "GET gives text/event-stream; Accept must name it";
        return Err(Refused::invalid(detail));
    }
    let place = Places::take(&app, &asker.principal.user)?;
    let Endpoint { face, wish } = endpoint;
    let session = app.mcp.registry.open_unmet(&asker, &face);
    let end = End {
        app: app.clone(),
        asker: asker.clone(),
        session: Arc::clone(&session),
    };
    let reader = session.let_out(wish.clone()).read(0);
    let visit = Visit {
        app: app.clone(),
        asker,
        face,
        client: Client::Legacy(Arc::clone(&session)),
        wish,
    };
    let first = frame::endpoint(&format!("/message?sessionId={}", session.facts.id));
    let listen = Listen::unsolicited(visit, (session, false), place).await?;
    let outlet = Outlet {
        reader,
        listen,
        end,
    };
    let source = Source::Outlet(Box::new(outlet));
    Ok(stream::begun(
        &app,
        Peer::of(request.extensions()),
        (first, source),
    ))
}

/// `POST /message?sessionId=…`: taken with 202, answered on the stream.
pub(super) async fn message(
    State(app): State<Shared>,
    Asked(asker): Asked,
    RawQuery(raw): RawQuery,
    request: Request,
) -> Answer {
    let mut query = Query::parse(raw.as_deref(), &["sessionId"], &[])?;
    let id = query.required("sessionId")?;
    let session = app.mcp.registry.live(&asker, &id);
    let session = session.filter(|session| session.outlet().is_some());
    let Some(session) = session else {
        return Err(Refused::new(
            ErrorCode::SessionNotFound,
            "there is no such session",
        ));
    };
    let (head, bytes) = request.into_parts();
    let bytes = body::read(bytes, &head.headers, app.limits.body_bytes).await?;
    let members = match envelope::read(&bytes) {
        Ok(Incoming::One(message)) => vec![Ok(message)],
        Ok(Incoming::Batch(members)) => members,
        Err(refusal) => return Ok(reply::refused(&refusal, StatusCode::BAD_REQUEST)),
    };
    for member in members {
        take(&app, &asker, (&session, member), &head.headers).await;
    }
    Ok(answer::with_status(
        Response::new("Accepted".into()),
        StatusCode::ACCEPTED,
    ))
}

async fn take(
    app: &Shared,
    asker: &Asker,
    (session, member): (&Arc<Session>, Result<Message, Refusal>),
    headers: &HeaderMap,
) {
    let Some(outlet) = session.outlet() else {
        return;
    };
    let log = Arc::clone(&outlet.log);
    let request = match member {
        Ok(Message::Request(request)) => request,
        Ok(Message::Notification(call)) => return legacy::notified(app, asker, (session, &call)),
        Ok(Message::Answer(answer)) => return legacy::answered(app, asker, (session, answer)),
        Err(refusal) => return push(&log, reply::fault(refusal.id.as_ref(), &refusal.fault)),
    };
    let visit = Visit {
        app: app.clone(),
        asker: asker.clone(),
        face: session.facts.face.clone(),
        client: Client::Legacy(Arc::clone(session)),
        wish: outlet.wish.clone(),
    };
    let id = request.id.clone();
    if request.call.method == "initialize" {
        let json = match greet(&visit, session, &request.call).await {
            Ok(result) => reply::result(&id, &result),
            Err(fault) => reply::fault(Some(&id), &fault),
        };
        return push(&log, json);
    }
    match legacy::serve(session, visit, (request, headers)).await {
        Served::Ready(json) => push(&log, json),
        Served::Refused(fault) => push(&log, reply::fault(Some(&id), &fault)),
        Served::Run(exchange) => {
            app.mcp
                .tasks
                .spawn(async move { respond::write(*exchange, &log).await });
        }
    }
}

async fn greet(
    visit: &Visit,
    session: &Session,
    call: &envelope::Call,
) -> Result<Vec<u8>, RpcFault> {
    let (revision, declared) = initialize::introduction(call)?;
    let abilities = declared.as_deref().map(Abilities::read).unwrap_or_default();
    session.greet(Greeting {
        revision,
        capabilities: declared.map_or_else(|| abilities.capabilities(), Arc::from),
        abilities,
    });
    initialize::greeting(visit, session.revision()).await
}

fn push(log: &Log, json: Vec<u8>) {
    log.push(&Outgoing::on_the_way(json, Weight::Answer));
}
