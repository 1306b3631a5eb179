//! API keys in the hands of their users and of admins: made, listed, replaced, ended. No key makes one that opens
//! more, or for longer, than itself; only admins of the first workspace do.

use std::time::Duration;

use chrono::{DateTime, Utc};
use secrecy::SecretString;
use sessions::{UserId, WorkspaceId};

use super::page::{Page, PageRequest};
use super::{Broker, Inner};
use crate::asker::Asker;
use crate::error::{BrokerError, ErrorCode, Fault};
use crate::instant::rfc3339;
use crate::keys::{DEFAULT_OVERLAP, KeyWish, MAX_OVERLAP, NewKey};
use crate::logins;
use crate::store::KeyRow;

/// A key without its secret.
#[derive(Debug, Clone)]
pub struct KeyView {
    /// Its id.
    pub key_id: String,
    /// How its token begins.
    pub prefix: String,
    /// Whose.
    pub user: UserId,
    /// What people call it.
    pub name: Option<String>,
    /// Only these; empty = all of the user's.
    pub workspaces: Vec<WorkspaceId>,
    /// Narrowed to these.
    pub scopes: Vec<String>,
    /// RFC 3339.
    pub created_at: String,
    /// RFC 3339.
    pub expires_at: Option<String>,
    /// RFC 3339, to the minute.
    pub last_used_at: Option<String>,
    /// RFC 3339.
    pub revoked_at: Option<String>,
}

/// A key to be made.
#[derive(Debug, Clone)]
pub struct CreateKey {
    /// Whose.
    pub user: UserId,
    /// Only these.
    pub workspaces: Vec<WorkspaceId>,
    /// Narrowed to these.
    pub scopes: Vec<String>,
    /// How long it lives.
    pub expires_in: Option<Duration>,
    /// What people call it.
    pub name: Option<String>,
}

/// A fresh key.
#[derive(Debug)]
pub struct FreshKey {
    /// What is stored of it.
    pub view: KeyView,
    /// The token, shown once.
    pub token: SecretString,
}

impl Broker {
    /// Creates a key: for anybody by an admin, for oneself by whoever holds a key that was not narrowed.
    ///
    /// # Errors
    /// `forbidden`; `resource_not_found` for an unknown user, or a workspace one's own key does not open;
    /// `invalid_request` for a key that would be over at once.
    pub async fn create_key(
        &self,
        asker: &Asker,
        request: CreateKey,
    ) -> Result<FreshKey, BrokerError> {
        let inner = &self.inner;
        let mut wish = KeyWish {
            workspaces: request.workspaces.iter().map(ToString::to_string).collect(),
            scopes: request.scopes,
            expires_at: request.expires_in.map(end_after).transpose()?,
            name: request.name,
        };
        if inner.require_root(asker).await.is_err() {
            if !cares_for_own(asker, &request.user) {
                inner.require_root(asker).await?;
            }
            inner.keep_within(asker, &mut wish).await?;
        }
        let kept = wish.clone();
        let fresh = inner.keys.create(&request.user, wish).await?;
        inner.note_action(asker, "key_created", &fresh.key_id).await;
        let row = KeyRow {
            key_id: fresh.key_id.clone(),
            user: request.user,
            secret_hash: String::new(),
            name: kept.name,
            scopes: kept.scopes,
            workspaces: kept.workspaces,
            created_at: Utc::now(),
            expires_at: fresh.expires_at,
            revoked_at: None,
            last_used_at: None,
        };
        Ok(shown_once(fresh, row))
    }

    /// Keys: all for an admin, one's own for everybody else.
    ///
    /// # Errors
    /// `invalid_request`, `store_unavailable`.
    pub async fn list_keys(
        &self,
        asker: &Asker,
        page: PageRequest,
    ) -> Result<Page<KeyView>, BrokerError> {
        let inner = &self.inner;
        let who = &asker.principal;
        let mut keys = inner.store.keys().await?;
        if inner.require_root(asker).await.is_err() {
            keys.retain(|row| row.user == who.user && !who.is_of_issuer());
        }
        keys.sort_by(|one, two| one.key_id.cmp(&two.key_id));
        let page = page.cut(keys, |row| row.key_id.clone())?;
        Ok(Page {
            items: page.items.into_iter().map(key_view).collect(),
            next_cursor: page.next_cursor,
        })
    }

    /// Replaces a key: the new one opens the same and ends when the old one would have; the old one is good for the
    /// overlap (an hour when left out, seven days at most), so that everybody who holds it can change over.
    ///
    /// # Errors
    /// `forbidden`, `resource_not_found`, `conflict` for a key that is over, `invalid_request` for too long an overlap.
    pub async fn rotate_key(
        &self,
        asker: &Asker,
        (key_id, overlap): (&str, Option<Duration>),
    ) -> Result<FreshKey, BrokerError> {
        let inner = &self.inner;
        let overlap = overlap.unwrap_or(DEFAULT_OVERLAP);
        if overlap > MAX_OVERLAP {
            let detail = format!("overlap_s may be at most {}", MAX_OVERLAP.as_secs());
            return Err(Fault::new(ErrorCode::InvalidRequest, detail));
        }
        inner.require_care_for(asker, key_id).await?;
        let (fresh, row) = inner.keys.rotate(key_id, overlap).await?;
        let target = format!("{key_id} {}", fresh.key_id);
        inner.note_action(asker, "key_rotated", &target).await;
        Ok(shown_once(fresh, row))
    }

