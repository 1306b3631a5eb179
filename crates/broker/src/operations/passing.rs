//! What one server is and offers, as its own clients see it: the handshake's facts and raw definitions. For faces
//! that pass one server through; what it says by itself is in `watching`, subscriptions are in `subscribing`.

use std::sync::Arc;
use std::time::Duration;

use catalog::{Kind, Snapshot};
use serde_json::value::RawValue;
use sessions::{Caller, Lane, SessionKey, SessionLease};
use sha2::{Digest as _, Sha256};
use tokio::time::Instant;
use transports::{Era, LogLevel, RequestError};

use super::{Broker, Inner};
use crate::agents::Aim;
use crate::asker::Asker;
use crate::error::{BrokerError, ErrorCode, Fault};
use crate::registry::Server;
use crate::store::signing::SECRET_BYTES;
use crate::upstream_fault::{Exchange, Upstream};

/// How long a server may take to say yes to a subscription or a log level.
pub(super) const SAYING_TIMEOUT: Duration = Duration::from_secs(30);

/// What a server said at its handshake.
#[derive(Debug, Clone)]
pub struct ServerPeer {
    /// The era it speaks.
    pub era: Era,
    /// Its protocol revision.
    pub protocol_version: String,
    /// Raw `serverInfo`.
    pub server_info: Option<Arc<RawValue>>,
    /// Raw `capabilities`.
    pub capabilities: Arc<RawValue>,
    /// Its `instructions`; untrusted text.
    pub instructions: Option<String>,
}

/// Raw definitions of one kind, as the server wrote them and in its order, without what the asker may not see.
#[derive(Debug, Clone)]
pub struct RawList {
    /// The definitions.
    pub items: Vec<Arc<RawValue>>,
    /// Changes whenever `items` does; the same for equal lists. Short hex.
    pub hash: String,
    /// For how long yet the list is fresh by the server's word, in milliseconds: what it said less the list's age.
    pub ttl_ms: Option<u64>,
    /// The server said that everybody is offered the same.
    pub public: bool,
}

impl Broker {
    /// The handshake's facts; opens the session when there is none.
    ///
    /// # Errors
    /// `server_not_found`, and the codes of an upstream that cannot be reached.
    pub async fn server_peer(
        &self,
        asker: &Asker,
        server: &str,
        lane: &Lane,
    ) -> Result<ServerPeer, BrokerError> {
        let lease = self.inner.lease(asker, server, lane).await?;
        let peer = lease.peer();
        Ok(ServerPeer {
            era: peer.era,
            protocol_version: peer.protocol_version.clone(),
            server_info: peer.server_info.clone(),
            capabilities: Arc::clone(&peer.capabilities),
            instructions: peer.instructions.clone(),
        })
    }

    /// Raw definitions of one kind. Memory only, once the server was listed.
    ///
    /// # Errors
    /// `server_not_found`; the listing's own fault when nothing was ever listed.
    pub async fn raw_list(
        &self,
        asker: &Asker,
        server: &str,
        kind: Kind,
    ) -> Result<RawList, BrokerError> {
        let inner = &self.inner;
        let server = inner.usable_server(asker, server)?;
        let (snapshot, fresh_for) = inner.snapshot_of(asker, &server).await?;
        let mut digest = Sha256::new();
        let mut items = Vec::new();
        // Looked up once: a server may have thousands of tools.
        let who = &asker.principal;
        let (pins, policy) = (inner.pins.of_server(&server, &who.user), inner.policy.now());
        for entry in snapshot.as_listed().filter(|entry| entry.kind == kind) {
            // A quarantined text may be just what it is quarantined for.
            if !pins.standing(entry).is_quarantined() && server.lists(who, entry, &policy) {
                digest.update(entry.hash.0);
                items.push(Arc::clone(&entry.raw));
            }
        }
        let digest: [u8; 32] = digest.finalize().into();
        Ok(RawList {
            items,
            hash: catalog::Hash(digest).short(),
            ttl_ms: fresh_for.map(|left| u64::try_from(left.as_millis()).unwrap_or(u64::MAX)),
            public: snapshot.public,
        })
    }

    /// A random key under a name, the same after a restart and on every node: for signing what a face hands out.
    ///
    /// # Errors
    /// `store_unavailable`.
    pub async fn signing_secret(&self, name: &str) -> Result<[u8; SECRET_BYTES], BrokerError> {
        Ok(self.inner.store.signing_secret(name).await?)
    }

    /// Says which log messages the asker's session is to send.
    ///
    /// # Errors
    /// `server_not_found`, and the server's own refusal.
    pub async fn set_log_level(
        &self,
        asker: &Asker,
        (server, lane): (&str, &Lane),
        level: LogLevel,
    ) -> Result<(), BrokerError> {
        let found = self
            .inner
            .usable_server_in(asker, server, Aim::lane(lane))?;
        let lease = self.inner.lease(asker, server, lane).await?;
        let set = lease.set_log_level(level, SAYING_TIMEOUT).await;
        set.map_err(|error| found.refused(&error, Exchange::Completion))
    }
}

impl Server {
    pub(super) fn session_key(&self, caller: &Caller) -> SessionKey {
        match self.target() {
            Ok(target) => SessionKey::of(caller, target),
            Err(_) => SessionKey::named(caller, &self.name, self.definition.isolation),
        }
    }

    pub(super) fn refused(&self, error: &RequestError, exchange: Exchange) -> BrokerError {
        let upstream = Upstream {
            server: self.name.as_str(),
            redactions: self.redactions(),
        };
        upstream.not_answered(error, exchange)
    }
}

impl Inner {
    pub(super) async fn lease(
        &self,
        asker: &Asker,
        server: &str,
        lane: &Lane,
    ) -> Result<SessionLease, BrokerError> {
        let server = self.usable_server_in(asker, server, Aim::lane(lane))?;
        let own = server.definition.timeout_ms.map(Duration::from_millis);
        let deadline = Instant::now() + own.unwrap_or(self.calls.default_timeout);
        let caller = asker.caller(lane);
        let own = self.vault.personal(&server, &caller.user).await?;
        let lease = self.sessions.acquire(&caller, own.target()?, deadline);
        lease.await.map_err(|error| {
            let upstream = Upstream {
                server: own.name.as_str(),
                redactions: own.redactions(),
            };
            let fault = upstream.not_opened(&error);
            self.vault.with_link(fault, (&server, &caller.user))
        })
    }

    async fn snapshot_of(
        &self,
        asker: &Asker,
        server: &Arc<Server>,
    ) -> Result<(Arc<Snapshot>, Option<Duration>), BrokerError> {
        let servers = [Arc::clone(server)];
        let slots = self.catalogues.look(&servers, &asker.principal.user).await;
        let shown = slots.first().map(|(_, slot)| slot.shown());
        let (snapshot, error, fresh_for) = shown.map_or((None, None, None), |shown| {
            (shown.snapshot, shown.error, shown.fresh_for)
        });
        let snapshot = snapshot.ok_or_else(|| {
            error.unwrap_or_else(|| {
                let detail = format!("{} was not listed in time", server.name);
                Fault::new(ErrorCode::UpstreamTimeout, detail)
            })
        });
        Ok((snapshot?, fresh_for))
    }
}
