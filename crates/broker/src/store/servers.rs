//! Versions of server definitions. Immutable: a change is a new version, a deletion too.

use chrono::{DateTime, Utc};
use sessions::WorkspaceId;
use sqlx::Row as _;
use sqlx::any::AnyRow;
use transports::ServerName;

use super::{Store, StoreError, from_ms, ms};

/// Versions shown of one server.
const MAX_VERSIONS: i64 = 500;

/// One version of one server.
#[derive(Debug, Clone)]
pub struct VersionRow {
    /// Where.
    pub workspace: WorkspaceId,
    /// The server.
    pub name: ServerName,
    /// From 1, rising.
    pub version: u64,
    /// The definition's JSON; `None` marks the version that deleted it.
    pub definition: Option<String>,
    /// When.
    pub created_at: DateTime<Utc>,
    /// By whom.
    pub created_by: Option<String>,
}

impl Store {
    /// The newest version of every server that was not deleted.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn current_servers(&self) -> Result<Vec<VersionRow>, StoreError> {
        let sql = "SELECT workspace, name, version, definition, created_ms, created_by FROM servers s \
                   WHERE definition IS NOT NULL AND version = (SELECT MAX(version) FROM servers n \
                   WHERE n.workspace = s.workspace AND n.name = s.name) ORDER BY workspace, name";
        let rows = sqlx::query(sql).fetch_all(&self.db.read).await?;
        rows.iter().map(read).collect()
    }

    /// Versions of one server, newest first; deletions too.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn server_versions(
        &self,
        workspace: &WorkspaceId,
        name: &ServerName,
    ) -> Result<Vec<VersionRow>, StoreError> {
        let sql = "SELECT workspace, name, version, definition, created_ms, created_by FROM servers \
                   WHERE workspace = $1 AND name = $2 ORDER BY version DESC LIMIT $3";
        let rows = sqlx::query(sql)
            .bind(workspace.as_str())
            .bind(name.as_str())
            .bind(MAX_VERSIONS)
            .fetch_all(&self.db.read)
            .await?;
        rows.iter().map(read).collect()
    }

    /// Adds a version; false when somebody else added that version first.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn add_server_version(&self, row: &VersionRow) -> Result<bool, StoreError> {
        let added = sqlx::query(
            "INSERT INTO servers (workspace, name, version, definition, created_ms, created_by) \
             VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT DO NOTHING",
        )
        .bind(row.workspace.as_str())
        .bind(row.name.as_str())
        .bind(i64::try_from(row.version).unwrap_or(i64::MAX))
        .bind(&row.definition)
        .bind(ms(row.created_at))
        .bind(&row.created_by)
        .execute(&self.db.write)
        .await?;
        Ok(added.rows_affected() > 0)
    }
}

fn read(row: &AnyRow) -> Result<VersionRow, StoreError> {
    let corrupt = || StoreError::Corrupt("servers".to_owned());
    Ok(VersionRow {
        workspace: WorkspaceId::new(&row.try_get::<String, _>(0)?).map_err(|_| corrupt())?,
        name: ServerName::new(&row.try_get::<String, _>(1)?).map_err(|_| corrupt())?,
        version: u64::try_from(row.try_get::<i64, _>(2)?).map_err(|_| corrupt())?,
        definition: row.try_get(3)?,
        created_at: from_ms(row.try_get(4)?),
        created_by: row.try_get(5)?,
    })
}
