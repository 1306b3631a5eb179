//! Streamable HTTP, both eras at one path: POST carries a message, GET a legacy client's unsolicited
//! messages, DELETE ends its session.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::response::Response;
use broker::Asker;
use http::{HeaderMap, StatusCode};
use transports::LogLevel;

use super::endpoint::{Endpoint, no_such_server};
use super::envelope::{self, Incoming, Message, Refusal};
use super::era::{self, Speech};
use super::problem::{HEADER_MISMATCH, INVALID_REQUEST, RpcFault, UNSUPPORTED_VERSION};
use super::reply::{self, Outcome};
use super::session::Session;
use super::stream::{self, Source};
use super::visit::{Client, Modern, Visit};
use super::{Face, headers, initialize, legacy, legacy_sse, respond, wishes};
use crate::answer::{self, Answer as HttpAnswer};
use crate::app::{Asked, Shared};
use crate::front::body;
use crate::serve::peer::Peer;

/// What of an HTTP request is needed beyond its message.
#[derive(Debug)]
pub(super) struct Door {
    pub(super) app: Shared,
    pub(super) asker: Asker,
    pub(super) endpoint: Endpoint,
    pub(super) headers: HeaderMap,
    pub(super) peer: Peer,
}

impl Door {
    fn new(app: Shared, asker: Asker, endpoint: Endpoint, request: &mut Request) -> Self {
        Self {
            app,
            asker,
            endpoint,
            headers: std::mem::take(request.headers_mut()),
            peer: Peer::of(request.extensions()),
        }
    }

    /// The session of the header, with what it wanted before a restart.
    async fn session(&self) -> Result<Arc<Session>, Refusal> {
        let session = self.known_session()?;
        if !session.restored.initialized() {
            let restored = || wishes::restore(self.seen_by(&session), Arc::clone(&session));
            Box::pin(session.restored.get_or_init(restored)).await;
        }
        Ok(session)
    }

    fn seen_by(&self, session: &Arc<Session>) -> Visit {
        Visit {
            app: self.app.clone(),
            asker: self.asker.clone(),
            face: self.endpoint.face.clone(),
            client: Client::Legacy(Arc::clone(session)),
            wish: self.endpoint.wish.clone(),
        }
    }

    /// The session of the header.
    fn known_session(&self) -> Result<Arc<Session>, Refusal> {
        era::spoken_in_session(&self.headers)?;
        let id = self.headers.get(reply::SESSION_HEADER);
        let Some(id) = id else {
            return Err(RpcFault::invalid_request("the header Mcp-Session-Id is missing").into());
        };
        let id = id.to_str().unwrap_or_default();
        let found = self
            .app
            .mcp
            .registry
            .find(&self.asker, &self.endpoint.face, id);
        found.ok_or_else(|| RpcFault::session_not_found().into())
    }

    /// What a client asks with this request, and what is left of HTTP.
    pub(super) fn visit(self, client: Client) -> (Visit, HeaderMap, Peer) {
        let visit = Visit {
            app: self.app,
            asker: self.asker,
            face: self.endpoint.face,
            client,
            wish: self.endpoint.wish,
        };
        (visit, self.headers, self.peer)
    }
}

/// `POST`: one message, or a batch where the revision knows them.
pub(super) async fn post(
    State(app): State<Shared>,
    endpoint: Endpoint,
    Asked(asker): Asked,
    mut request: Request,
) -> HttpAnswer {
    let door = Door::new(app, asker, endpoint, &mut request);
    let limit = door.app.limits.body_bytes;
    let body = body::read(request.into_body(), &door.headers, limit).await?;
    if let Face::Server(name) = &door.endpoint.face
        && !door.app.broker.knows_server(&door.asker, name)
    {
        return Err(no_such_server());
    }
    match envelope::read(&body) {
        Ok(Incoming::One(message)) => Ok(one(door, message).await),
        Ok(Incoming::Batch(members)) => Ok(Box::pin(batch(door, members)).await),
        Err(refusal) => Ok(reply::refused(&refusal, StatusCode::BAD_REQUEST)),
    }
}

/// Batches belong to sessions of the revisions that knew them.
async fn batch(door: Door, members: Vec<Result<Message, Refusal>>) -> Response {
    match door.session().await {
        Ok(session) if session.revision().knows_batches() => {
            legacy::batch(door, session, members).await
        }
        Ok(_) => refuse(
            None,
            RpcFault::invalid_request("this revision knows no batches"),
        ),
        Err(refusal) => no_session(&refusal),
    }
}

