//! A server as one caller reaches it: the definition's gaps filled with that caller's credentials.

use std::collections::BTreeMap;
use std::sync::Arc;

use secrecy::{ExposeSecret as _, SecretString};
use sessions::{Isolation, Target, UserId, WorkspaceId};
use transports::{Bearer, Endpoint, HttpSpec, ServerName, ServerSpec};

use super::oauth::Cell;
use super::{Holder, OPENED_FOR, Vault};
use crate::definition::{Checked, Lead, Need, Needs, Redactions};
use crate::error::{BrokerError, ErrorCode, Fault};
use crate::registry::Server;

/// Servers kept filled in; one more is filled in anew when it is used.
const MAX_KEPT: u64 = 4096;

/// Which filled-in server: the generation tells two definitions of one name apart.
type Key = (WorkspaceId, ServerName, u64, Option<UserId>);

/// Servers filled in lately. Holds credentials in memory.
pub(super) struct PersonalServers(moka::sync::Cache<Key, Arc<Server>>);

impl std::fmt::Debug for PersonalServers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PersonalServers({})", self.0.entry_count())
    }
}

impl PersonalServers {
    pub(super) fn new() -> Self {
        let kept = moka::sync::Cache::builder()
            .max_capacity(MAX_KEPT)
            .time_to_live(OPENED_FOR);
        Self(kept.support_invalidation_closures().build())
    }
}

fn key_of(holder: &Holder, target: &Target) -> Key {
    (
        holder.workspace.clone(),
        holder.server.clone(),
        target.version,
        holder.user.clone(),
    )
}

/// Where a server's secrets go: an origin, or the one machine the bridge runs on.
pub(crate) fn destination(server: &Server) -> Result<String, BrokerError> {
    Ok(match &server.target()?.spec.endpoint {
        Endpoint::StreamableHttp(http) | Endpoint::LegacySse(http) => {
            http.url.origin().ascii_serialization()
        }
        Endpoint::Stdio(_) | Endpoint::InProcess(_) | Endpoint::Tunnel(_) => "stdio".to_owned(),
    })
}

impl Server {
    /// What of it differs for each caller.
    pub(crate) fn needs(&self) -> Option<&Needs> {
        self.checked.as_ref().ok()?.needs.as_deref()
    }

    /// Whose credentials its sessions hold.
    pub(crate) fn holder(&self, user: &UserId) -> Holder {
        let shared = self.definition.isolation == Isolation::Shared;
        Holder {
            workspace: self.workspace.clone(),
            server: self.name.clone(),
            user: (!shared).then(|| user.clone()),
        }
    }
}

impl Vault {
    /// The server as this user reaches it; the same one where nothing differs.
    ///
    /// # Errors
    /// `upstream_needs_auth` when a secret is missing; `conflict` when one cannot be opened; `store_unavailable`.
    pub(crate) async fn personal(
        &self,
        server: &Arc<Server>,
        user: &UserId,
    ) -> Result<Arc<Server>, BrokerError> {
        let (Some(needs), Ok(target)) = (server.needs(), server.target()) else {
            return Ok(Arc::clone(server));
        };
        let holder = server.holder(user);
        let key = key_of(&holder, target);
        if let Some(known) = self.0.personal.0.get(&key) {
            return Ok(known);
        }
        let filled = Box::pin(self.fill(server, (target, needs), &holder)).await?;
        self.0.personal.0.insert(key, Arc::clone(&filled));
        Ok(filled)
    }

    /// What is known by value of the secrets in this holder's sessions of a server, without asking the store.
    pub(crate) fn redactions(&self, server: &Server, holder: &Holder) -> Redactions {
        let own = server.redactions();
        let (Some(needs), Ok(target)) = (server.needs(), server.target()) else {
            return own.clone();
        };
        if let Some(known) = self.0.personal.0.get(&key_of(holder, target)) {
            return known.redactions().clone();
        }
        match &target.spec.endpoint {
            Endpoint::StreamableHttp(http) | Endpoint::LegacySse(http) if needs.oauth.is_some() => {
                own.learning(self.0.cells.cell(holder, &http.url).tokens.clone())
            }
            _ => own.clone(),
        }
    }

