//! Logins of browsers, without their secrets. A login that ended is a row that is gone.

use chrono::{DateTime, Utc};
use sessions::{UserId, WorkspaceId};
use sqlx::any::AnyRow;
use sqlx::{Connection as _, Row as _};

use super::reach::{Reach, within};
use super::{Store, StoreError, epochs, from_ms, json, ms};
use crate::principal::Role;

/// Logins of one user at once: browsers on several machines. The oldest makes room.
const MAX_PER_USER: i64 = 50;

/// A login without its secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoginRow {
    /// The public part.
    pub login_id: String,
    /// SHA-256 of the secret part, hex.
    pub secret_hash: String,
    /// Whose.
    pub user: UserId,
    /// The key it was begun with; `None` when a token of the issuer began it.
    pub key_id: Option<String>,
    /// What that token opened; empty for a key's login.
    pub memberships: Vec<(WorkspaceId, Vec<Role>)>,
    /// Since when.
    pub created_at: DateTime<Utc>,
    /// Until when.
    pub expires_at: DateTime<Utc>,
}

fn corrupt(what: &'static str) -> StoreError {
    StoreError::Corrupt(what.to_owned())
}

impl Store {
    /// Adds a login. The oldest of a user with too many end.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn add_login(&self, login: &LoginRow) -> Result<(), StoreError> {
        let memberships =
            serde_json::to_string(&login.memberships).map_err(|_| corrupt("logins.memberships"))?;
        let mut lent = self.db.write.lend().await?;
        let (deadline, connection) = lent.parts()?;
        let added = within(deadline, async {
            let mut tx = connection.begin().await?;
            sqlx::query(
                "INSERT INTO logins (id, secret_hash, user_id, key_id, memberships, created_ms, expires_ms) \
                 VALUES ($1, $2, $3, $4, $5, $6, $7)",
            )
            .bind(&login.login_id)
            .bind(&login.secret_hash)
            .bind(login.user.as_str())
            .bind(&login.key_id)
            .bind(memberships)
            .bind(ms(login.created_at))
            .bind(ms(login.expires_at))
            .execute(&mut *tx)
            .await?;
            let crowded = sqlx::query(
                "DELETE FROM logins WHERE user_id = $1 AND id NOT IN \
                 (SELECT id FROM logins WHERE user_id = $1 ORDER BY created_ms DESC, id LIMIT $2)",
            )
            .bind(login.user.as_str())
            .bind(MAX_PER_USER)
            .execute(&mut *tx)
            .await?;
            if crowded.rows_affected() > 0 {
                epochs::rise(&mut tx, epochs::PRINCIPALS).await?;
            }
            tx.commit().await
        })
        .await;
        Ok(lent.settle(added)?)
    }

    /// One login, whether or not its time is over.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn login(&self, login_id: &str) -> Result<Option<LoginRow>, StoreError> {
        let row = sqlx::query("SELECT * FROM logins WHERE id = $1")
            .bind(login_id)
            .fetch_optional(&self.db.read)
            .await?;
        row.as_ref().map(read_login).transpose()
    }

    /// Ends a login; false when there is none.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn end_login(&self, login_id: &str) -> Result<bool, StoreError> {
        let mut lent = self.db.write.lend().await?;
        let (deadline, connection) = lent.parts()?;
        let ended = within(deadline, async {
            let mut tx = connection.begin().await?;
            let ended = sqlx::query("DELETE FROM logins WHERE id = $1")
                .bind(login_id)
                .execute(&mut *tx)
                .await?;
            epochs::rise(&mut tx, epochs::PRINCIPALS).await?;
            tx.commit().await?;
            Ok(ended.rows_affected() > 0)
        })
        .await;
        Ok(lent.settle(ended)?)
    }
}

/// Removes logins whose time is over.
pub(super) async fn prune(write: &Reach, before: DateTime<Utc>) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM logins WHERE expires_ms < $1")
        .bind(ms(before))
        .execute(write)
        .await?;
    Ok(())
}

fn read_login(row: &AnyRow) -> Result<LoginRow, StoreError> {
    Ok(LoginRow {
        login_id: row.try_get("id")?,
        secret_hash: row.try_get("secret_hash")?,
        user: UserId::new(&row.try_get::<String, _>("user_id")?)
            .map_err(|_| corrupt("logins.user_id"))?,
        key_id: row.try_get("key_id")?,
        memberships: json(row, "memberships")?,
        created_at: from_ms(row.try_get("created_ms")?),
        expires_at: from_ms(row.try_get("expires_ms")?),
    })
}
