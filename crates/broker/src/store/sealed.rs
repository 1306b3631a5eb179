//! Sealed values. Moves rows about and compares versions; opens none.

use chrono::{DateTime, Utc};
use sessions::{UserId, WorkspaceId};
use sqlx::Row as _;
use sqlx::any::AnyRow;
use transports::ServerName;

use super::{Store, StoreError, from_ms, ms};
use crate::vault::{Holder, Kind, Place, Sealed};

/// Rows of one holder read at once: its secrets and grants for one server, which are bounded by less.
const MAX_OF_HOLDER: i64 = 200;
/// Rows listed for one user.
const MAX_SHOWN: i64 = 1000;
/// Rows wrapped anew between two looks.
const REWRAP_BATCH: i64 = 200;

const COLUMNS: &str = "workspace, server, user_id, kind, field, version, key_id, wrapped_key, body, about, written_ms";
const AT: &str = "workspace = $1 AND server = $2 AND user_id = $3 AND kind = $4 AND field = $5";

/// A sealed value as kept.
#[derive(Debug, Clone)]
pub struct SealedRow {
    /// Where it belongs.
    pub place: Place,
    /// From 1; the seal is bound to it.
    pub version: u64,
    /// The value, sealed.
    pub sealed: Sealed,
    /// What people may see, JSON.
    pub about: String,
    /// The last change.
    pub written_at: DateTime<Utc>,
}

fn number(version: u64) -> i64 {
    i64::try_from(version).unwrap_or(i64::MAX)
}

/// Binds the five columns of [`AT`].
macro_rules! at {
    ($sql:expr, $place:expr) => {
        sqlx::query($sql)
            .bind($place.holder.workspace.as_str())
            .bind($place.holder.server.as_str())
            .bind($place.holder.user_text())
            .bind($place.kind.as_str())
            .bind($place.field.as_str())
    };
}

