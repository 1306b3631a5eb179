//! Calls that agents run: those to be attended again at a start, and those an agent asks about.

use sqlx::AssertSqlSafe;

use super::calls::{COLUMNS, read_row};
use super::{Store, StoreError};
use crate::call::CallId;
use crate::ledger::Row;

/// Calls of agents taken up again at a start: more than may be in flight at once.
const MAX_UNSETTLED: i64 = 100_000;
/// Ids looked up in one statement: far below the parameters both databases take.
const IDS_AT_ONCE: usize = 256;

impl Store {
    /// Calls that agents run for this node and that have no end yet, oldest first.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn unsettled_agent_calls(&self, node: &str) -> Result<Vec<Row>, StoreError> {
        let sql = AssertSqlSafe(format!(
            "SELECT {COLUMNS} FROM calls WHERE node = $1 AND ended_ms IS NULL AND agent_id IS NOT NULL \
             ORDER BY created_ms, id LIMIT $2"
        ));
        let rows = sqlx::query(sql)
            .bind(node)
            .bind(MAX_UNSETTLED)
            .fetch_all(&self.db.browse)
            .await?;
        rows.iter().map(read_row).collect()
    }

    /// Some calls of whatever workspace, in no order; unknown ids are left out. Whose they are is for the caller
    /// to check.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(crate) async fn calls_of_ids(&self, ids: &[CallId]) -> Result<Vec<Row>, StoreError> {
        let mut found = Vec::new();
        for some in ids.chunks(IDS_AT_ONCE) {
            let places: Vec<String> = (1..=some.len())
                .map(|number| format!("${number}"))
                .collect();
            let sql = AssertSqlSafe(format!(
                "SELECT {COLUMNS} FROM calls WHERE workspace IN (SELECT id FROM workspaces) AND id IN ({})",
                places.join(", ")
            ));
            let mut query = sqlx::query(sql);
            for id in some {
                query = query.bind(id.to_string());
            }
            for row in query.fetch_all(&self.db.read).await? {
                found.push(read_row(&row)?);
            }
        }
        Ok(found)
    }
}
