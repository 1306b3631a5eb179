//! What a legacy client asked for once and need not ask again after the bridge was restarted: its log level and the
//! resources it subscribed to. Kept in the store with each change, and told the server again when the session is
//! brought back from its id.

use std::sync::Arc;
use std::time::Duration;

use broker::BrokerError;
use broker::operations::notes::MAX_NOTE_BYTES;
use serde::{Deserialize, Serialize};
use transports::{LogLevel, ServerName};

use super::Face;
use super::session::Session;
use super::visit::Visit;

/// How long a stream of notices waits for the server to be told again.
const TELLING_WAIT: Duration = Duration::from_secs(5);

/// The note of a session.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct Wishes {
    #[serde(skip_serializing_if = "Option::is_none")]
    level: Option<LogLevel>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    resources: Vec<String>,
}

/// Writes down what a session wants now. A store that is away costs no more than being asked again after a restart.
pub(super) async fn keep(visit: &Visit, session: &Session) {
    // HTTP+SSE has one stream, and ends with it.
    if session.outlet().is_some() {
        return;
    }
    let mut wishes = Wishes {
        level: session.level(),
        resources: session.subscriptions(),
    };
    wishes.resources.sort_unstable();
    let mut room = MAX_NOTE_BYTES / 2;
    wishes.resources.retain(|uri| {
        let fits = uri.len() <= room;
        room = room.saturating_sub(uri.len() + 3);
        fits
    });
    let note = serde_json::to_string(&wishes).unwrap_or_default();
    let kept = visit.app.broker.remember(name(session), Some(&note)).await;
    untold(session, kept);
}

/// A session has ended for good.
pub(super) async fn forget(visit: &Visit, session: &Session) {
    untold(
        session,
        visit.app.broker.remember(name(session), None).await,
    );
}

/// Brings back what a session wanted before the restart. The level holds at once; the server is told behind the
/// request that brought the session back, whose answer does not depend on it.
pub(super) async fn restore(visit: Visit, session: Arc<Session>) {
    let Face::Server(server) = visit.face.clone() else {
        return;
    };
    let note = match visit.app.broker.recall(name(&session)).await {
        Ok(note) => note,
        Err(fault) => return untold(&session, Err(fault)),
    };
    let Some(wishes) = note.and_then(|note| serde_json::from_str::<Wishes>(&note).ok()) else {
        return;
    };
    if let Some(level) = wishes.level {
        session.set_level(level);
    }
    let tasks = visit.mcp().tasks.clone();
    let turn = session.telling().await;
    tasks.spawn(async move {
        let _turn = turn;
        let told = tell(&visit, &session, (&server, wishes));
        session.gone.run_until_cancelled(told).await;
    });
}

/// Waits until the server was told again, within reason: a server that is away is waited for by its own requests.
pub(super) async fn told(session: &Session) {
    let _ = tokio::time::timeout(TELLING_WAIT, session.telling()).await;
}

async fn tell(visit: &Visit, session: &Session, (server, wishes): (&ServerName, Wishes)) {
    let broker = &visit.app.broker;
    let lane = visit.lane();
    let place = (server.as_str(), &lane);
    if let Some(level) = wishes.level {
        untold(
            session,
            broker.set_log_level(&visit.asker, place, level).await,
        );
    }
    for uri in wishes.resources {
        match broker.subscribe_resource(&visit.asker, place, &uri).await {
            Ok(held) => {
                session.subscribe(uri, held);
            }
            Err(fault) => untold(session, Err(fault)),
        }
    }
    // Anew: a note nobody writes is forgotten.
    keep(visit, session).await;
}

fn untold(session: &Session, outcome: Result<(), BrokerError>) {
    if let Err(fault) = outcome {
        tracing::warn!(mcp.lane = %session.facts.lane, error = %fault, "what an MCP session wants could not be kept or told");
    }
}

/// Known to nobody but whoever holds the session's id.
fn name(session: &Session) -> &str {
    session.facts.lane.as_str()
}
