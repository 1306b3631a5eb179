//! Who may ask: credentials, users, keys, workspaces.

use std::time::Duration;

use chrono::{DateTime, Utc};
use secrecy::SecretString;
use sessions::{UserId, WorkspaceId};

use super::page::{Page, PageRequest};
use super::{Broker, Inner};
use crate::asker::Asker;
use crate::error::{BrokerError, ErrorCode, Fault};
use crate::instant::rfc3339;
use crate::keys::{DEFAULT_WORKSPACE, KeyWish};
use crate::policy;
use crate::principal::{Principal, Role};
use crate::store::{Action, KeyRow, UserRow};

/// A user with its roles.
#[derive(Debug, Clone)]
pub struct UserView {
    /// The user.
    pub user: UserId,
    /// Roles by workspace.
    pub workspaces: Vec<(WorkspaceId, Vec<Role>)>,
    /// RFC 3339.
    pub created_at: String,
}

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
    /// RFC 3339.
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

/// The workspace whose admins manage users, keys and workspaces.
const ROOT: &str = DEFAULT_WORKSPACE;

impl Broker {
    /// The principal behind a bearer token.
    ///
    /// # Errors
    /// `unauthenticated`; `resource_not_found` for a workspace that is not the principal's.
    pub async fn authenticate(
        &self,
        token: &str,
        workspace: Option<&str>,
    ) -> Result<Principal, BrokerError> {
        self.inner.keys.authenticate(token, workspace).await
    }

    /// A fresh admin key, when there is no admin.
    ///
    /// # Errors
    /// `store_unavailable`.
    pub async fn ensure_admin(&self) -> Result<Option<SecretString>, BrokerError> {
        self.inner.keys.ensure_admin().await
    }

    /// Creates or changes a user.
    ///
    /// # Errors
    /// `forbidden`, `resource_not_found` for an unknown workspace.
    pub async fn create_user(
        &self,
        asker: &Asker,
        user: UserId,
        workspaces: Vec<(WorkspaceId, Vec<Role>)>,
    ) -> Result<UserView, BrokerError> {
        let inner = &self.inner;
        inner.require_root(asker).await?;
        let known = inner.store.workspaces().await?;
        if workspaces
            .iter()
            .any(|(workspace, _)| !known.contains(workspace))
        {
            return Err(Fault::new(
                ErrorCode::ResourceNotFound,
                "there is no such workspace",
            ));
        }
        inner.store.put_user(&user, &workspaces).await?;
        inner.keys.forget_all();
        inner.note_action(asker, "user_saved", user.as_str()).await;
        let row = inner.store.user(&user).await?;
        row.map(user_view).ok_or_else(no_such_user)
    }

    /// Users.
    ///
    /// # Errors
    /// `forbidden`.
    pub async fn list_users(
        &self,
        asker: &Asker,
        page: PageRequest,
    ) -> Result<Page<UserView>, BrokerError> {
        self.inner.require_root(asker).await?;
        let users = self.inner.store.users().await?;
        let page = page.cut(users, |row| row.user.to_string())?;
        Ok(Page {
            items: page.items.into_iter().map(user_view).collect(),
            next_cursor: page.next_cursor,
        })
    }

    /// Creates a key: for anybody by an admin, for oneself by whoever holds a key that was not narrowed.
    ///
    /// # Errors
    /// `forbidden`, `resource_not_found` for an unknown user.
    pub async fn create_key(
        &self,
        asker: &Asker,
        request: CreateKey,
    ) -> Result<FreshKey, BrokerError> {
        let inner = &self.inner;
        inner.require_own_or_root(asker, &request.user).await?;
        let expires_at = request.expires_in.map(|after| {
            let after = chrono::TimeDelta::from_std(after).unwrap_or(chrono::TimeDelta::MAX);
            Utc::now()
                .checked_add_signed(after)
                .unwrap_or(DateTime::<Utc>::MAX_UTC)
        });
        let wish = KeyWish {
            workspaces: request.workspaces.iter().map(ToString::to_string).collect(),
            scopes: request.scopes.clone(),
            expires_at,
            name: request.name.clone(),
        };
        let fresh = inner.keys.create(&request.user, wish).await?;
        inner.note_action(asker, "key_created", &fresh.key_id).await;
        Ok(FreshKey {
            view: KeyView {
                prefix: format!("pb_{}", fresh.key_id),
                key_id: fresh.key_id,
                user: request.user,
                name: request.name,
                workspaces: request.workspaces,
                scopes: request.scopes,
                created_at: rfc3339(Utc::now()),
                expires_at: fresh.expires_at.map(rfc3339),
                last_used_at: None,
                revoked_at: None,
            },
            token: fresh.key,
        })
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
        let mut keys = inner.store.keys().await?;
        if inner.require_root(asker).await.is_err() {
            keys.retain(|row| row.user == asker.principal.user);
        }
        keys.sort_by(|one, two| one.key_id.cmp(&two.key_id));
        let page = page.cut(keys, |row| row.key_id.clone())?;
        Ok(Page {
            items: page.items.into_iter().map(key_view).collect(),
            next_cursor: page.next_cursor,
        })
    }

