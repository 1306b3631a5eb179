//! One request of one client: who asks, where, and what the client can do.

use std::sync::Arc;
use std::time::Duration;

use broker::operations::relay::{ClientSide, ServerTasks};
use broker::{Asker, Fault, Trace};
use serde::Deserialize;
use serde_json::value::RawValue;
use sessions::Lane;
use transports::{LogLevel, Params};

use super::abilities::{Abilities, TASKS_EXTENSION_NAME};
use super::envelope::Meta;
use super::era::Revision;
use super::problem::RpcFault;
use super::session::Session;
use super::{Face, Mcp};
use crate::app::Shared;

/// Everything a request is served with but its own parameters.
#[derive(Debug, Clone)]
pub(super) struct Visit {
    /// The bridge.
    pub(super) app: Shared,
    /// Who asks, and under which trace.
    pub(super) asker: Asker,
    /// The endpoint.
    pub(super) face: Face,
    /// Who speaks there.
    pub(super) client: Client,
    /// What the endpoint's query said.
    pub(super) wish: Wish,
}

/// What a client may say in the endpoint's query.
#[derive(Debug, Clone, Default)]
pub(super) struct Wish {
    /// `expose`: tools to be listed directly.
    pub(super) expose: Vec<String>,
    /// `lane`: the run or conversation.
    pub(super) lane: Option<Lane>,
    /// `timeout_ms`: a deadline for every call.
    pub(super) timeout: Option<Duration>,
}

/// Who speaks.
#[derive(Debug, Clone)]
pub(super) enum Client {
    /// A client that says everything with each request.
    Modern(Arc<Modern>),
    /// A client with a session.
    Legacy(Arc<Session>),
}

/// What a modern request says of its client.
#[derive(Debug)]
pub(super) struct Modern {
    /// Raw `clientCapabilities`.
    pub(super) capabilities: Arc<RawValue>,
    /// The least log level wanted.
    pub(super) level: Option<LogLevel>,
}

impl Client {
    /// The revision spoken.
    pub(super) fn revision(&self) -> Revision {
        match self {
            Self::Modern(_) => Revision::V2026_07_28,
            Self::Legacy(session) => session.revision(),
        }
    }

    /// What it can do for a server.
    pub(super) fn abilities(&self) -> Abilities {
        match self {
            Self::Modern(modern) => Abilities::read(&modern.capabilities),
            Self::Legacy(session) => session.abilities(),
        }
    }

    /// The same as it declared it.
    pub(super) fn capabilities(&self) -> Arc<RawValue> {
        match self {
            Self::Modern(modern) => Arc::clone(&modern.capabilities),
            Self::Legacy(session) => session.capabilities(),
        }
    }

    /// It declared the tasks extension. Most do not, and then nothing is parsed.
    pub(super) fn knows_tasks_extension(&self) -> bool {
        match self {
            Self::Modern(modern) => {
                modern.capabilities.get().contains(TASKS_EXTENSION_NAME)
                    && Abilities::read(&modern.capabilities).knows_tasks_extension()
            }
            Self::Legacy(_) => false,
        }
    }

    /// The level it asked for.
    pub(super) fn level(&self) -> Option<LogLevel> {
        match self {
            Self::Modern(modern) => modern.level,
            Self::Legacy(session) => session.level(),
        }
    }

    /// Whether it wants a log message of this level. A legacy client that said nothing wants all of them;
    /// a modern one none.
    pub(super) fn wants(&self, level: LogLevel) -> bool {
        match (self, self.level()) {
            (_, Some(least)) => level >= least,
            (Self::Legacy(_), None) => true,
            (Self::Modern(_), None) => false,
        }
    }
}

/// The level of a `notifications/message`; what cannot be read is worth telling.
pub(super) fn level_of(params: Option<&RawValue>) -> LogLevel {
    #[derive(Deserialize)]
    struct Message {
        level: LogLevel,
    }
    let told = params.and_then(|raw| serde_json::from_str::<Message>(raw.get()).ok());
    told.map_or(LogLevel::Emergency, |message| message.level)
}

impl Visit {
    /// The shared parts of this face.
    pub(super) fn mcp(&self) -> &Mcp {
        &self.app.mcp
    }

    /// The run or conversation.
    pub(super) fn lane(&self) -> Lane {
        match (&self.wish.lane, &self.client) {
            (Some(lane), _) => lane.clone(),
            (None, Client::Legacy(session)) => session.facts.lane.clone(),
            (None, Client::Modern(_)) => Lane::default(),
        }
    }

    /// The client as the broker shows it to a server, with what it said besides.
    pub(super) fn side(&self, meta: Params, extra: Params) -> ClientSide {
        let modern = matches!(self.client, Client::Modern(_));
        let capabilities = match self.face {
            Face::Server(_) => self.client.capabilities(),
            // A task has to be asked after at its server, which this endpoint does not stand for.
            Face::Deferred => self.client.abilities().without_tasks().capabilities(),
        };
        ClientSide {
            capabilities: Some(capabilities),
            log_level: self.client.level(),
            takes_input_required: modern,
            asks_later: false,
            follows: match (&self.face, modern) {
                (Face::Server(_), true) => Some(ServerTasks::Extension),
                (Face::Server(_), false) => Some(ServerTasks::Core),
                (Face::Deferred, _) => None,
            },
            meta,
            extra,
        }
    }

    /// A failure of the broker in JSON-RPC's terms.
    pub(super) fn fault(&self, fault: &Fault) -> RpcFault {
        RpcFault::of(fault, self.client.revision(), &self.asker.trace.id())
    }

    /// Joins the trace the message names, which is nearer to its sender than the header's.
    pub(super) fn join_trace(&mut self, meta: &Meta) {
        let told = meta.traceparent.as_deref();
        if let Some(trace) = told.and_then(|parent| Trace::join(parent, meta.tracestate.as_deref()))
        {
            self.asker.trace = trace;
        }
    }
}
