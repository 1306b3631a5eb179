//! Where notices come from: one server, or the list of the deferred face.

use broker::BrokerError;
use broker::operations::watching::{ServerNotice, ServerWatch};

use super::Face;
use super::deferred::changes::Changes;
use super::visit::Visit;

/// Where notices come from.
#[derive(Debug)]
pub(super) enum Watch {
    /// One server.
    Server(Box<ServerWatch>),
    /// What the deferred face lists.
    Deferred(Box<Changes>),
}

impl Watch {
    /// From now on.
    ///
    /// # Errors
    /// `server_not_found`.
    pub(super) async fn of(visit: &Visit) -> Result<Self, BrokerError> {
        let broker = &visit.app.broker;
        Ok(match &visit.face {
            Face::Server(name) => {
                let lane = visit.lane();
                let watch = broker.watch_server(&visit.asker, name.as_str(), &lane);
                Self::Server(Box::new(watch.await?))
            }
            Face::Deferred => Self::Deferred(Box::new(Changes::of(visit).await)),
        })
    }

    /// What comes next; `None` when the bridge is gone. Cancel safe.
    pub(super) async fn next(&mut self) -> Option<ServerNotice> {
        match self {
            Self::Server(watch) => watch.next().await,
            Self::Deferred(changes) => {
                changes.next().await?;
                Some(ServerNotice::CatalogChanged {
                    tools: true,
                    resources: false,
                    prompts: false,
                })
            }
        }
    }
}
