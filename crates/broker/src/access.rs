//! From a credential of any kind to a principal: keys, tokens of the issuer, logins. One refusal for all of them.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use chrono::Utc;
use secrecy::{ExposeSecret as _, SecretString};
use sessions::WorkspaceId;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::error::BrokerError;
use crate::issuer::{Issuer, IssuerOptions};
use crate::keys::{Keys, Reach, admitted, refused};
use crate::logins::{self, NewLogin};
use crate::principal::Principal;
use crate::store::Store;

/// Which credentials are taken.
#[derive(Debug, Clone)]
pub struct AccessOptions {
    /// API keys are.
    pub keys: bool,
    /// Tokens of this issuer are.
    pub issuer: Option<IssuerOptions>,
}

impl Default for AccessOptions {
    fn default() -> Self {
        Self {
            keys: true,
            issuer: None,
        }
    }
}

/// A credential as it was presented.
#[derive(Debug, Clone)]
pub enum Credential {
    /// A key, or a token of the issuer.
    Token(SecretString),
    /// The cookie of a login.
    Login(SecretString),
}

/// Whoever comes in comes in here.
#[derive(Debug)]
pub(crate) struct Access {
    keys: Keys,
    takes_keys: bool,
    issuer: Option<Issuer>,
    store: Store,
    /// Workspaces that exist, as of a generation of what is verified: creating one begins the next.
    workspaces: Mutex<Option<Existing>>,
}

type Existing = (u64, Arc<Vec<WorkspaceId>>);

impl Access {
    pub(crate) fn new(
        (options, store): (AccessOptions, Store),
        keys: Keys,
        owner: (&TaskTracker, &CancellationToken),
    ) -> Self {
        Self {
            issuer: options.issuer.map(|options| Issuer::new(options, owner)),
            takes_keys: options.keys,
            keys,
            store,
            workspaces: Mutex::default(),
        }
    }

    /// Who a credential belongs to, in the workspace asked for or the credential's first.
    ///
    /// # Errors
    /// `unauthenticated`, the same for unknown, wrong, expired and revoked; `resource_not_found` for a workspace
    /// that is not the principal's; `store_unavailable`.
    pub(crate) async fn admit(
        &self,
        credential: &Credential,
        workspace: Option<&str>,
    ) -> Result<Principal, BrokerError> {
        match credential {
            Credential::Token(token) => self.admit_token(token.expose_secret(), workspace).await,
            Credential::Login(cookie) => {
                let verified = self.keys.of_login(cookie.expose_secret()).await?;
                admitted(&verified.reach, workspace)
            }
        }
    }

    /// The same for a key or a token of the issuer.
    ///
    /// # Errors
    /// As [`Access::admit`].
    pub(crate) async fn admit_token(
        &self,
        token: &str,
        workspace: Option<&str>,
    ) -> Result<Principal, BrokerError> {
        if let Some(issuer) = self.issuer_of(token) {
            return admitted(&self.of_issuer(issuer, token).await?, workspace);
        }
        if !self.takes_keys {
            return Err(refused());
        }
        admitted(&self.keys.of_key(token).await?.reach, workspace)
    }

    /// What the credential a principal came by opens now, in the same workspace. Nobody shows it again: it is
    /// minutes later, and what was put off then is about to begin.
    ///
    /// # Errors
    /// As [`Access::admit`].
    pub(crate) async fn still(&self, who: &Principal) -> Result<Principal, BrokerError> {
        if who.expires_at.is_some_and(|end| end <= Utc::now()) {
            return Err(refused());
        }
        let of_token = who.is_of_issuer() && logins::id_in(&who.key_id).is_none();
        let asks_nobody = !self.takes_keys && self.issuer.is_none();
        if of_token || asks_nobody {
            // A token says the same until it ends, and who needs no credential can lose none.
            return Ok(who.clone());
        }
        let reach = self.keys.of_name(&who.key_id).await?;
        admitted(&reach, Some(who.workspace.as_str()))
    }

    /// Begins a login with a key or a token; with it the login's name for the record.
    ///
    /// # Errors
    /// As [`Access::admit`].
    pub(crate) async fn begin_login(
        &self,
        token: &str,
        ttl: Duration,
    ) -> Result<(NewLogin, String), BrokerError> {
        if let Some(issuer) = self.issuer_of(token) {
            let reach = self.of_issuer(issuer, token).await?;
            return logins::begin(&self.store, (&reach, None), ttl).await;
        }
        if !self.takes_keys {
            return Err(refused());
        }
        let verified = self.keys.of_key(token).await?;
        let key_id = Some(verified.reach.name.clone());
        logins::begin(&self.store, (&verified.reach, key_id), ttl).await
    }

    fn issuer_of(&self, token: &str) -> Option<&Issuer> {
        self.issuer
            .as_ref()
            .filter(|_| Issuer::looks_like_token(token))
    }

    async fn of_issuer(&self, issuer: &Issuer, token: &str) -> Result<Reach, BrokerError> {
        let mut reach = issuer.read(token).await?;
        let existing = self.existing_workspaces().await?;
        reach
            .memberships
            .retain(|(workspace, _)| existing.contains(workspace));
        Ok(reach)
    }

    async fn existing_workspaces(&self) -> Result<Arc<Vec<WorkspaceId>>, BrokerError> {
        let generation = self.keys.generation().await;
        let known = self
            .workspaces
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        if let Some((_, known)) = known.filter(|(of, _)| *of == generation) {
            return Ok(known);
        }
        let read = Arc::new(self.store.workspaces().await?);
        let mut known = self
            .workspaces
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        *known = Some((generation, Arc::clone(&read)));
        Ok(read)
    }
}
