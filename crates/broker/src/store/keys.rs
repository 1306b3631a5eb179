//! API keys, without their secrets.

use chrono::{DateTime, Utc};
use sessions::UserId;
use sqlx::any::{AnyArguments, AnyRow};
use sqlx::query::Query;
use sqlx::{Any, Connection as _, Row as _};

use super::reach::within;
use super::{MAX_LISTED, Store, StoreError, epochs, from_ms, json, ms};

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

fn corrupt(what: &'static str) -> StoreError {
    StoreError::Corrupt(what.to_owned())
}

fn time(row: &AnyRow, column: &str) -> Result<Option<DateTime<Utc>>, StoreError> {
    Ok(row.try_get::<Option<i64>, _>(column)?.map(from_ms))
}

fn text(list: &Vec<String>) -> Result<String, StoreError> {
    serde_json::to_string(list).map_err(|_| corrupt("api_keys"))
}

/// The one statement that adds a key; its lists are given as JSON.
fn insertion(key: &KeyRow, (scopes, workspaces): (String, String)) -> Query<'_, Any, AnyArguments> {
    sqlx::query(
        "INSERT INTO api_keys (id, user_id, secret_hash, name, scopes, workspaces, created_ms, expires_ms) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
    )
    .bind(&key.key_id)
    .bind(key.user.as_str())
    .bind(&key.secret_hash)
    .bind(&key.name)
    .bind(scopes)
    .bind(workspaces)
    .bind(ms(key.created_at))
    .bind(key.expires_at.map(ms))
}

impl Store {
    /// Adds a key.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn add_key(&self, key: &KeyRow) -> Result<(), StoreError> {
        let lists = (text(&key.scopes)?, text(&key.workspaces)?);
        insertion(key, lists).execute(&self.db.write).await?;
        Ok(())
    }

    /// Adds the successor of a key and ends the old one then; false, and nothing happens, when the old one was
    /// revoked or is over.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn succeed_key(
        &self,
        old: &str,
        (successor, old_ends): (&KeyRow, DateTime<Utc>),
    ) -> Result<bool, StoreError> {
        let lists = (text(&successor.scopes)?, text(&successor.workspaces)?);
        let mut lent = self.db.write.lend().await?;
        let (deadline, connection) = lent.parts()?;
        let succeeded = within(deadline, async {
            let mut tx = connection.begin().await?;
            let sql = "UPDATE api_keys SET expires_ms = $2 WHERE id = $1 AND revoked_ms IS NULL \
                       AND (expires_ms IS NULL OR expires_ms > $3)";
            let shortened = sqlx::query(sql)
                .bind(old)
                .bind(ms(old_ends))
                .bind(ms(Utc::now()))
                .execute(&mut *tx)
                .await?;
            if shortened.rows_affected() == 0 {
                return Ok(false);
            }
            insertion(successor, lists).execute(&mut *tx).await?;
            epochs::rise(&mut tx, epochs::PRINCIPALS).await?;
            tx.commit().await?;
            Ok(true)
        })
        .await;
        Ok(lent.settle(succeeded)?)
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
        let mut lent = self.db.write.lend().await?;
        let (deadline, connection) = lent.parts()?;
        let revoked = within(deadline, async {
            let mut tx = connection.begin().await?;
            let sql = "UPDATE api_keys SET revoked_ms = $2 WHERE id = $1 AND revoked_ms IS NULL";
            let revoked = sqlx::query(sql)
                .bind(key_id)
                .bind(ms(Utc::now()))
                .execute(&mut *tx)
                .await?;
            epochs::rise(&mut tx, epochs::PRINCIPALS).await?;
            tx.commit().await?;
            Ok(revoked.rows_affected() > 0)
        })
        .await;
        Ok(lent.settle(revoked)?)
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
