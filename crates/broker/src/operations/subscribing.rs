//! Subscriptions to resources of one server: counted over all clients of a session, told it by the first and the last,
//! and again over each new connection.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sessions::{Lane, SessionKey, SessionLease};

use super::passing::SAYING_TIMEOUT;
use super::{Broker, Inner};
use crate::agents::Aim;
use crate::asker::Asker;
use crate::error::{BrokerError, ErrorCode, Fault};
use crate::upstream_fault::Exchange;

/// Longest URI subscribed to, in bytes.
const MAX_URI_BYTES: usize = 8 * 1024;
/// URIs one session may be subscribed to for all its clients together.
const MAX_SUBSCRIBED: usize = 1000;

/// One subscription to one resource; it ends when dropped. Keeps its session from being idle.
#[derive(Debug)]
pub struct ResourceSubscription {
    inner: Arc<Inner>,
    /// In use for as long as somebody is subscribed.
    lease: SessionLease,
    asker: Asker,
    server: String,
    lane: Lane,
    uri: String,
}

/// Who is subscribed to what, over all sessions: the server hears of the first and of the last, and of all again
/// when it is reached over a new connection.
#[derive(Debug, Default)]
pub(crate) struct Subscribed(Mutex<HashMap<SessionKey, Watched>>);

#[derive(Debug)]
struct Watched {
    /// The connection that was told.
    generation: u64,
    uris: HashMap<String, usize>,
}

impl Subscribed {
    fn all(&self) -> MutexGuard<'_, HashMap<SessionKey, Watched>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts one in; `None` over the bound, else whether it is the first.
    fn enter(&self, (key, generation): (&SessionKey, u64), uri: &str) -> Option<bool> {
        let mut all = self.all();
        let watched = all.entry(key.clone()).or_insert_with(|| Watched {
            generation,
            uris: HashMap::new(),
        });
        if !watched.uris.contains_key(uri) && watched.uris.len() >= MAX_SUBSCRIBED {
            return None;
        }
        let count = watched.uris.entry(uri.to_owned()).or_default();
        *count += 1;
        Some(*count == 1)
    }

    /// Counts one out; whether it was the last.
    fn leave(&self, key: &SessionKey, uri: &str) -> bool {
        let mut all = self.all();
        let Some(watched) = all.get_mut(key) else {
            return false;
        };
        let Some(count) = watched.uris.get_mut(uri) else {
            return false;
        };
        *count -= 1;
        let last = *count == 0;
        if last {
            watched.uris.remove(uri);
        }
        if watched.uris.is_empty() {
            all.remove(key);
        }
        last
    }

    /// What this connection has not been told; to be told by whoever asked first.
    fn untold(&self, key: &SessionKey, generation: u64) -> Vec<String> {
        let mut all = self.all();
        let newer = all
            .get_mut(key)
            .filter(|watched| watched.generation < generation);
        newer.map_or_else(Vec::new, |watched| {
            watched.generation = generation;
            watched.uris.keys().cloned().collect()
        })
    }
}

impl Broker {
    /// Subscribes to one resource; its updates come from [`Broker::watch_server`].
    ///
    /// # Errors
    /// `invalid_request`, `server_not_found`, `quota_exceeded`, and the server's own refusal.
    pub async fn subscribe_resource(
        &self,
        asker: &Asker,
        (server, lane): (&str, &Lane),
        uri: &str,
    ) -> Result<ResourceSubscription, BrokerError> {
        if uri.is_empty() || uri.len() > MAX_URI_BYTES {
            let detail = "uri is empty or too long";
            return Err(Fault::new(ErrorCode::InvalidRequest, detail));
        }
        let inner = &self.inner;
        let found = inner.usable_server_in(asker, server, Aim::lane(lane))?;
        let lease = inner.lease(asker, server, lane).await?;
        inner.subscribe_again(&lease).await;
        let link = (lease.key(), lease.generation());
        let Some(first) = inner.subscribed.enter(link, uri) else {
            let detail = format!("{MAX_SUBSCRIBED} resources are subscribed to already");
            return Err(Fault::new(ErrorCode::QuotaExceeded, detail));
        };
        let subscription = ResourceSubscription {
            inner: Arc::clone(inner),
            lease,
            asker: asker.clone(),
            server: server.to_owned(),
            lane: lane.clone(),
            uri: uri.to_owned(),
        };
        if first {
            subscription
                .lease
                .subscribe_resource(uri, SAYING_TIMEOUT)
                .await
                .map_err(|error| found.refused(&error, Exchange::Resource))?;
        }
        Ok(subscription)
    }
}

impl Inner {
    /// Tells a new connection what the one before it was told.
    pub(super) async fn subscribe_again(&self, lease: &SessionLease) {
        for uri in self.subscribed.untold(lease.key(), lease.generation()) {
            let told = lease.subscribe_resource(&uri, SAYING_TIMEOUT).await;
            if let Err(error) = told {
                // Nobody can be told: the subscription was good when it was made.
                tracing::warn!(server.name = %lease.key().server, error = %error, "a resource could not be subscribed to again");
            }
        }
    }
}

impl ResourceSubscription {
    /// What it is about.
    #[must_use]
    pub fn uri(&self) -> &str {
        &self.uri
    }
}

impl Drop for ResourceSubscription {
    fn drop(&mut self) {
        if !self.inner.subscribed.leave(self.lease.key(), &self.uri) {
            return;
        }
        // Without a runtime the session goes as well, and the subscription with it.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let inner = Arc::clone(&self.inner);
            let (asker, lane) = (self.asker.clone(), self.lane.clone());
            let server = std::mem::take(&mut self.server);
            let uri = std::mem::take(&mut self.uri);
            self.inner.tasks.spawn_on(
                async move {
                    // Over the connection there is now: the one that was subscribed on may be gone.
                    if let Ok(lease) = inner.lease(&asker, &server, &lane).await {
                        // A server that refuses sends nothing more that anybody would be told.
                        let _ = lease.unsubscribe_resource(&uri, SAYING_TIMEOUT).await;
                    }
                },
                &runtime,
            );
        }
    }
}
