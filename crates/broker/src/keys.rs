//! API keys: `pb_<id>_<secret>`. From a credential to a principal; never from anything else.

mod trust;

use std::sync::Arc;
use std::sync::atomic::Ordering;

use chrono::{DateTime, Utc};
use secrecy::SecretString;
use sessions::{UserId, WorkspaceId};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use self::trust::{Trust, Verified};
use crate::error::{BrokerError, ErrorCode, Fault};
use crate::principal::{Principal, Role, Scopes};
use crate::store::{KeyRow, Store};

/// Uses closer together than this are noted once.
const TOUCH_EVERY_S: i64 = 60;
/// Random bytes of the public part and of the secret.
const ID_BYTES: usize = 8;
const SECRET_BYTES: usize = 32;
/// Longest credential looked at.
const MAX_TOKEN_BYTES: usize = 256;
/// The user who is given the first key.
const ADMIN: &str = "admin";
/// The workspace that exists from the start.
pub const DEFAULT_WORKSPACE: &str = "default";

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

fn refused() -> BrokerError {
    Fault::new(ErrorCode::Unauthenticated, "no valid credential was given")
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

    /// Who a credential belongs to, in the workspace asked for or the credential's first.
    /// A warm credential costs one digest and no disk.
    ///
    /// # Errors
    /// `unauthenticated`, the same for unknown, wrong, expired and revoked; `resource_not_found` for a
    /// workspace that is not the principal's; `store_unavailable`.
    pub async fn authenticate(
        &self,
        token: &str,
        workspace: Option<&str>,
    ) -> Result<Principal, BrokerError> {
        let verified = self.verify(token).await?;
        self.touch(&verified);
        principal(&verified, workspace)
    }

    async fn verify(&self, token: &str) -> Result<Arc<Verified>, BrokerError> {
        if token.len() > MAX_TOKEN_BYTES {
            return Err(refused());
        }
        let digest: [u8; 32] = Sha256::digest(token.as_bytes()).into();
        self.trust.keep_up().await;
        let known = self.trust.get(&digest);
        if let Some(known) = &known {
            if known.is_expired() {
                return Err(refused());
            }
            if !known.is_due() {
                return Ok(Arc::clone(known));
            }
        }
        match self.look_up(token, self.trust.generation()).await {
            Ok(verified) => {
                let verified = Arc::new(verified);
                self.trust.insert(digest, &verified);
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

    async fn look_up(&self, token: &str, generation: u64) -> Result<Verified, BrokerError> {
        let (key_id, secret) = split(token).unwrap_or(("", token));
        let row = self.store.key(key_id).await?;
        // An unknown id costs the same comparison as a wrong secret.
        let given = hex(&Sha256::digest(secret.as_bytes()));
        let expected = row
            .as_ref()
            .map_or_else(|| "0".repeat(64), |row| row.secret_hash.clone());
        let equal: bool = given.as_bytes().ct_eq(expected.as_bytes()).into();
        let key = row.filter(|_| equal).ok_or_else(refused)?;
        if key.revoked_at.is_some() || key.expires_at.is_some_and(|end| end <= Utc::now()) {
            return Err(refused());
        }
        let user = self.store.user(&key.user).await?.ok_or_else(refused)?;
        let mut memberships = user.memberships;
        if !key.workspaces.is_empty() {
            memberships.retain(|(workspace, _)| {
                key.workspaces
                    .iter()
                    .any(|allowed| allowed == workspace.as_str())
            });
        }
        let touched = key.last_used_at.map_or(0, |time| time.timestamp());
        Ok(Verified {
            key,
            memberships,
            looked_up: tokio::time::Instant::now(),
            generation,
            touched_s: touched.into(),
        })
    }

    fn touch(&self, verified: &Verified) {
        let now = Utc::now().timestamp();
        let last = verified.touched_s.load(Ordering::Relaxed);
        let due = now - last >= TOUCH_EVERY_S;
        if due
            && verified
                .touched_s
                .compare_exchange(last, now, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok()
        {
            let (store, key_id) = (self.store.clone(), verified.key.key_id.clone());
            tokio::spawn(async move {
                // Only a display: the next use tries again.
                let _ = store.touch_key(&key_id).await;
            });
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
        let key_id = hex(&random::<ID_BYTES>());
        let secret = hex(&random::<SECRET_BYTES>());
        let row = KeyRow {
            key_id: key_id.clone(),
            user: user.clone(),
            secret_hash: hex(&Sha256::digest(secret.as_bytes())),
            name: wish.name,
            scopes: wish.scopes,
            workspaces: wish.workspaces,
            created_at: Utc::now(),
            expires_at: wish.expires_at,
            revoked_at: None,
            last_used_at: None,
        };
        self.store.add_key(&row).await?;
        let key = SecretString::from(format!("pb_{key_id}_{secret}"));
        Ok(NewKey {
            key_id,
            key,
            expires_at: row.expires_at,
        })
    }

    /// Revokes a key at once.
    ///
    /// # Errors
    /// `resource_not_found`, `store_unavailable`.
    pub async fn revoke(&self, key_id: &str) -> Result<(), BrokerError> {
        let revoked = self.store.revoke_key(key_id).await?;
        self.forget_all();
        if revoked {
            Ok(())
        } else {
            Err(Fault::new(ErrorCode::ResourceNotFound, "no such key"))
        }
    }

    /// Verifies everybody again at their next request: memberships or keys changed.
    pub fn forget_all(&self) {
        self.trust.forget_all();
    }
}

fn principal(verified: &Verified, workspace: Option<&str>) -> Result<Principal, BrokerError> {
    let found = match workspace {
        None => verified.memberships.first(),
        Some(wanted) => verified
            .memberships
            .iter()
            .find(|(id, _)| id.as_str() == wanted),
    };
    let (workspace, roles) =
        found.ok_or_else(|| Fault::new(ErrorCode::ResourceNotFound, "no such workspace"))?;
    Ok(Principal {
        user: verified.key.user.clone(),
        workspace: workspace.clone(),
        workspaces: verified
            .memberships
            .iter()
            .map(|(id, _)| id.clone())
            .collect(),
        roles: roles.clone(),
        key_id: verified.key.key_id.clone(),
        scopes: Scopes(verified.key.scopes.clone()),
    })
}

/// `pb_<id>_<secret>` into its two parts.
fn split(token: &str) -> Option<(&str, &str)> {
    token.strip_prefix("pb_")?.split_once('_')
}

fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    rand::fill(&mut bytes);
    bytes
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes
        .iter()
        .fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        })
}
