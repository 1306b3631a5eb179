//! Sessions as callers see them: open, list, inspect, close, refresh; another user's do not exist.

use std::time::Duration;

use sessions::{Caller, Inspection, Isolation, Lane, SessionId, UserId};
use tokio::time::Instant;

use super::page::{Page, PageRequest};
use super::{Broker, Inner};
use crate::agents::Aim;
use crate::asker::Asker;
use crate::error::{BrokerError, ErrorCode, Fault};
use crate::gate::CircuitView;
use crate::policy::Policy;
use crate::principal::Role;
use crate::registry::Server;
use crate::upstream_fault::Upstream;

/// Which session is wanted.
#[derive(Debug, Clone, Default)]
pub struct OpenSession {
    /// The server.
    pub server: String,
    /// The run or conversation.
    pub lane: Lane,
    /// Keep it this long even when idle.
    pub ttl: Option<Duration>,
}

/// A session as its owner sees it.
#[derive(Debug, Clone)]
pub struct SessionView {
    /// Everything `sessions` knows; `stderr` and `last_error` are redacted.
    pub inspection: Inspection,
    /// Who shares it and why, in a sentence.
    pub sharing: String,
    /// The catalogue of its server, short.
    pub catalog_hash: Option<String>,
    /// How the circuit of its server stands; `None` where the server is gone.
    pub circuit: Option<CircuitView>,
}

/// Longest wait for a session that is opened or refreshed on request.
const OPEN_WAIT: Duration = Duration::from_mins(1);
/// Longest `ttl` a caller may ask for: a day.
const MAX_TTL: Duration = Duration::from_hours(24);

impl Broker {
    /// Opens a session now; calls open theirs by themselves.
    ///
    /// # Errors
    /// `server_not_found` and the codes of upstream faults.
    pub async fn open_session(
        &self,
        asker: &Asker,
        request: OpenSession,
    ) -> Result<SessionView, BrokerError> {
        let inner = &self.inner;
        if request.ttl.is_some_and(|ttl| ttl > MAX_TTL) {
            let detail = format!("ttl_s must be at most {}", MAX_TTL.as_secs());
            return Err(Fault::new(ErrorCode::InvalidRequest, detail));
        }
        if inner.gate.is_closed() {
            return Err(Fault::new(
                ErrorCode::ShuttingDown,
                "the bridge is shutting down",
            ));
        }
        let server = inner.usable_server_in(asker, &request.server, Aim::lane(&request.lane))?;
        if server.definition.isolation == Isolation::Call {
            let mut fault = Fault::new(
                ErrorCode::Conflict,
                "this server gets a fresh session for every call",
            );
            fault.hint = Some("call its tools without opening a session".to_owned());
            return Err(fault);
        }
        let caller = Caller {
            user: asker.principal.user.clone(),
            workspace: asker.principal.workspace.clone(),
            lane: request.lane,
        };
        let deadline = Instant::now() + OPEN_WAIT;
        let own = inner.vault.personal(&server, &caller.user).await?;
        let opened = inner
            .sessions
            .open(&caller, own.target()?, (request.ttl, deadline))
            .await;
        let inspection = opened.map_err(|error| {
            let fault = upstream(&own).not_opened(&error);
            inner.vault.with_link(fault, (&server, &caller.user))
        })?;
        Ok(inner.session_view(inspection).await)
    }

    /// The asker's own and the workspace's shared sessions; all of the workspace for `admin`.
    ///
    /// # Errors
    /// `invalid_request`.
    pub async fn list_sessions(
        &self,
        asker: &Asker,
        page: PageRequest,
    ) -> Result<Page<SessionView>, BrokerError> {
        let mut found = self.inner.sessions.list();
        let policy = self.inner.policy.now();
        found.retain(|one| sees_session(&policy, asker, one));
        found.sort_by_key(|one| one.id);
        let page = page.cut(found, |one| one.id.to_string())?;
        let mut items = Vec::with_capacity(page.items.len());
        for one in page.items {
            items.push(self.inner.session_view(one).await);
        }
        Ok(Page {
            items,
            next_cursor: page.next_cursor,
        })
    }

    /// One session (`ses_…`).
    ///
    /// # Errors
    /// `session_not_found`.
    pub async fn inspect_session(
        &self,
        asker: &Asker,
        session_id: &str,
    ) -> Result<SessionView, BrokerError> {
        let (_, inspection) = self.inner.own_session(asker, session_id)?;
        Ok(self.inner.session_view(inspection).await)
    }

    /// Closes a session; returns when its process or socket is gone.
    ///
    /// # Errors
    /// `session_not_found`; `forbidden` for a shared one without `operator` or `admin`.
    pub async fn close_session(&self, asker: &Asker, session_id: &str) -> Result<(), BrokerError> {
        let (id, inspection) = self.inner.own_session(asker, session_id)?;
        may_end(asker, &inspection)?;
        if self.inner.sessions.close(id).await {
            Ok(())
        } else {
            Err(no_such_session())
        }
    }

