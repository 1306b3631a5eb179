//! Versions of server definitions. Immutable: a change is a new version, a deletion too.

use chrono::Utc;
use sessions::WorkspaceId;
use sqlx::any::AnyRow;
use sqlx::{Connection as _, Row as _};
use transports::ServerName;

use super::reach::within;
use super::{Store, StoreError, from_ms, ms};
use crate::registry::Saved;

/// Versions shown of one server.
const MAX_VERSIONS: i64 = 500;

/// The version in force, read before a change inside its transaction.
const CURRENT: &str = "SELECT version, CASE WHEN definition IS NULL THEN 1 ELSE 0 END AS deleted FROM servers \
     WHERE workspace = $1 AND name = $2 ORDER BY version DESC LIMIT 1";

impl Store {
    /// The newest version of every server that was not deleted.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(crate) async fn load_servers(&self) -> Result<Vec<Saved>, StoreError> {
        let sql = "SELECT workspace, name, version, definition, created_ms, created_by FROM servers s \
                   WHERE definition IS NOT NULL AND version = (SELECT MAX(version) FROM servers n \
                   WHERE n.workspace = s.workspace AND n.name = s.name) ORDER BY workspace, name";
        let rows = sqlx::query(sql).fetch_all(&self.db.browse).await?;
        rows.iter().map(read).collect()
    }

    /// Versions of one server, newest first, without those that deleted it.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(crate) async fn server_versions(
        &self,
        workspace: &WorkspaceId,
        name: &ServerName,
    ) -> Result<Vec<Saved>, StoreError> {
        let sql = "SELECT workspace, name, version, definition, created_ms, created_by FROM servers \
                   WHERE workspace = $1 AND name = $2 AND definition IS NOT NULL ORDER BY version DESC LIMIT $3";
        let rows = sqlx::query(sql)
            .bind(workspace.as_str())
            .bind(name.as_str())
            .bind(MAX_VERSIONS)
            .fetch_all(&self.db.browse)
            .await?;
        rows.iter().map(read).collect()
    }

    /// Adds a version in place of `expected` (`None`: the server must not exist). False when another version is
    /// current, or was made at the same time. A server that was deleted before goes on counting: the number
    /// written is at least the one in `saved`.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(crate) async fn save_server(
        &self,
        saved: &Saved,
        expected: Option<u64>,
    ) -> Result<bool, StoreError> {
        let definition = serde_json::to_string(&saved.definition).map_err(|_| corrupt())?;
        let by = saved.created_by.as_deref();
        self.add_version(
            (&saved.workspace, &saved.name),
            (expected, saved.version),
            (Some(&definition), by),
        )
        .await
    }

    /// Marks a server as deleted; its versions stay. False when another version is current.
    ///
    /// # Errors
    /// [`StoreError`].
    #[expect(
        clippy::too_many_arguments,
        reason = "where, which, in place of what, and by whom"
    )]
    pub async fn delete_server(
        &self,
        workspace: &WorkspaceId,
        name: &ServerName,
        expected: u64,
        by: &str,
    ) -> Result<bool, StoreError> {
        self.add_version(
            (workspace, name),
            (Some(expected), expected + 1),
            (None, Some(by)),
        )
        .await
    }

    async fn add_version(
        &self,
        of: (&WorkspaceId, &ServerName),
        versions: (Option<u64>, u64),
        content: (Option<&str>, Option<&str>),
    ) -> Result<bool, StoreError> {
        let (expected, version) = versions;
        let mut lent = self.db.write.lend().await?;
        let (deadline, connection) = lent.parts()?;
        let added = within(deadline, async {
            let mut tx = connection.begin().await?;
            let row = sqlx::query(CURRENT)
                .bind(of.0.as_str())
                .bind(of.1.as_str())
                .fetch_optional(&mut *tx)
                .await?;
            let newest: Option<(i64, i64)> = match &row {
                Some(row) => Some((row.try_get(0)?, row.try_get(1)?)),
                None => None,
            };
            let current = newest
                .filter(|(_, deleted)| *deleted == 0)
                .map(|(version, _)| version.unsigned_abs());
            if current != expected {
                return Ok(false);
            }
            let version = version.max(newest.map_or(0, |(newest, _)| newest.unsigned_abs()) + 1);
            let added = sqlx::query(
                "INSERT INTO servers (workspace, name, version, definition, created_ms, created_by) \
                 VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT DO NOTHING",
            )
            .bind(of.0.as_str())
            .bind(of.1.as_str())
            .bind(i64::try_from(version).unwrap_or(i64::MAX))
            .bind(content.0)
            .bind(ms(Utc::now()))
            .bind(content.1)
            .execute(&mut *tx)
            .await?;
            tx.commit().await?;
            Ok(added.rows_affected() > 0)
        })
        .await;
        Ok(lent.settle(added)?)
    }
}

fn corrupt() -> StoreError {
    StoreError::Corrupt("servers".to_owned())
}

fn read(row: &AnyRow) -> Result<Saved, StoreError> {
    let created_at = from_ms(row.try_get(4)?).to_rfc3339_opts(chrono::SecondsFormat::Millis, true);
    Ok(Saved {
        workspace: WorkspaceId::new(&row.try_get::<String, _>(0)?).map_err(|_| corrupt())?,
        name: ServerName::new(&row.try_get::<String, _>(1)?).map_err(|_| corrupt())?,
        version: u64::try_from(row.try_get::<i64, _>(2)?).map_err(|_| corrupt())?,
        definition: serde_json::from_str(&row.try_get::<String, _>(3)?).map_err(|_| corrupt())?,
        created_at: Some(created_at),
        created_by: row.try_get(5)?,
    })
}
