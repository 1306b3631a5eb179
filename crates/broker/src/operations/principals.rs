//! Who may ask: users and workspaces. Their keys are `api_keys`'.

use chrono::Utc;
use secrecy::SecretString;
use sessions::{UserId, WorkspaceId};

use super::page::{Page, PageRequest};
use super::{Broker, Inner};
use crate::asker::Asker;
use crate::error::{BrokerError, ErrorCode, Fault};
use crate::instant::rfc3339;
use crate::keys::DEFAULT_WORKSPACE;
use crate::policy;
use crate::principal::Role;
use crate::store::{Action, UserRow};

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

/// The workspace whose admins manage users, keys and workspaces.
const ROOT: &str = DEFAULT_WORKSPACE;

impl Broker {
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
        // What a user of the issuer opens is the issuer's to say.
        if !asker.principal.is_of_issuer() {
            inner.make_admin(&asker.principal.user, &workspace).await?;
        }
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

    /// Whether the asker may manage the bridge itself, which serves all workspaces.
    ///
    /// # Errors
    /// `forbidden` for everybody but admins of the workspace `default`; `store_unavailable`.
    pub async fn may_manage_bridge(&self, asker: &Asker) -> Result<(), BrokerError> {
        self.inner.require_root(asker).await
    }
}

impl Inner {
    /// Users, keys and workspaces reach over all workspaces, so they are for admins of the first one.
    ///
    /// A credential narrowed to other workspaces is none of theirs, and a token of the issuer says itself what it
    /// opens: for it the store's word about a user of the same name counts nothing.
    pub(super) async fn require_root(&self, asker: &Asker) -> Result<(), BrokerError> {
        let who = &asker.principal;
        policy::require_admin(who)?;
        let here = who.workspace.as_str() == ROOT;
        if here || self.is_stored_root(asker).await? {
            return Ok(());
        }
        let detail = format!("this is for admins of the workspace {ROOT}");
        Err(Fault::new(ErrorCode::Forbidden, detail))
    }

    async fn make_admin(&self, user: &UserId, of: &WorkspaceId) -> Result<(), BrokerError> {
        let row = self.store.user(user).await?;
        let mut memberships = row.map_or_else(Vec::new, |row| row.memberships);
        memberships.push((of.clone(), vec![Role::Admin]));
        self.store.put_user(user, &memberships).await?;
        Ok(())
    }

    async fn is_stored_root(&self, asker: &Asker) -> Result<bool, BrokerError> {
        let who = &asker.principal;
        if who.is_of_issuer() || !who.workspaces.iter().any(|one| one.as_str() == ROOT) {
            return Ok(false);
        }
        let row = self.store.user(&who.user).await?;
        Ok(row.is_some_and(|row| {
            let mut memberships = row.memberships.iter();
            memberships.any(|(workspace, roles)| {
                workspace.as_str() == ROOT && roles.contains(&Role::Admin)
            })
        }))
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
