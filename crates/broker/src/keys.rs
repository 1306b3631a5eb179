//! API keys: `pb_<id>_<secret>`. Makes them, replaces them, ends them. Who one belongs to is `verify`'s;
//! what a request may do is never asked here.

pub(crate) mod digest;
mod trust;
mod verify;

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use secrecy::SecretString;
use sessions::{UserId, WorkspaceId};

use self::digest::{hex_of, random};
use self::trust::Trust;
pub(crate) use self::verify::{Reach, admitted, refused};
use crate::error::{BrokerError, ErrorCode, Fault};
use crate::principal::Role;
use crate::store::{KeyRow, Store};

/// Random bytes of the public part and of the secret.
const ID_BYTES: usize = 8;
const SECRET_BYTES: usize = 32;
/// The user who is given the first key.
const ADMIN: &str = "admin";
/// The workspace that exists from the start.
pub const DEFAULT_WORKSPACE: &str = "default";
/// How long a replaced key is still good when nobody says: a deployment's worth.
pub const DEFAULT_OVERLAP: Duration = Duration::from_hours(1);
/// The longest it may be: a replaced key that is good for longer was not replaced.
pub const MAX_OVERLAP: Duration = Duration::from_hours(7 * 24);

/// A new key; the secret is shown this once.
#[derive(Debug)]
pub struct NewKey {
    /// The public part.
    pub key_id: String,
    /// The whole key.
    pub key: SecretString,
    /// Until when.
    pub expires_at: Option<DateTime<Utc>>,
}

/// What a new key is narrowed to.
#[derive(Debug, Clone, Default)]
pub struct KeyWish {
    /// Workspaces; empty = all of the user's.
    pub workspaces: Vec<String>,
    /// Scopes; empty = everything the user may.
    pub scopes: Vec<String>,
    /// Until when; `None` = until revoked.
    pub expires_at: Option<DateTime<Utc>>,
    /// What people call it.
    pub name: Option<String>,
}

/// Checks and makes keys. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Keys {
    store: Store,
    trust: Trust,
}

fn no_such_key() -> BrokerError {
    Fault::new(ErrorCode::ResourceNotFound, "no such key")
}

/// A fresh id and secret, and the row that remembers them for this user.
fn fresh(user: &UserId, wish: KeyWish) -> (NewKey, KeyRow) {
    let key_id = hex::encode(random::<ID_BYTES>());
    let secret = hex::encode(random::<SECRET_BYTES>());
    let row = KeyRow {
        key_id: key_id.clone(),
        user: user.clone(),
        secret_hash: hex_of(&secret),
        name: wish.name,
        scopes: wish.scopes,
        workspaces: wish.workspaces,
        created_at: Utc::now(),
        expires_at: wish.expires_at,
        revoked_at: None,
        last_used_at: None,
    };
    let new = NewKey {
        key: SecretString::from(format!("pb_{key_id}_{secret}")),
        key_id,
        expires_at: row.expires_at,
    };
    (new, row)
}

impl Keys {
    /// Nothing verified yet.
    #[must_use]
    pub fn new(store: Store) -> Self {
        Self {
            trust: Trust::new(store.clone()),
            store,
        }
    }

    /// Makes sure somebody can get in: when no admin has a usable key, makes one for `admin`.
    ///
    /// # Errors
    /// `store_unavailable`.
    pub async fn ensure_admin(&self) -> Result<Option<SecretString>, BrokerError> {
        let default = WorkspaceId::new(DEFAULT_WORKSPACE).map_err(|_| refused())?;
        self.store.add_workspace(&default).await?;
        if self.store.has_admin().await? {
            return Ok(None);
        }
        let admin = UserId::new(ADMIN).map_err(|_| refused())?;
        self.store
            .put_user(&admin, &[(default, vec![Role::Admin])])
            .await?;
        let wish = KeyWish {
            name: Some("first start".to_owned()),
            ..KeyWish::default()
        };
        Ok(Some(self.create(&admin, wish).await?.key))
    }

    /// Makes a key.
    ///
    /// # Errors
    /// `resource_not_found` for an unknown user, `store_unavailable`.
    pub async fn create(&self, user: &UserId, wish: KeyWish) -> Result<NewKey, BrokerError> {
        if self.store.user(user).await?.is_none() {
            return Err(Fault::new(ErrorCode::ResourceNotFound, "no such user"));
        }
        let (new, row) = fresh(user, wish);
        self.store.add_key(&row).await?;
        Ok(new)
    }

    /// Replaces a key by one with the same reach and the same end. The old one is good for the overlap, and
    /// no longer than it was before.
    ///
    /// # Errors
    /// `resource_not_found`; `conflict` for a key that was revoked or is over; `store_unavailable`.
    pub async fn rotate(
        &self,
        key_id: &str,
        overlap: Duration,
    ) -> Result<(NewKey, KeyRow), BrokerError> {
        let old = self.store.key(key_id).await?.ok_or_else(no_such_key)?;
        let wish = KeyWish {
            workspaces: old.workspaces,
            scopes: old.scopes,
            expires_at: old.expires_at,
            name: old.name,
        };
        let (new, row) = fresh(&old.user, wish);
        let overlap = TimeDelta::from_std(overlap.min(MAX_OVERLAP)).unwrap_or(TimeDelta::zero());
        let after = Utc::now() + overlap;
        let ends = old.expires_at.map_or(after, |end| end.min(after));
        if !self.store.succeed_key(key_id, (&row, ends)).await? {
            let detail = "this key was revoked or is over; make a new one";
            return Err(Fault::new(ErrorCode::Conflict, detail));
        }
        self.forget_all();
        Ok((new, row))
    }

    /// Revokes a key at once, and with it every login it began.
    ///
    /// # Errors
    /// `resource_not_found`, `store_unavailable`.
    pub async fn revoke(&self, key_id: &str) -> Result<(), BrokerError> {
        let revoked = self.store.revoke_key(key_id).await?;
        self.forget_all();
        if revoked { Ok(()) } else { Err(no_such_key()) }
    }

    /// Verifies everybody again at their next request: memberships or keys changed.
    pub fn forget_all(&self) {
        self.trust.forget_all();
    }

    /// Rises whenever something verified may hold no longer, here or on another node.
    pub(crate) async fn generation(&self) -> u64 {
        self.trust.keep_up().await;
        self.trust.generation()
    }

    /// Wakes whenever something verified may hold no longer; see `keep_watch`.
    #[must_use]
    pub fn changes(&self) -> tokio::sync::watch::Receiver<u64> {
        self.trust.changes()
    }

    /// Tells those who wait for [`Keys::changes`] what other nodes changed, for ever.
    pub(crate) async fn keep_watch(&self) {
        self.trust.keep_watch().await;
    }
}