fn id_of(message: &Message) -> Option<envelope::Id> {
    match message {
        Message::Request(request) => Some(request.id.clone()),
        Message::Notification(_) | Message::Answer(_) => None,
    }
}

/// A refusal of a message that reached nobody.
fn refuse(id: Option<envelope::Id>, fault: RpcFault) -> Response {
    reply::refused(&Refusal { id, fault }, StatusCode::BAD_REQUEST)
}

async fn one(door: Door, message: Message) -> Response {
    let speech = match era::judge(&door.headers, &message) {
        Ok(speech) => speech,
        Err(fault) => return refuse(id_of(&message), fault),
    };
    match (speech, message) {
        (Speech::Modern, Message::Request(request)) => Box::pin(modern(door, request)).await,
        // This revision defines none; what a client tells without being asked is taken.
        (Speech::Modern, Message::Notification(_)) => reply::accepted(),
        (Speech::Modern, Message::Answer(_)) => refuse(
            None,
            RpcFault::invalid_request("this revision knows no answers of a client"),
        ),
        (Speech::Legacy(_), Message::Request(request)) if request.call.method == "initialize" => {
            Box::pin(initialize::session(door, request)).await
        }
        (Speech::Legacy(_), message) => match door.session().await {
            Ok(session) => Box::pin(legacy::message(door, session, message)).await,
            Err(refusal) => no_session(&Refusal {
                id: id_of(&message),
                ..refusal
            }),
        },
    }
}

/// 404 tells a client to begin a new session, 400 that its headers are wrong.
fn no_session(refusal: &Refusal) -> Response {
    let status = match refusal.fault.code {
        INVALID_REQUEST | HEADER_MISMATCH | UNSUPPORTED_VERSION => StatusCode::BAD_REQUEST,
        _ => StatusCode::NOT_FOUND,
    };
    reply::refused(refusal, status)
}

async fn modern(door: Door, request: envelope::Request) -> Response {
    let envelope::Request { id, mut call } = request;
    if let Err(fault) = headers::check(&door.headers, &call) {
        return refuse(Some(id), fault);
    }
    let level = match call
        .meta
        .log_level
        .as_deref()
        .map(str::parse::<LogLevel>)
        .transpose()
    {
        Ok(level) => level,
        Err(unknown) => return refuse(Some(id), RpcFault::invalid_params(unknown.to_string())),
    };
    let Some(capabilities) = call.meta.capabilities.take() else {
        return refuse(
            Some(id),
            RpcFault::invalid_params("clientCapabilities is missing"),
        );
    };
    let client = Client::Modern(Arc::new(Modern {
        capabilities: Arc::from(capabilities),
        level,
    }));
    let (visit, headers, peer) = door.visit(client);
    let app = visit.app.clone();
    match super::serve(visit, (id.clone(), call), &headers).await {
        Outcome::Result(result) => {
            let answer = (StatusCode::OK, reply::result(&id, &result));
            respond::ready_modern(&app, peer, &headers, answer)
        }
        Outcome::Fault(fault) => reply::json(fault.status(true), reply::fault(Some(&id), &fault)),
        Outcome::Listen(listen) => stream::answer(&app, peer, Source::Listen(listen)),
        Outcome::Run(exchange) => respond::modern(&app, peer, &headers, exchange).await,
    }
}

/// `GET`: unsolicited messages of a session, or a stream taken up again; without a session the older HTTP+SSE.
pub(super) async fn get(
    State(app): State<Shared>,
    endpoint: Endpoint,
    Asked(asker): Asked,
    mut request: Request,
) -> HttpAnswer {
    if !request.headers().contains_key(reply::SESSION_HEADER) {
        return legacy_sse::stream(app, endpoint, asker, request).await;
    }
    let door = Door::new(app, asker, endpoint, &mut request);
    match door.session().await {
        Ok(session) => legacy::listen(door, session).await,
        Err(refusal) => Ok(no_session(&refusal)),
    }
}

/// `DELETE`: ends a session.
pub(super) async fn delete(
    State(app): State<Shared>,
    endpoint: Endpoint,
    Asked(asker): Asked,
    mut request: Request,
) -> HttpAnswer {
    let door = Door::new(app, asker, endpoint, &mut request);
    let session = match door.known_session() {
        Ok(session) => session,
        Err(refusal) => return Ok(no_session(&refusal)),
    };
    door.app.mcp.registry.end(&session);
    wishes::forget(&door.seen_by(&session), &session).await;
    for call in session.all_running() {
        legacy::cancel(&door.app, &door.asker, call);
    }
    Ok(answer::empty(StatusCode::NO_CONTENT))
}