    /// Drops the connection, opens a new one, and lists the catalogue again.
    ///
    /// # Errors
    /// As [`Broker::close_session`], and the codes of upstream faults.
    pub async fn refresh_session(
        &self,
        asker: &Asker,
        session_id: &str,
    ) -> Result<SessionView, BrokerError> {
        let inner = &self.inner;
        let (id, before) = inner.own_session(asker, session_id)?;
        may_end(asker, &before)?;
        let key = &before.key;
        let server = inner.server_of(key).ok_or_else(no_such_session)?;
        let deadline = Instant::now() + OPEN_WAIT;
        let refreshed = inner.sessions.refresh(id, deadline).await;
        let refreshed = refreshed.ok_or_else(no_such_session)?;
        let inspection = refreshed.map_err(|error| upstream(&server).not_opened(&error))?;
        let caller = Caller {
            user: key
                .user
                .clone()
                .unwrap_or_else(|| asker.principal.user.clone()),
            workspace: key.workspace.clone(),
            lane: key.lane.clone().unwrap_or_default(),
        };
        inner.catalogues.listed(&server, &caller, deadline).await;
        Ok(inner.session_view(inspection).await)
    }
}

impl Inner {
    /// A session the asker may see; another user's does not exist.
    fn own_session(
        &self,
        asker: &Asker,
        text: &str,
    ) -> Result<(SessionId, Inspection), BrokerError> {
        let id = SessionId::parse(text).ok_or_else(no_such_session)?;
        let inspection = self
            .sessions
            .inspect(id)
            .filter(|one| sees_session(&self.policy.now(), asker, one));
        inspection.map(|one| (id, one)).ok_or_else(no_such_session)
    }

    async fn session_view(&self, mut inspection: Inspection) -> SessionView {
        let key = &inspection.key;
        let sharing = sharing(&inspection);
        let Some(server) = self.server_of(key) else {
            // Without its definition its secrets are not known, so its words are not shown.
            inspection.stderr.clear();
            inspection.last_error = None;
            return SessionView {
                inspection,
                sharing,
                catalog_hash: None,
                circuit: None,
            };
        };
        let user = key.user.clone().or_else(|| UserId::new("shared").ok());
        let slot = user
            .as_ref()
            .map(|user| self.catalogues.slot_for(&server, user));
        let snapshot = slot.and_then(|slot| slot.snapshot());
        let own = match &user {
            Some(user) => self.vault.personal(&server, user).await.ok(),
            None => None,
        };
        let last_error = inspection.last_error.take();
        if let Some(own) = own {
            let redactions = own.redactions();
            for line in &mut inspection.stderr {
                *line = redactions.clean(line);
            }
            inspection.last_error = last_error.map(|text| redactions.clean(&text));
        } else {
            // The same where a secret of its owner's cannot be opened.
            inspection.stderr.clear();
        }
        SessionView {
            inspection,
            sharing,
            catalog_hash: snapshot.map(|snapshot| snapshot.hash.short()),
            circuit: Some(self.gate.circuit(&server)),
        }
    }
}

fn upstream(server: &Server) -> Upstream<'_> {
    Upstream {
        server: server.name.as_str(),
        redactions: server.redactions(),
    }
}

fn sees_session(policy: &Policy, asker: &Asker, one: &Inspection) -> bool {
    let who = &asker.principal;
    let own = one.key.user.as_ref().is_none_or(|user| *user == who.user);
    one.key.workspace == who.workspace
        && (own || who.oversees())
        && policy.sees_server(who, one.key.server.as_str())
}

/// A shared session serves the whole workspace: ending it is for those who may act there.
fn may_end(asker: &Asker, one: &Inspection) -> Result<(), BrokerError> {
    let who = &asker.principal;
    let acts = who.has(Role::Operator) || who.has(Role::Admin);
    if one.key.user.is_some() || acts {
        return Ok(());
    }
    Err(Fault::new(
        ErrorCode::Forbidden,
        "a shared session is ended by operators and admins",
    ))
}

fn no_such_session() -> BrokerError {
    Fault::new(ErrorCode::SessionNotFound, "there is no such session")
}

fn sharing(inspection: &Inspection) -> String {
    let server = &inspection.key.server;
    match inspection.isolation {
        Isolation::Shared => format!(
            "everybody in the workspace shares it, because the owner of {server} set isolation to shared"
        ),
        Isolation::User => {
            format!("all lanes of this user share it, because the isolation of {server} is user")
        }
        Isolation::Lane => format!(
            "only this lane of this user uses it, because the isolation of {server} is lane"
        ),
        Isolation::Call => format!(
            "one call uses it and then it closes, because the isolation of {server} is call"
        ),
    }
}
