//! Users, workspaces, memberships, keys, and what was done to them.

use chrono::{DateTime, Utc};
use sessions::{UserId, WorkspaceId};
use sqlx::Row as _;
use sqlx::any::AnyRow;

use super::{Store, StoreError, from_ms, ms};
use crate::principal::Role;

/// Rows given out of one list; a bridge with more users than this is asked by user.
const MAX_LISTED: i64 = 1000;

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

/// A key without its secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyRow {
    /// The public part.
    pub key_id: String,
    /// Whose.
    pub user: UserId,
    /// SHA-256 of the secret part, hex.
    pub secret_hash: String,
    /// What people call it.
    pub name: Option<String>,
    /// What it is narrowed to.
    pub scopes: Vec<String>,
    /// Workspaces it is narrowed to; empty = all of the user's.
    pub workspaces: Vec<String>,
    /// Since when.
    pub created_at: DateTime<Utc>,
    /// Until when.
    pub expires_at: Option<DateTime<Utc>>,
    /// Revoked when.
    pub revoked_at: Option<DateTime<Utc>>,
    /// Last use, to the minute.
    pub last_used_at: Option<DateTime<Utc>>,
}

/// An administrative act, for audit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Action {
    /// `act_` and a `UUIDv7`.
    pub id: String,
    /// Where.
    pub workspace: WorkspaceId,
    /// Who.
    pub user: UserId,
    /// By which key.
    pub key_id: String,
    /// `key_created`, `key_revoked`, `server_saved`, …
    pub action: String,
    /// On what.
    pub target: String,
    /// The trace.
    pub trace_id: String,
    /// When.
    pub created_at: DateTime<Utc>,
}

fn corrupt(what: &'static str) -> StoreError {
    StoreError::Corrupt(what.to_owned())
}

fn json<T: serde::de::DeserializeOwned>(row: &AnyRow, column: &str) -> Result<T, StoreError> {
    serde_json::from_str(&row.try_get::<String, _>(column)?)
        .map_err(|_| StoreError::Corrupt(column.to_owned()))
}