    /// Revokes a key at once: the next request with it is refused, streams it holds open end.
    ///
    /// # Errors
    /// `forbidden`, `resource_not_found`.
    pub async fn revoke_key(&self, asker: &Asker, key_id: &str) -> Result<(), BrokerError> {
        let inner = &self.inner;
        inner.require_care_for(asker, key_id).await?;
        inner.keys.revoke(key_id).await?;
        inner.note_action(asker, "key_revoked", key_id).await;
        Ok(())
    }
}

/// Whether somebody may care for a user's keys because they are his own: not with a key that was narrowed, and not
/// with a token of the issuer, whose users are others than those of the same name here.
fn cares_for_own(asker: &Asker, user: &UserId) -> bool {
    let who = &asker.principal;
    *user == who.user && who.scopes.0.is_empty() && !who.is_of_issuer()
}

/// Whether a key opens no workspace that another does not open, and ends no later.
fn lies_within(row: &KeyRow, other: &KeyRow) -> bool {
    let opened = |one: &String| other.workspaces.contains(one);
    let fits = other.workspaces.is_empty()
        || (!row.workspaces.is_empty() && row.workspaces.iter().all(opened));
    let ends = |limit| row.expires_at.is_some_and(|end| end <= limit);
    fits && other.expires_at.is_none_or(ends)
}

fn end_after(after: Duration) -> Result<DateTime<Utc>, BrokerError> {
    if after.is_zero() {
        let detail = "expires_in_s must be at least 1";
        return Err(Fault::new(ErrorCode::InvalidRequest, detail));
    }
    let after = chrono::TimeDelta::from_std(after).unwrap_or(chrono::TimeDelta::MAX);
    let end = Utc::now().checked_add_signed(after);
    Ok(end.unwrap_or(DateTime::<Utc>::MAX_UTC))
}

impl Inner {
    /// A key is cared for by itself, by its user with a key that opens as much for as long, and by admins of the first
    /// workspace. To everybody else a key that is not his is no other than one that does not exist.
    async fn require_care_for(&self, asker: &Asker, key_id: &str) -> Result<(), BrokerError> {
        let row = self.store.key(key_id).await?;
        let itself = row.is_some() && asker.principal.key_id == key_id;
        if itself {
            return Ok(());
        }
        if let Some(row) = row.filter(|row| cares_for_own(asker, &row.user)) {
            let own = self.key_behind(asker).await?;
            if own.is_none_or(|own| lies_within(&row, &own)) {
                return Ok(());
            }
        }
        self.require_root(asker).await
    }

    /// Narrows a wish to what the asker's own key opens, and for how long.
    async fn keep_within(&self, asker: &Asker, wish: &mut KeyWish) -> Result<(), BrokerError> {
        let Some(own) = self.key_behind(asker).await? else {
            return Ok(());
        };
        if !own.workspaces.is_empty() {
            if wish.workspaces.is_empty() {
                wish.workspaces.clone_from(&own.workspaces);
            }
            let opened = |one: &String| own.workspaces.contains(one);
            if !wish.workspaces.iter().all(opened) {
                let detail = "there is no such workspace";
                return Err(Fault::new(ErrorCode::ResourceNotFound, detail));
            }
        }
        if let Some(end) = own.expires_at {
            wish.expires_at = Some(wish.expires_at.map_or(end, |wished| wished.min(end)));
        }
        Ok(())
    }

    /// The key a request came by, itself or by a login of it.
    async fn key_behind(&self, asker: &Asker) -> Result<Option<KeyRow>, BrokerError> {
        let name = asker.principal.key_id.as_str();
        let Some(login_id) = logins::id_in(name) else {
            return Ok(self.store.key(name).await?);
        };
        let login = self.store.login(login_id).await?;
        match login.and_then(|login| login.key_id) {
            Some(key_id) => Ok(self.store.key(&key_id).await?),
            None => Ok(None),
        }
    }
}

fn shown_once(fresh: NewKey, row: KeyRow) -> FreshKey {
    FreshKey {
        view: key_view(row),
        token: fresh.key,
    }
}

fn key_view(row: KeyRow) -> KeyView {
    let workspaces = row
        .workspaces
        .iter()
        .filter_map(|id| WorkspaceId::new(id).ok());
    KeyView {
        prefix: format!("pb_{}", row.key_id),
        workspaces: workspaces.collect(),
        key_id: row.key_id,
        user: row.user,
        name: row.name,
        scopes: row.scopes,
        created_at: rfc3339(row.created_at),
        expires_at: row.expires_at.map(rfc3339),
        last_used_at: row.last_used_at.map(rfc3339),
        revoked_at: row.revoked_at.map(rfc3339),
    }
}
