//! What one server says by itself, to one asker.

use catalog::Kind;
use sessions::{Lane, SessionKey, SessionNotice, StateName};
use std::sync::Arc;
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;
use transports::Notification;

use super::Broker;
use crate::agents::Aim;
use crate::asker::Asker;
use crate::catalogue::Moved;
use crate::error::BrokerError;

/// What a server says by itself.
#[derive(Debug)]
pub enum ServerNotice {
    /// A notification that belongs to no call: `resources/updated`, a log, … `list_changed` comes as
    /// [`ServerNotice::CatalogChanged`], once the bridge has read the new list.
    Upstream(Notification),
    /// What it offers this asker changed.
    CatalogChanged {
        /// The tools did.
        tools: bool,
        /// Resources or templates did.
        resources: bool,
        /// The prompts did.
        prompts: bool,
    },
    /// So many notices were lost, for the reader was too slow: anything may have changed.
    Lagged(u64),
}

/// Listens to one server for one asker.
#[derive(Debug)]
pub struct ServerWatch {
    broker: Broker,
    asker: Asker,
    server: String,
    lane: Lane,
    key: SessionKey,
    notices: broadcast::Receiver<SessionNotice>,
    moves: broadcast::Receiver<Arc<Moved>>,
    seen: [String; 3],
}

impl Broker {
    /// Listens to what a server says by itself, from now on. Opens no session.
    ///
    /// # Errors
    /// `server_not_found`; `overloaded` when too many follow this workspace's events.
    pub async fn watch_server(
        &self,
        asker: &Asker,
        server: &str,
        lane: &Lane,
    ) -> Result<ServerWatch, BrokerError> {
        let found = self
            .inner
            .usable_server_in(asker, server, Aim::lane(lane))?;
        let key = found.session_key(&asker.caller(lane));
        let notices = self.inner.sessions.notices();
        let moves = self.inner.catalogues.moves();
        let mut watch = ServerWatch {
            broker: self.clone(),
            asker: asker.clone(),
            server: server.to_owned(),
            lane: lane.clone(),
            key,
            notices,
            moves,
            seen: Default::default(),
        };
        watch.seen = watch.hashes().await;
        Ok(watch)
    }
}

impl ServerWatch {
    /// The next notice; `None` when the bridge shuts down. Safe to drop and call again.
    pub async fn next(&mut self) -> Option<ServerNotice> {
        loop {
            tokio::select! {
                notice = self.notices.recv() => match notice {
                    Ok(SessionNotice::Upstream { key, notification, .. }) => {
                        if key == self.key && !notification.method.ends_with("/list_changed") {
                            return Some(ServerNotice::Upstream(notification));
                        }
                    }
                    Ok(SessionNotice::State { key, state: StateName::Ready, .. }) if key == self.key => {
                        self.reconnected().await;
                    }
                    Ok(SessionNotice::State { .. }) => {}
                    Err(RecvError::Lagged(lost)) => return Some(ServerNotice::Lagged(lost)),
                    Err(RecvError::Closed) => return None,
                },
                moved = self.moves.recv() => {
                    match moved {
                        Ok(moved) if !self.concerns(&moved) => continue,
                        // What was lost may have been about this server.
                        Ok(_) | Err(RecvError::Lagged(_)) => {}
                        Err(RecvError::Closed) => return None,
                    }
                    let now = self.hashes().await;
                    let [tools, resources, prompts] =
                        std::array::from_fn(|at| now[at] != self.seen[at]);
                    self.seen = now;
                    if tools || resources || prompts {
                        return Some(ServerNotice::CatalogChanged { tools, resources, prompts });
                    }
                }
            }
        }
    }

    fn concerns(&self, moved: &Moved) -> bool {
        moved.server.as_str() == self.server && moved.concerns(&self.asker.principal)
    }

    /// The session has a new connection, which knows of no subscription.
    async fn reconnected(&self) {
        let inner = &self.broker.inner;
        if let Ok(lease) = inner.lease(&self.asker, &self.server, &self.lane).await {
            inner.subscribe_again(&lease).await;
        }
    }

    /// Of tools, resources with templates, and prompts.
    async fn hashes(&self) -> [String; 3] {
        let of = async |kind| {
            let list = self.broker.raw_list(&self.asker, &self.server, kind).await;
            list.map(|list| list.hash).unwrap_or_default()
        };
        [
            of(Kind::Tool).await,
            format!("{}{}", of(Kind::Resource).await, of(Kind::Template).await),
            of(Kind::Prompt).await,
        ]
    }

    /// The lane it listens in.
    #[must_use]
    pub fn lane(&self) -> &Lane {
        &self.lane
    }
}
