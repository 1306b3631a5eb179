//! From a key or a login to whom it belongs and what it opens, and from there to a principal.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use chrono::{DateTime, Utc};
use sessions::{UserId, WorkspaceId};
use sha2::{Digest as _, Sha256};
use tokio::time::Instant;

use super::trust::Verified;
use super::{Keys, digest};
use crate::error::{BrokerError, ErrorCode, Fault};
use crate::logins;
use crate::principal::{Principal, Role, Scopes};
use crate::store::{KeyRow, LoginRow, StoreError};

/// Uses closer together than this are noted once.
const TOUCH_EVERY_S: i64 = 60;
/// Longest key or cookie looked at.
const MAX_TOKEN_BYTES: usize = 256;

/// The one refusal of a credential: the same for unknown, wrong, expired and revoked.
pub(crate) fn refused() -> BrokerError {
    Fault::new(ErrorCode::Unauthenticated, "no valid credential was given")
}

/// Whom a credential belongs to and what it opens, all workspaces together.
#[derive(Debug, Clone)]
pub(crate) struct Reach {
    pub(crate) user: UserId,
    /// The credential's name in the record: a key's id, `login:<id>`, `jwt:<digest>`.
    pub(crate) name: String,
    pub(crate) memberships: Vec<(WorkspaceId, Vec<Role>)>,
    pub(crate) scopes: Vec<String>,
    pub(crate) expires_at: Option<DateTime<Utc>>,
}

/// A principal in the workspace asked for, or in the credential's first.
pub(crate) fn admitted(reach: &Reach, workspace: Option<&str>) -> Result<Principal, BrokerError> {
    let found = match workspace {
        None => reach.memberships.first(),
        Some(wanted) => reach
            .memberships
            .iter()
            .find(|(id, _)| id.as_str() == wanted),
    };
    let (workspace, roles) =
        found.ok_or_else(|| Fault::new(ErrorCode::ResourceNotFound, "no such workspace"))?;
    let workspaces = reach.memberships.iter().map(|(id, _)| id.clone());
    Ok(Principal {
        user: reach.user.clone(),
        workspace: workspace.clone(),
        workspaces: workspaces.collect(),
        roles: roles.clone(),
        key_id: reach.name.clone(),
        scopes: Scopes(reach.scopes.clone()),
        expires_at: reach.expires_at,
    })
}

/// Two kinds of secrets that never stand for each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Key,
    Login,
}

impl Keys {
    /// What a key opens. A warm one costs one digest and no disk.
    ///
    /// # Errors
    /// `unauthenticated`, the same for unknown, wrong, expired and revoked; `store_unavailable`.
    pub(crate) async fn of_key(&self, key: &str) -> Result<Arc<Verified>, BrokerError> {
        self.verify(Kind::Key, key).await
    }

    /// What a login opens: what the key it was begun with opens now, or the token opened then.
    ///
    /// # Errors
    /// As [`Keys::of_key`].
    pub(crate) async fn of_login(&self, cookie: &str) -> Result<Arc<Verified>, BrokerError> {
        self.verify(Kind::Login, cookie).await
    }

    async fn verify(&self, kind: Kind, token: &str) -> Result<Arc<Verified>, BrokerError> {
        if token.len() > MAX_TOKEN_BYTES {
            return Err(refused());
        }
        let digest: [u8; 32] = Sha256::new()
            .chain_update([u8::from(kind == Kind::Login)])
            .chain_update(token.as_bytes())
            .finalize()
            .into();
        self.trust.keep_up().await;
        let known = self.trust.get(&digest);
        if let Some(known) = &known {
            if known.is_expired() {
                return Err(refused());
            }
            if !known.is_due() {
                self.touch(known);
                return Ok(Arc::clone(known));
            }
        }
        let generation = self.trust.generation();
        let looked_up = match kind {
            Kind::Key => self.look_up_key(token, generation).await,
            Kind::Login => self.look_up_login(token, generation).await,
        };
        match looked_up {
            Ok(verified) => {
                let verified = Arc::new(verified);
                self.trust.insert(digest, &verified);
                self.touch(&verified);
                Ok(verified)
            }
            Err(error) if error.code == ErrorCode::StoreUnavailable => {
                // Asked anew: it may have been revoked in the meantime.
                self.trust.get(&digest).ok_or(error)
            }
            Err(error) => {
                self.trust.remove(&digest);
                Err(error)
            }
        }
    }