fn time(row: &AnyRow, column: &str) -> Result<Option<DateTime<Utc>>, StoreError> {
    Ok(row.try_get::<Option<i64>, _>(column)?.map(from_ms))
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
        let mut tx = self.db.write.begin().await?;
        sqlx::query("INSERT INTO users (id, created_ms) VALUES ($1, $2) ON CONFLICT DO NOTHING")
            .bind(user.as_str())
            .bind(ms(Utc::now()))
            .execute(&mut *tx)
            .await?;
        sqlx::query("DELETE FROM memberships WHERE user_id = $1")
            .bind(user.as_str())
            .execute(&mut *tx)
            .await?;
        for (workspace, roles) in memberships {
            sqlx::query("INSERT INTO memberships (user_id, workspace, roles) VALUES ($1, $2, $3)")
                .bind(user.as_str())
                .bind(workspace.as_str())
                .bind(serde_json::to_string(roles).map_err(|_| corrupt("memberships.roles"))?)
                .execute(&mut *tx)
                .await?;
        }
        tx.commit().await?;
        Ok(())
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

    /// Adds a key.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn add_key(&self, key: &KeyRow) -> Result<(), StoreError> {
        let text =
            |list: &Vec<String>| serde_json::to_string(list).map_err(|_| corrupt("api_keys"));
        sqlx::query(
            "INSERT INTO api_keys (id, user_id, secret_hash, name, scopes, workspaces, created_ms, expires_ms) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
        )
        .bind(&key.key_id)
        .bind(key.user.as_str())
        .bind(&key.secret_hash)
        .bind(&key.name)
        .bind(text(&key.scopes)?)
        .bind(text(&key.workspaces)?)
        .bind(ms(key.created_at))
        .bind(key.expires_at.map(ms))
        .execute(&self.db.write)
        .await?;
        Ok(())
    }

    /// One key.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn key(&self, key_id: &str) -> Result<Option<KeyRow>, StoreError> {
        let row = sqlx::query("SELECT * FROM api_keys WHERE id = $1")
            .bind(key_id)
            .fetch_optional(&self.db.read)
            .await?;
        row.as_ref().map(read_key).transpose()
    }

    /// Every key, newest first.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn keys(&self) -> Result<Vec<KeyRow>, StoreError> {
        let sql = "SELECT * FROM api_keys ORDER BY created_ms DESC, id LIMIT $1";
        let rows = sqlx::query(sql)
            .bind(MAX_LISTED)
            .fetch_all(&self.db.read)
            .await?;
        rows.iter().map(read_key).collect()
    }

    /// Revokes a key; false when there is none to revoke.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn revoke_key(&self, key_id: &str) -> Result<bool, StoreError> {
        let revoked =
            sqlx::query("UPDATE api_keys SET revoked_ms = $2 WHERE id = $1 AND revoked_ms IS NULL")
                .bind(key_id)
                .bind(ms(Utc::now()))
                .execute(&self.db.write)
                .await?;
        Ok(revoked.rows_affected() > 0)
    }

    /// Notes that a key was used.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn touch_key(&self, key_id: &str) -> Result<(), StoreError> {
        sqlx::query("UPDATE api_keys SET last_used_ms = $2 WHERE id = $1")
            .bind(key_id)
            .bind(ms(Utc::now()))
            .execute(&self.db.write)
            .await?;
        Ok(())
    }

    /// Whether a usable key belongs to somebody who is admin somewhere.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn has_admin(&self) -> Result<bool, StoreError> {
        let sql = "SELECT 1 FROM api_keys k JOIN memberships m ON m.user_id = k.user_id \
                   WHERE m.roles LIKE '%\"admin\"%' AND k.revoked_ms IS NULL \
                   AND (k.expires_ms IS NULL OR k.expires_ms > $1) LIMIT 1";
        let row = sqlx::query(sql)
            .bind(ms(Utc::now()))
            .fetch_optional(&self.db.read)
            .await?;
        Ok(row.is_some())
    }

    /// Writes an administrative act down.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn add_action(&self, action: &Action) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO actions (id, workspace, user_id, key_id, action, target, trace_id, created_ms) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
        )
        .bind(&action.id)
        .bind(action.workspace.as_str())
        .bind(action.user.as_str())
        .bind(&action.key_id)
        .bind(&action.action)
        .bind(&action.target)
        .bind(&action.trace_id)
        .bind(ms(action.created_at))
        .execute(&self.db.write)
        .await?;
        Ok(())
    }

    /// Administrative acts of a workspace in a span of time, newest first.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn actions(
        &self,
        workspace: &WorkspaceId,
        span: (DateTime<Utc>, DateTime<Utc>),
        limit: usize,
    ) -> Result<Vec<Action>, StoreError> {
        let sql = "SELECT * FROM actions WHERE workspace = $1 AND created_ms >= $2 AND created_ms < $3 \
                   ORDER BY id DESC LIMIT $4";
        let rows = sqlx::query(sql)
            .bind(workspace.as_str())
            .bind(ms(span.0))
            .bind(ms(span.1))
            .bind(i64::try_from(limit).unwrap_or(i64::MAX))
            .fetch_all(&self.db.read)
            .await?;
        let read = |row: &AnyRow| {
            Ok(Action {
                id: row.try_get("id")?,
                workspace: workspace.clone(),
                user: UserId::new(&row.try_get::<String, _>("user_id")?)
                    .map_err(|_| corrupt("actions.user_id"))?,
                key_id: row.try_get("key_id")?,
                action: row.try_get("action")?,
                target: row.try_get("target")?,
                trace_id: row.try_get("trace_id")?,
                created_at: from_ms(row.try_get("created_ms")?),
            })
        };
        rows.iter().map(read).collect()
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

fn read_key(row: &AnyRow) -> Result<KeyRow, StoreError> {
    Ok(KeyRow {
        key_id: row.try_get("id")?,
        user: UserId::new(&row.try_get::<String, _>("user_id")?)
            .map_err(|_| corrupt("api_keys.user_id"))?,
        secret_hash: row.try_get("secret_hash")?,
        name: row.try_get("name")?,
        scopes: json(row, "scopes")?,
        workspaces: json(row, "workspaces")?,
        created_at: from_ms(row.try_get("created_ms")?),
        expires_at: time(row, "expires_ms")?,
        revoked_at: time(row, "revoked_ms")?,
        last_used_at: time(row, "last_used_ms")?,
    })
}
