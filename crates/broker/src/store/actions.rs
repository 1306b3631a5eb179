//! What was done by administrators, for audit.

use chrono::{DateTime, Utc};
use sessions::{UserId, WorkspaceId};
use sqlx::Row as _;
use sqlx::any::AnyRow;

use super::{Store, StoreError, from_ms, ms};

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

impl Store {
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
            .fetch_all(&self.db.browse)
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