    async fn look_up_key(&self, token: &str, generation: u64) -> Result<Verified, BrokerError> {
        let (key_id, secret) = split(token).unwrap_or(("", token));
        let row = self.store.key(key_id).await?;
        // An unknown id costs the same comparison as a wrong secret.
        let kept = row.as_ref().map(|row| row.secret_hash.as_str());
        let equal = digest::matches(secret, kept);
        let key = row.filter(|_| equal).ok_or_else(refused)?;
        let touched_s = last_use(&key);
        let reach = self.reach_of_key(key).await?;
        Ok(Verified {
            key_id: Some(reach.name.clone()),
            reach,
            looked_up: Instant::now(),
            generation,
            touched_s: AtomicI64::new(touched_s),
        })
    }

    async fn reach_of_key(&self, key: KeyRow) -> Result<Reach, BrokerError> {
        let memberships = self.opened_by(&key).await?;
        Ok(Reach {
            user: key.user,
            name: key.key_id,
            memberships,
            scopes: key.scopes,
            expires_at: key.expires_at,
        })
    }

    /// What a key or a login opens now, by its name in the record: of what was begun with it, which nobody shows
    /// again.
    ///
    /// # Errors
    /// As [`Keys::of_key`].
    pub(crate) async fn of_name(&self, name: &str) -> Result<Reach, BrokerError> {
        let Some(login_id) = logins::id_in(name) else {
            let key = self.store.key(name).await?.ok_or_else(refused)?;
            return self.reach_of_key(key).await;
        };
        let login = self.store.login(login_id).await?.ok_or_else(refused)?;
        let (reach, _) = self.reach_of_login(&login).await?;
        Ok(reach)
    }

    /// The memberships of a key that is still good, narrowed to what it names.
    async fn opened_by(&self, key: &KeyRow) -> Result<Vec<(WorkspaceId, Vec<Role>)>, BrokerError> {
        if key.revoked_at.is_some() || key.expires_at.is_some_and(|end| end <= Utc::now()) {
            return Err(refused());
        }
        let user = self.store.user(&key.user).await?.ok_or_else(refused)?;
        let mut memberships = user.memberships;
        if !key.workspaces.is_empty() {
            let named = |id: &WorkspaceId| key.workspaces.iter().any(|one| one == id.as_str());
            memberships.retain(|(workspace, _)| named(workspace));
        }
        Ok(memberships)
    }

    async fn look_up_login(&self, cookie: &str, generation: u64) -> Result<Verified, BrokerError> {
        let (login_id, secret) = cookie.split_once('_').unwrap_or(("", cookie));
        let row = self.store.login(login_id).await?;
        let kept = row.as_ref().map(|row| row.secret_hash.as_str());
        let equal = digest::matches(secret, kept);
        let login = row.filter(|_| equal).ok_or_else(refused)?;
        let (reach, touched_s) = self.reach_of_login(&login).await?;
        Ok(Verified {
            reach,
            key_id: login.key_id,
            looked_up: Instant::now(),
            generation,
            touched_s: AtomicI64::new(touched_s),
        })
    }

    /// What a login opens now, and when its key was used last.
    async fn reach_of_login(&self, login: &LoginRow) -> Result<(Reach, i64), BrokerError> {
        if login.expires_at <= Utc::now() {
            return Err(refused());
        }
        let mut reach = Reach {
            name: logins::name_of(login),
            user: login.user.clone(),
            memberships: login.memberships.clone(),
            scopes: Vec::new(),
            expires_at: Some(login.expires_at),
        };
        let mut touched_s = 0;
        if let Some(key_id) = &login.key_id {
            let key = self.store.key(key_id).await?.ok_or_else(refused)?;
            reach.memberships = self.opened_by(&key).await?;
            let end = key.expires_at.unwrap_or(login.expires_at);
            reach.expires_at = Some(end.min(login.expires_at));
            touched_s = last_use(&key);
            reach.scopes = key.scopes;
        }
        Ok((reach, touched_s))
    }

    /// Notes that a key is used, itself or by a login of it.
    fn touch(&self, verified: &Verified) {
        let Some(key_id) = verified.key_id.clone() else {
            return;
        };
        let now = Utc::now().timestamp();
        let last = verified.touched_s.load(Ordering::Relaxed);
        let due = now - last >= TOUCH_EVERY_S;
        if due
            && verified
                .touched_s
                .compare_exchange(last, now, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok()
        {
            let store = self.store.clone();
            tokio::spawn(async move {
                // Only a display: the next use tries again.
                let _: Result<(), StoreError> = store.touch_key(&key_id).await;
            });
        }
    }
}

/// When a key was used last, in seconds; 0 = never.
fn last_use(key: &KeyRow) -> i64 {
    key.last_used_at.map_or(0, |time| time.timestamp())
}

/// `pb_<id>_<secret>` into its two parts.
fn split(token: &str) -> Option<(&str, &str)> {
    token.strip_prefix("pb_")?.split_once('_')
}
