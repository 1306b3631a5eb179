//! Pinned definitions of tools. A first pin never replaces another; an approval does.

use chrono::{DateTime, Utc};
use sessions::WorkspaceId;
use sqlx::{Connection as _, Row as _};
use transports::ServerName;

use super::reach::within;
use super::{Store, StoreError, from_ms, ms};

/// Pins written in one transaction: a large listing takes several, none of them long.
const TOGETHER: usize = 200;

/// Whose pins.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct PinPlace {
    /// The workspace.
    pub workspace: WorkspaceId,
    /// The server.
    pub server: ServerName,
    /// User and agent of a server of a user's own agent; empty for all others.
    pub scope: String,
}

/// One pin as kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PinRow {
    /// Whose.
    pub place: PinPlace,
    /// The tool's own name.
    pub tool: String,
    /// 64 hex digits.
    pub hash: String,
    /// The four hints as bits: 1 read-only, 2 destructive, 4 idempotent, 8 open world.
    pub hints: i64,
    /// The definition as the server wrote it; empty where pins are loaded.
    pub definition: String,
    /// Who approved it; `None`: seen first.
    pub approved_by: Option<String>,
    /// When.
    pub pinned_at: DateTime<Utc>,
}

const COLUMNS: &str = "INSERT INTO pins (workspace, server, scope, tool, hash, hints, definition, approved_by, pinned_ms) \
     VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) ON CONFLICT (workspace, server, scope, tool) ";

impl Store {
    /// Every pin, without its definition.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn load_pins(&self) -> Result<Vec<PinRow>, StoreError> {
        let sql =
            "SELECT workspace, server, scope, tool, hash, hints, approved_by, pinned_ms FROM pins";
        let rows = sqlx::query(sql).fetch_all(&self.db.browse).await?;
        let corrupt = || StoreError::Corrupt("pins".to_owned());
        let read = |row: &sqlx::any::AnyRow| {
            Ok(PinRow {
                place: PinPlace {
                    workspace: WorkspaceId::new(&row.try_get::<String, _>(0)?)
                        .map_err(|_| corrupt())?,
                    server: ServerName::new(&row.try_get::<String, _>(1)?)
                        .map_err(|_| corrupt())?,
                    scope: row.try_get(2)?,
                },
                tool: row.try_get(3)?,
                hash: row.try_get(4)?,
                hints: row.try_get(5)?,
                definition: String::new(),
                approved_by: row.try_get(6)?,
                pinned_at: from_ms(row.try_get(7)?),
            })
        };
        rows.iter().map(read).collect()
    }

    /// The definition behind a pin.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn pinned_definition(
        &self,
        place: &PinPlace,
        tool: &str,
    ) -> Result<Option<String>, StoreError> {
        let sql = "SELECT definition FROM pins WHERE workspace = $1 AND server = $2 AND scope = $3 AND tool = $4";
        let row = sqlx::query(sql)
            .bind(place.workspace.as_str())
            .bind(place.server.as_str())
            .bind(&place.scope)
            .bind(tool)
            .fetch_optional(&self.db.read)
            .await?;
        Ok(row.map(|row| row.try_get(0)).transpose()?)
    }

    /// Pins what was seen first; what has a pin keeps it.
    ///
    /// # Errors
    /// [`StoreError`]; some may be pinned by then.
    pub async fn add_pins(&self, rows: &[PinRow]) -> Result<(), StoreError> {
        let sql = format!("{COLUMNS} DO NOTHING");
        for part in rows.chunks(TOGETHER) {
            self.write_pins(&sql, part).await?;
        }
        Ok(())
    }

    /// Pins what was approved, in place of the pin before.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn replace_pin(&self, row: &PinRow) -> Result<(), StoreError> {
        let sql = format!(
            "{COLUMNS} DO UPDATE SET hash = excluded.hash, hints = excluded.hints, \
             definition = excluded.definition, approved_by = excluded.approved_by, pinned_ms = excluded.pinned_ms"
        );
        self.write_pins(&sql, std::slice::from_ref(row)).await
    }

    async fn write_pins(&self, sql: &str, rows: &[PinRow]) -> Result<(), StoreError> {
        let mut lent = self.db.write.lend().await?;
        let (deadline, connection) = lent.parts()?;
        let written = within(deadline, async {
            let mut tx = connection.begin().await?;
            for row in rows {
                sqlx::query(sqlx::AssertSqlSafe(sql.to_owned()))
                    .bind(row.place.workspace.as_str())
                    .bind(row.place.server.as_str())
                    .bind(&row.place.scope)
                    .bind(&row.tool)
                    .bind(&row.hash)
                    .bind(row.hints)
                    .bind(&row.definition)
                    .bind(row.approved_by.as_deref())
                    .bind(ms(row.pinned_at))
                    .execute(&mut *tx)
                    .await?;
            }
            tx.commit().await
        })
        .await;
        Ok(lent.settle(written)?)
    }
}