impl Store {
    /// One value.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn sealed(&self, place: &Place) -> Result<Option<SealedRow>, StoreError> {
        let sql = format!("SELECT {COLUMNS} FROM sealed WHERE {AT}");
        let row = at!(sqlx::AssertSqlSafe(sql), place)
            .fetch_optional(&self.db.write)
            .await?;
        row.as_ref().map(read).transpose()
    }

    /// Writes version 1 where nothing is (`version` 1), or the next version in place of the one before. False when
    /// somebody else was faster; then nothing was written.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn put_sealed(&self, row: &SealedRow) -> Result<bool, StoreError> {
        let (insert, update) = (
            format!(
                "INSERT INTO sealed ({COLUMNS}) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) \
                 ON CONFLICT DO NOTHING"
            ),
            format!(
                "UPDATE sealed SET version = $6, key_id = $7, wrapped_key = $8, body = $9, about = $10, \
                 written_ms = $11, busy_ms = 0 WHERE {AT} AND version = $6 - 1"
            ),
        );
        let sql = if row.version == 1 { insert } else { update };
        let written = at!(sqlx::AssertSqlSafe(sql), row.place)
            .bind(number(row.version))
            .bind(row.sealed.key_id.as_str())
            .bind(row.sealed.wrapped_key.as_str())
            .bind(row.sealed.body.as_str())
            .bind(row.about.as_str())
            .bind(ms(row.written_at))
            .execute(&self.db.write)
            .await?;
        Ok(written.rows_affected() > 0)
    }

    /// Removes one version of a value; false when it was gone or another one.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn drop_sealed(&self, place: &Place, version: u64) -> Result<bool, StoreError> {
        let sql = format!("DELETE FROM sealed WHERE {AT} AND version = $6");
        let dropped = at!(sqlx::AssertSqlSafe(sql), place)
            .bind(number(version))
            .execute(&self.db.write)
            .await?;
        Ok(dropped.rows_affected() > 0)
    }

    /// Has one version to itself until `until`, unless somebody has it now.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn claim_sealed(
        &self,
        (place, version): (&Place, u64),
        (now, until): (DateTime<Utc>, DateTime<Utc>),
    ) -> Result<bool, StoreError> {
        let sql =
            format!("UPDATE sealed SET busy_ms = $6 WHERE {AT} AND version = $7 AND busy_ms < $8");
        let claimed = at!(sqlx::AssertSqlSafe(sql), place)
            .bind(ms(until))
            .bind(number(version))
            .bind(ms(now))
            .execute(&self.db.write)
            .await?;
        Ok(claimed.rows_affected() > 0)
    }

    /// A holder's values of one kind, newest first.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn sealed_of(
        &self,
        holder: &Holder,
        kind: Kind,
    ) -> Result<Vec<SealedRow>, StoreError> {
        let sql = format!(
            "SELECT {COLUMNS} FROM sealed WHERE workspace = $1 AND server = $2 AND user_id = $3 AND kind = $4 \
             ORDER BY written_ms DESC, field LIMIT $5"
        );
        let rows = sqlx::query(sqlx::AssertSqlSafe(sql))
            .bind(holder.workspace.as_str())
            .bind(holder.server.as_str())
            .bind(holder.user_text())
            .bind(kind.as_str())
            .bind(MAX_OF_HOLDER)
            .fetch_all(&self.db.write)
            .await?;
        rows.iter().map(read).collect()
    }

    /// Secrets and grants of a user and of its workspace, by server.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn sealed_shown(
        &self,
        workspace: &WorkspaceId,
        user: &UserId,
    ) -> Result<Vec<SealedRow>, StoreError> {
        let sql = format!(
            "SELECT {COLUMNS} FROM sealed WHERE workspace = $1 AND user_id IN ($2, '') \
             AND kind IN ('secret', 'grant') ORDER BY server, user_id, kind, field LIMIT $3"
        );
        let rows = sqlx::query(sqlx::AssertSqlSafe(sql))
            .bind(workspace.as_str())
            .bind(user.as_str())
            .bind(MAX_SHOWN)
            .fetch_all(&self.db.browse)
            .await?;
        rows.iter().map(read).collect()
    }

    /// Removes a holder's secrets, or its secrets and grants; tells how many there were.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn drop_sealed_of(&self, holder: &Holder, kind: Kind) -> Result<u64, StoreError> {
        let sql = "DELETE FROM sealed WHERE workspace = $1 AND server = $2 AND user_id = $3 AND kind = $4";
        let dropped = sqlx::query(sql)
            .bind(holder.workspace.as_str())
            .bind(holder.server.as_str())
            .bind(holder.user_text())
            .bind(kind.as_str())
            .execute(&self.db.write)
            .await?;
        Ok(dropped.rows_affected())
    }

    /// The sign-in under way behind the digest of a state.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn sealed_flow(&self, field: &str) -> Result<Option<SealedRow>, StoreError> {
        let sql = format!("SELECT {COLUMNS} FROM sealed WHERE kind = $1 AND field = $2");
        let row = sqlx::query(sqlx::AssertSqlSafe(sql))
            .bind(Kind::Flow.as_str())
            .bind(field)
            .fetch_optional(&self.db.write)
            .await?;
        row.as_ref().map(read).transpose()
    }

    /// Removes sign-ins begun before a time.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn prune_flows(&self, before: DateTime<Utc>) -> Result<(), StoreError> {
        sqlx::query("DELETE FROM sealed WHERE kind = $1 AND written_ms < $2")
            .bind(Kind::Flow.as_str())
            .bind(ms(before))
            .execute(&self.db.write)
            .await?;
        Ok(())
    }

    /// Some values whose keys another key than this one wraps, after a place in their order.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn sealed_by_others(
        &self,
        key_id: &str,
        after: u64,
    ) -> Result<Vec<SealedRow>, StoreError> {
        let sql = format!(
            "SELECT {COLUMNS} FROM sealed WHERE key_id <> $1 \
             ORDER BY workspace, server, user_id, kind, field LIMIT $2 OFFSET $3"
        );
        let rows = sqlx::query(sqlx::AssertSqlSafe(sql))
            .bind(key_id)
            .bind(REWRAP_BATCH)
            .bind(number(after))
            .fetch_all(&self.db.browse)
            .await?;
        rows.iter().map(read).collect()
    }

    /// Replaces the wrapping of one version of a value; false when it changed meanwhile.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn rewrap_sealed(
        &self,
        row: &SealedRow,
        wrapped: &Sealed,
    ) -> Result<bool, StoreError> {
        let sql = format!(
            "UPDATE sealed SET key_id = $6, wrapped_key = $7 WHERE {AT} AND version = $8 AND key_id = $9"
        );
        let done = at!(sqlx::AssertSqlSafe(sql), row.place)
            .bind(wrapped.key_id.as_str())
            .bind(wrapped.wrapped_key.as_str())
            .bind(number(row.version))
            .bind(row.sealed.key_id.as_str())
            .execute(&self.db.write)
            .await?;
        Ok(done.rows_affected() > 0)
    }
}

fn read(row: &AnyRow) -> Result<SealedRow, StoreError> {
    let text = |column: &str| row.try_get::<String, _>(column);
    let corrupt = |_| StoreError::Corrupt("sealed".to_owned());
    let user = text("user_id")?;
    let user = (!user.is_empty()).then(|| UserId::new(&user));
    let kind = Kind::read(&text("kind")?);
    Ok(SealedRow {
        place: Place {
            holder: Holder {
                workspace: WorkspaceId::new(&text("workspace")?).map_err(corrupt)?,
                server: ServerName::new(&text("server")?)
                    .map_err(|_| StoreError::Corrupt("sealed.server".to_owned()))?,
                user: user.transpose().map_err(corrupt)?,
            },
            kind: kind.ok_or_else(|| StoreError::Corrupt("sealed.kind".to_owned()))?,
            field: text("field")?,
        },
        version: row.try_get::<i64, _>("version")?.unsigned_abs(),
        sealed: Sealed {
            key_id: text("key_id")?,
            wrapped_key: text("wrapped_key")?,
            body: text("body")?,
        },
        about: text("about")?,
        written_at: from_ms(row.try_get("written_ms")?),
    })
}
