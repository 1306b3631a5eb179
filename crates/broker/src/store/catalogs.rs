//! The last good catalogue of each server, so that a restart or a server that is down still has one.

use chrono::{DateTime, Utc};
use sessions::{UserId, WorkspaceId};
use sqlx::Row as _;
use transports::ServerName;

use super::{Store, StoreError, from_ms, ms};

/// A server's catalogue as kept.
#[derive(Debug, Clone)]
pub struct KeptCatalog {
    /// The workspace.
    pub workspace: WorkspaceId,
    /// The server.
    pub server: ServerName,
    /// Whose; `None` = the workspace's.
    pub user: Option<UserId>,
    /// 64 hex digits.
    pub hash: String,
    /// JSON.
    pub listing: String,
    /// When it was fetched.
    pub fetched_at: DateTime<Utc>,
}

impl Store {
    /// Every kept catalogue.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn load_catalogs(&self) -> Result<Vec<KeptCatalog>, StoreError> {
        let sql = "SELECT workspace, server, user_id, hash, listing, fetched_ms FROM catalogs";
        let rows = sqlx::query(sql).fetch_all(&self.db.browse).await?;
        let corrupt = |_| StoreError::Corrupt("catalogs".to_owned());
        let read = |row: &sqlx::any::AnyRow| {
            let user: String = row.try_get(2)?;
            Ok(KeptCatalog {
                workspace: WorkspaceId::new(&row.try_get::<String, _>(0)?).map_err(corrupt)?,
                server: ServerName::new(&row.try_get::<String, _>(1)?)
                    .map_err(|_| StoreError::Corrupt("catalogs.server".to_owned()))?,
                user: if user.is_empty() {
                    None
                } else {
                    Some(UserId::new(&user).map_err(corrupt)?)
                },
                hash: row.try_get(3)?,
                listing: row.try_get(4)?,
                fetched_at: from_ms(row.try_get(5)?),
            })
        };
        rows.iter().map(read).collect()
    }

    /// Keeps a catalogue in place of the one before.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn save_catalog(&self, kept: &KeptCatalog) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO catalogs (workspace, server, user_id, hash, listing, fetched_ms) \
             VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (workspace, server, user_id) DO UPDATE SET \
             hash = excluded.hash, listing = excluded.listing, fetched_ms = excluded.fetched_ms",
        )
        .bind(kept.workspace.as_str())
        .bind(kept.server.as_str())
        .bind(kept.user.as_ref().map_or("", UserId::as_str))
        .bind(&kept.hash)
        .bind(&kept.listing)
        .bind(ms(kept.fetched_at))
        .execute(&self.db.write)
        .await?;
        Ok(())
    }

    /// Forgets a server's catalogues.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn delete_catalogs(
        &self,
        workspace: &WorkspaceId,
        server: &ServerName,
    ) -> Result<(), StoreError> {
        sqlx::query("DELETE FROM catalogs WHERE workspace = $1 AND server = $2")
            .bind(workspace.as_str())
            .bind(server.as_str())
            .execute(&self.db.write)
            .await?;
        Ok(())
    }
}
