//! Calls by their ids and by who runs them: those to be attended again at a start, those an agent asks about, and
//! those that are written already.

use std::collections::HashSet;

use sqlx::AssertSqlSafe;

use super::calls::{COLUMNS, read_row};
use super::gathered::{Item, Part};
use super::reach::Reach;
use super::{Store, StoreError};
use crate::call::CallId;
use crate::ledger::Row;

/// Calls of agents taken up again at a start: more than may be in flight at once.
const MAX_UNSETTLED: i64 = 100_000;
/// Ids looked up in one statement: far below the parameters both databases take.
const IDS_AT_ONCE: usize = 256;

/// Parts a part into what is in the ledger already and the rest; the part itself comes back with an error.
pub(super) async fn known(pool: &Reach, part: Part) -> Result<(Part, Part), (Part, sqlx::Error)> {
    let mut there = HashSet::new();
    for item in &part {
        let Item::Record(record) = item else { continue };
        let found = sqlx::query("SELECT 1 FROM calls WHERE workspace = $1 AND id = $2")
            .bind(record.intent.workspace.as_str())
            .bind(record.intent.id.to_string())
            .fetch_optional(pool)
            .await;
        match found {
            Ok(Some(_)) => drop(there.insert(record.intent.id)),
            Ok(None) => {}
            Err(error) => return Err((part, error)),
        }
    }
    let is_known =
        |item: &Item| matches!(item, Item::Record(record) if there.contains(&record.intent.id));
    Ok(part.into_iter().partition(is_known))
}

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
