//! How a session gets a connection, and what is remembered of the server for the next time.

use std::collections::HashMap;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use transports::{
    ConnectError, ConnectOptions, Connection, Endpoint, Era, Inbound, ServerName, ServerSpec,
    connect_unless,
};

use crate::entry::{Entry, Link};
use crate::key::WorkspaceId;
use crate::questions::Questions;
use crate::registry::Inner;
use crate::state::{Event, State};

/// Messages of one server waiting to be looked at.
const INBOUND: usize = 64;

/// The era each server spoke last, with the definition's version it is true for.
#[derive(Debug, Default)]
pub(crate) struct Eras(Mutex<HashMap<(WorkspaceId, ServerName), (u64, Era)>>);

impl Eras {
    fn known(&self, entry: &Entry) -> Option<Era> {
        let (version, era) = *self.map().get(&Self::key(entry))?;
        (version == entry.target.version).then_some(era)
    }

    /// Remembers what was spoken, or forgets it after a failure.
    fn learn(&self, entry: &Entry, era: Option<Era>) {
        // A definition that is no longer in force would be remembered for nobody.
        if entry.is_leaving() {
            return;
        }
        match era {
            Some(era) => self
                .map()
                .insert(Self::key(entry), (entry.target.version, era)),
            None => self.map().remove(&Self::key(entry)),
        };
    }

    /// Forgets a server whose definition went away or changed.
    pub(crate) fn forget(&self, workspace: &WorkspaceId, server: &ServerName) {
        self.map().remove(&(workspace.clone(), server.clone()));
    }

    fn key(entry: &Entry) -> (WorkspaceId, ServerName) {
        (entry.key.workspace.clone(), entry.key.server.clone())
    }

    fn map(&self) -> MutexGuard<'_, HashMap<(WorkspaceId, ServerName), (u64, Era)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Connects once. `None` when that failed, or when the session is no longer wanted; then nothing is left of it.
pub(crate) async fn open(
    inner: &Inner,
    entry: &Entry,
    closing: &TaskTracker,
) -> Option<(Arc<Link>, mpsc::Receiver<Inbound>)> {
    let (sender, inbound) = mpsc::channel(INBOUND);
    let options = ConnectOptions {
        known_era: inner.eras.known(entry),
        inbound: sender,
    };
    let stop = CancellationToken::new();
    // On the heap: a handshake's state is large, and a session is mostly not in one.
    let spec = own_spec(entry);
    let mut opening = pin!(Box::pin(connect_unless(&spec, options, &stop)));
    let opened = loop {
        tokio::select! {
            opened = &mut opening => break opened,
            () = entry.nudge.notified() => if !is_opening(entry) { stop.cancel() },
        }
    };
    match opened {
        Ok(connection) => {
            let link = connected(inner, entry, &connection);
            if link.is_none() {
                // Closed while it was connecting.
                closing.spawn(async move { connection.close().await });
            }
            link.map(|link| (link, inbound))
        }
        Err(error) => {
            failed(inner, entry, error);
            None
        }
    }
}

/// How the server is reached for this session: an agent must know whose calls may share a connection.
fn own_spec(entry: &Entry) -> Arc<ServerSpec> {
    let spec = &entry.target.spec;
    let Endpoint::Tunnel(tunnel) = &spec.endpoint else {
        return Arc::clone(spec);
    };
    let mut tunnel = tunnel.clone();
    tunnel.isolation_key = entry.key.isolation_key();
    Arc::new(ServerSpec {
        endpoint: Endpoint::Tunnel(tunnel),
        ..ServerSpec::clone(spec)
    })
}

fn is_opening(entry: &Entry) -> bool {
    matches!(entry.cell().state, State::Opening { .. })
}

fn connected(inner: &Inner, entry: &Entry, connection: &Arc<Connection>) -> Option<Arc<Link>> {
    inner.eras.learn(entry, Some(connection.info().era));
    let mut cell = entry.cell();
    if !matches!(cell.state, State::Opening { .. }) {
        return None;
    }
    cell.generation += 1;
    let link = Arc::new(Link {
        connection: Arc::clone(connection),
        generation: cell.generation,
        questions: Questions::default(),
    });
    cell.link = Some(Arc::clone(&link));
    cell.last_failure = None;
    inner.step(entry, &mut cell, (Event::Connected, None));
    Some(link)
}

fn failed(inner: &Inner, entry: &Entry, error: ConnectError) {
    let mut cell = entry.cell();
    if !matches!(cell.state, State::Opening { .. }) {
        // Given up because it is no longer wanted.
        return;
    }
    inner.eras.learn(entry, None);
    let words = error.to_string();
    // Without the words: they may be the server's, and only the broker knows what is secret in them.
    tracing::info!(session.id = %entry.id, session.server = %entry.key.server, "session.open failed");
    cell.last_failure = Some(Arc::new(error));
    cell.last_error = Some(words.clone());
    inner.step(entry, &mut cell, (Event::Failed, Some(&words)));
}