    /// Forgets what was opened for one holder, or, for the workspace's own, for everybody who may use it.
    pub(crate) fn forget(&self, holder: &Holder) {
        let gone = holder.clone();
        let forgotten = self.0.personal.0.invalidate_entries_if(move |key, _| {
            key.0 == gone.workspace
                && key.1 == gone.server
                && (gone.user.is_none() || key.3 == gone.user)
        });
        // Cannot fail: the cache was built for it.
        drop(forgotten);
        self.0.cells.forget(holder);
    }

    async fn fill(
        &self,
        server: &Arc<Server>,
        (target, needs): (&Target, &Needs),
        holder: &Holder,
    ) -> Result<Arc<Server>, BrokerError> {
        let secrets = if needs.headers.is_empty() && needs.env.is_empty() {
            BTreeMap::new()
        } else {
            self.both_secrets(server, holder).await?
        };
        let mut used = Vec::new();
        let mut value = |need: &Need| {
            let found = secrets.get(&need.secret);
            let found = found.ok_or_else(|| missing(server, &need.secret))?;
            used.push(found.clone());
            let text = format!("{}{}", need.prefix, found.expose_secret());
            Ok::<_, BrokerError>(SecretString::from(text))
        };
        let mut spec = ServerSpec::clone(&target.spec);
        let mut tokens = None;
        match &mut spec.endpoint {
            Endpoint::StreamableHttp(http) | Endpoint::LegacySse(http) => {
                for (name, need) in &needs.headers {
                    http.headers.push((name.clone(), value(need)?));
                }
                if needs.oauth.is_some() {
                    let cell = self.0.cells.cell(holder, &http.url);
                    tokens = Some(cell.tokens.clone());
                    http.bearer = Some(self.bearer(cell, http));
                }
            }
            Endpoint::Stdio(stdio) => {
                for (name, need) in &needs.env {
                    stdio.env.insert(name.clone(), value(need)?);
                }
            }
            Endpoint::InProcess(_) | Endpoint::Tunnel(_) => {}
        }
        let target = Target {
            spec: Arc::new(spec),
            ..target.clone()
        };
        let mut redactions = server.redactions().and(&used);
        redactions.learn_from(tokens);
        Ok(Arc::new(Server {
            name: server.name.clone(),
            workspace: server.workspace.clone(),
            version: server.version,
            source: server.source,
            definition: server.definition.clone(),
            checked: server
                .checked
                .as_ref()
                .map_err(Clone::clone)
                .map(|checked| Checked {
                    lead: Lead::Server(target),
                    redactions,
                    ..checked.clone()
                }),
            created_at: server.created_at.clone(),
            created_by: server.created_by.clone(),
            via: server.via.clone(),
        }))
    }

    /// The workspace's secrets, and over them the user's own.
    async fn both_secrets(
        &self,
        server: &Server,
        holder: &Holder,
    ) -> Result<BTreeMap<String, SecretString>, BrokerError> {
        let to = destination(server)?;
        let workspaces = Holder {
            user: None,
            ..holder.clone()
        };
        let mut secrets = self.secrets_of(&workspaces, &to).await?;
        if holder.user.is_some() {
            secrets.extend(self.secrets_of(holder, &to).await?);
        }
        Ok(secrets)
    }

    fn bearer(&self, cell: Arc<Cell>, http: &HttpSpec) -> Bearer {
        let (vault, own) = (self.downgrade(), http.outbound.clone());
        Bearer(Arc::new(move |refused| {
            // What is held and good costs no more than a look.
            if refused.is_none()
                && let Some(token) = cell.good()
            {
                return Box::pin(std::future::ready(token));
            }
            let (vault, cell, own) = (vault.clone(), Arc::clone(&cell), own.clone());
            Box::pin(async move {
                let vault = Vault(vault.upgrade()?);
                vault.token(&cell, &own, refused).await
            })
        }))
    }
}

fn missing(server: &Server, name: &str) -> BrokerError {
    let mut fault = Fault::new(
        ErrorCode::UpstreamNeedsAuth,
        format!("the server needs the secret `{name}`, which is not there for its present address"),
    );
    fault.hint = Some(format!(
        "put it: PUT /v1/credentials/{} {{\"secrets\": {{\"{name}\": …}}}}",
        server.name
    ));
    fault.upstream = Some((server.name.to_string(), None));
    fault
}