    /// Revokes a key at once.
    ///
    /// # Errors
    /// `forbidden`, `resource_not_found`.
    pub async fn revoke_key(&self, asker: &Asker, key_id: &str) -> Result<(), BrokerError> {
        let inner = &self.inner;
        let row = inner.store.key(key_id).await?;
        let own = row.is_some_and(|row| row.user == asker.principal.user);
        if !own {
            inner.require_root(asker).await?;
        }
        inner.keys.revoke(key_id).await?;
        inner.note_action(asker, "key_revoked", key_id).await;
        Ok(())
    }

    /// Creates a workspace; its creator becomes its admin.
    ///
    /// # Errors
    /// `forbidden`, `conflict`.
    pub async fn create_workspace(
        &self,
        asker: &Asker,
        workspace: WorkspaceId,
    ) -> Result<(), BrokerError> {
        let inner = &self.inner;
        inner.require_root(asker).await?;
        if !inner.store.add_workspace(&workspace).await? {
            return Err(Fault::new(
                ErrorCode::Conflict,
                "a workspace of this name exists",
            ));
        }
        let creator = &asker.principal.user;
        let mut memberships = inner
            .store
            .user(creator)
            .await?
            .map_or_else(Vec::new, |row| row.memberships);
        memberships.push((workspace.clone(), vec![Role::Admin]));
        inner.store.put_user(creator, &memberships).await?;
        inner.events.add_workspace(&workspace).await?;
        inner.keys.forget_all();
        inner
            .note_action(asker, "workspace_created", workspace.as_str())
            .await;
        Ok(())
    }

    /// Workspaces of the asker.
    ///
    /// # Errors
    /// None of its own at present; the signature leaves room.
    #[expect(clippy::unused_async, reason = "every operation is awaited alike")]
    pub async fn list_workspaces(&self, asker: &Asker) -> Result<Vec<WorkspaceId>, BrokerError> {
        Ok(asker.principal.workspaces.clone())
    }
}

impl Inner {
    /// Users, keys and workspaces reach over all workspaces, so they are for admins of the first one.
    async fn require_root(&self, asker: &Asker) -> Result<(), BrokerError> {
        policy::require_admin(&asker.principal)?;
        let row = self.store.user(&asker.principal.user).await?;
        let root = row.is_some_and(|row| {
            let mut memberships = row.memberships.iter();
            memberships.any(|(workspace, roles)| {
                workspace.as_str() == ROOT && roles.contains(&Role::Admin)
            })
        });
        if root {
            return Ok(());
        }
        let detail = format!("this is for admins of the workspace {ROOT}");
        Err(Fault::new(ErrorCode::Forbidden, detail))
    }

    async fn require_own_or_root(&self, asker: &Asker, user: &UserId) -> Result<(), BrokerError> {
        if *user == asker.principal.user && asker.principal.scopes.0.is_empty() {
            return Ok(());
        }
        self.require_root(asker).await
    }

    /// Writes an administrative act down. It happened already, so a store that fails now is only told of.
    pub(crate) async fn note_action(&self, asker: &Asker, action: &str, target: &str) {
        let who = &asker.principal;
        let action = Action {
            id: format!("act_{}", uuid::Uuid::now_v7()),
            workspace: who.workspace.clone(),
            user: who.user.clone(),
            key_id: who.key_id.clone(),
            action: action.to_owned(),
            target: target.to_owned(),
            trace_id: asker.trace.id(),
            created_at: Utc::now(),
        };
        if let Err(error) = self.store.add_action(&action).await {
            tracing::error!(error = %error, action = %action.action, "an administrative act could not be written down");
        }
    }
}

fn no_such_user() -> BrokerError {
    Fault::new(ErrorCode::ResourceNotFound, "there is no such user")
}

fn user_view(row: UserRow) -> UserView {
    UserView {
        user: row.user,
        workspaces: row.memberships,
        created_at: rfc3339(row.created_at),
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
