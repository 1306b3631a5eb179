//! Users, workspaces and memberships.

use chrono::{DateTime, Utc};
use sessions::{UserId, WorkspaceId};
use sqlx::any::AnyRow;
use sqlx::{Connection as _, Row as _};

use super::reach::within;
use super::{MAX_LISTED, Store, StoreError, epochs, from_ms, json, ms};
use crate::principal::Role;

/// A user and where he may work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserRow {
    /// The user.
    pub user: UserId,
    /// Workspaces with roles.
    pub memberships: Vec<(WorkspaceId, Vec<Role>)>,
    /// Since when.
    pub created_at: DateTime<Utc>,
}

fn corrupt(what: &'static str) -> StoreError {
    StoreError::Corrupt(what.to_owned())
}

impl Store {
    /// Adds a workspace; false when it was there.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn add_workspace(&self, workspace: &WorkspaceId) -> Result<bool, StoreError> {
        let sql = "INSERT INTO workspaces (id, created_ms) VALUES ($1, $2) ON CONFLICT DO NOTHING";
        let added = sqlx::query(sql)
            .bind(workspace.as_str())
            .bind(ms(Utc::now()))
            .execute(&self.db.write)
            .await?;
        Ok(added.rows_affected() > 0)
    }

    /// Every workspace.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn workspaces(&self) -> Result<Vec<WorkspaceId>, StoreError> {
        let rows = sqlx::query("SELECT id FROM workspaces ORDER BY id LIMIT $1")
            .bind(MAX_LISTED)
            .fetch_all(&self.db.read)
            .await?;
        let read = |row: &AnyRow| {
            WorkspaceId::new(&row.try_get::<String, _>(0)?).map_err(|_| corrupt("workspaces.id"))
        };
        rows.iter().map(read).collect()
    }

    /// Adds a user, or replaces his memberships.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn put_user(
        &self,
        user: &UserId,
        memberships: &[(WorkspaceId, Vec<Role>)],
    ) -> Result<(), StoreError> {
        let mut written = Vec::with_capacity(memberships.len());
        for (workspace, roles) in memberships {
            let roles = serde_json::to_string(roles).map_err(|_| corrupt("memberships.roles"))?;
            written.push((workspace, roles));
        }
        let mut lent = self.db.write.lend().await?;
        let (deadline, connection) = lent.parts()?;
        let put = within(deadline, async {
            let mut tx = connection.begin().await?;
            sqlx::query(
                "INSERT INTO users (id, created_ms) VALUES ($1, $2) ON CONFLICT DO NOTHING",
            )
            .bind(user.as_str())
            .bind(ms(Utc::now()))
            .execute(&mut *tx)
            .await?;
            sqlx::query("DELETE FROM memberships WHERE user_id = $1")
                .bind(user.as_str())
                .execute(&mut *tx)
                .await?;
            for (workspace, roles) in written {
                sqlx::query(
                    "INSERT INTO memberships (user_id, workspace, roles) VALUES ($1, $2, $3)",
                )
                .bind(user.as_str())
                .bind(workspace.as_str())
                .bind(roles)
                .execute(&mut *tx)
                .await?;
            }
            epochs::rise(&mut tx, epochs::PRINCIPALS).await?;
            tx.commit().await
        })
        .await;
        Ok(lent.settle(put)?)
    }

    /// One user.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn user(&self, user: &UserId) -> Result<Option<UserRow>, StoreError> {
        let sql = "SELECT u.id, u.created_ms, m.workspace, m.roles FROM users u \
                   LEFT JOIN memberships m ON m.user_id = u.id WHERE u.id = $1 ORDER BY m.workspace";
        let rows = sqlx::query(sql)
            .bind(user.as_str())
            .fetch_all(&self.db.read)
            .await?;
        Ok(read_users(&rows)?.pop())
    }

    /// Every user, by id.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn users(&self) -> Result<Vec<UserRow>, StoreError> {
        let sql = "SELECT u.id, u.created_ms, m.workspace, m.roles FROM users u \
                   LEFT JOIN memberships m ON m.user_id = u.id ORDER BY u.id, m.workspace LIMIT $1";
        let rows = sqlx::query(sql)
            .bind(MAX_LISTED)
            .fetch_all(&self.db.read)
            .await?;
        read_users(&rows)
    }
}

fn read_users(rows: &[AnyRow]) -> Result<Vec<UserRow>, StoreError> {
    let mut users: Vec<UserRow> = Vec::new();
    for row in rows {
        let user = UserId::new(&row.try_get::<String, _>(0)?).map_err(|_| corrupt("users.id"))?;
        if users.last().is_none_or(|last| last.user != user) {
            users.push(UserRow {
                user,
                memberships: Vec::new(),
                created_at: from_ms(row.try_get(1)?),
            });
        }
        let workspace: Option<String> = row.try_get(2)?;
        if let (Some(workspace), Some(last)) = (workspace, users.last_mut()) {
            let workspace =
                WorkspaceId::new(&workspace).map_err(|_| corrupt("memberships.workspace"))?;
            last.memberships.push((workspace, json(row, "roles")?));
        }
    }
    Ok(users)
}
