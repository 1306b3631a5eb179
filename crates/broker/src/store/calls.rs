//! Rows of the ledger as they are read back, swept and pruned. What they mean is said in [`crate::ledger`].

use std::fmt::Write as _;

use chrono::{DateTime, Utc};
use sessions::{Lane, UserId, WorkspaceId};
use sqlx::any::AnyRow;
use sqlx::{AssertSqlSafe, Row as _};

use super::reach::Reach;
use super::{StoreError, from_ms, ms};
use crate::call::CallId;
use crate::call_state::CallState;
use crate::ledger::{CallKind, Intent, Row, RowFilter};

/// Every column, in the order rows are read.
pub(super) const COLUMNS: &str = "id, workspace, user_id, key_id, kind, reference, lane, trace_id, arguments_digest, preview, \
     schema_hash, idempotency_key, request_digest, read_only, detached, created_ms, state, session_id, ended_ms, \
     duration_ms, result, fault, agent_id, deadline_ms, approval_id";
/// Rows removed in one statement, so that pruning never holds the writer for long.
pub(super) const PRUNE_CHUNK: i64 = 500;

pub(super) async fn get(
    pool: &Reach,
    workspace: &WorkspaceId,
    id: CallId,
) -> Result<Option<Row>, StoreError> {
    let sql = AssertSqlSafe(format!(
        "SELECT {COLUMNS} FROM calls WHERE workspace = $1 AND id = $2"
    ));
    let row = sqlx::query(sql)
        .bind(workspace.as_str())
        .bind(id.to_string())
        .fetch_optional(pool)
        .await?;
    row.as_ref().map(read_row).transpose()
}

pub(super) async fn find_by_key(pool: &Reach, intent: &Intent) -> Result<Option<Row>, StoreError> {
    let sql = AssertSqlSafe(format!(
        "SELECT {COLUMNS} FROM calls WHERE workspace = $1 AND id = (SELECT call_id FROM idempotency WHERE workspace = $1 \
         AND user_id = $2 AND reference = $3 AND idempotency_key = $4 AND expires_ms > $5)"
    ));
    let row = sqlx::query(sql)
        .bind(intent.workspace.as_str())
        .bind(intent.user.as_str())
        .bind(&intent.reference)
        .bind(&intent.idempotency_key)
        .bind(ms(Utc::now()))
        .fetch_optional(pool)
        .await?;
    row.as_ref().map(read_row).transpose()
}

/// Newest first. Conditions are added only where asked for, so that the planner sees a plain query.
pub(super) async fn list(pool: &Reach, filter: &RowFilter) -> Result<Vec<Row>, StoreError> {
    let texts = [
        (
            "user_id =",
            filter.user.as_ref().map(|user| user.as_str().to_owned()),
        ),
        (
            "state =",
            filter.state.map(|state| state.as_str().to_owned()),
        ),
        ("reference =", filter.reference.clone()),
        ("idempotency_key =", filter.idempotency_key.clone()),
        ("trace_id =", filter.trace_id.clone()),
        ("id <", filter.before.map(|id| id.to_string())),
    ];
    let asked: Vec<_> = texts
        .into_iter()
        .filter_map(|(condition, value)| Some((condition, value?)))
        .collect();
    let mut sql = format!("SELECT {COLUMNS} FROM calls WHERE workspace = $1 AND created_ms >= $2");
    for (number, (condition, _)) in asked.iter().enumerate() {
        let _ = write!(sql, " AND {condition} ${}", number + 4);
    }
    if let Some(tasks) = &filter.tasks {
        // As the index says it, so that it is used.
        sql.push_str(" AND detached = 1 AND kind = 'tool'");
        if let Some(prefix) = tasks.prefix() {
            // A server's name holds no quotes; a range of texts would be another one in another collation.
            let _ = write!(
                sql,
                " AND SUBSTR(reference, 1, {}) = '{prefix}'",
                prefix.len()
            );
        }
    }
    sql.push_str(" ORDER BY id DESC LIMIT $3");
    let mut query = sqlx::query(AssertSqlSafe(sql))
        .bind(filter.workspace.as_str().to_owned())
        .bind(filter.since.map_or(0, ms))
        .bind(i64::try_from(filter.limit).unwrap_or(i64::MAX));
    for (_, value) in asked {
        query = query.bind(value);
    }
    let rows = query.fetch_all(pool).await?;
    rows.iter().map(read_row).collect()
}

pub(super) async fn trace_span(
    pool: &Reach,
    workspace: &WorkspaceId,
    trace_id: &str,
) -> Result<Option<(i64, i64)>, StoreError> {
    let sql = "SELECT MIN(created_ms), MAX(COALESCE(ended_ms, $3)) FROM calls WHERE trace_id = $1 AND workspace = $2";
    let row = sqlx::query(sql)
        .bind(trace_id)
        .bind(workspace.as_str())
        .bind(ms(Utc::now()))
        .fetch_one(pool)
        .await?;
    let (first, last): (Option<i64>, Option<i64>) = (row.try_get(0)?, row.try_get(1)?);
    Ok(first.zip(last))
}

/// Makes the row of a held call its intent; false when it waits for no approval any more.
pub(super) async fn release(
    pool: &Reach,
    (workspace, id): (&WorkspaceId, CallId),
    deadline: Option<DateTime<Utc>>,
) -> Result<bool, StoreError> {
    let released = sqlx::query(
        "UPDATE calls SET state = $3, deadline_ms = $4 WHERE workspace = $1 AND id = $2 AND state = $5 \
         AND ended_ms IS NULL",
    )
    .bind(workspace.as_str())
    .bind(id.to_string())
    .bind(CallState::Dispatched.as_str())
    .bind(deadline.map(ms))
    .bind(CallState::AwaitingApproval.as_str())
    .execute(pool)
    .await?;
    Ok(released.rows_affected() > 0)
}

/// Some calls that a stopped process of this node left open. Those that an agent runs are left out, unless they only
/// waited to be approved: they go on without the bridge.
pub(super) async fn left_open(
    pool: &Reach,
    node: &str,
    limit: usize,
) -> Result<Vec<Row>, StoreError> {
    let sql = AssertSqlSafe(format!(
        "SELECT {COLUMNS} FROM calls WHERE node = $1 AND ended_ms IS NULL AND (agent_id IS NULL OR state = $3) \
         LIMIT $2"
    ));
    let rows = sqlx::query(sql)
        .bind(node)
        .bind(i64::try_from(limit).unwrap_or(i64::MAX))
        .bind(CallState::AwaitingApproval.as_str())
        .fetch_all(pool)
        .await?;
    rows.iter().map(read_row).collect()
}

/// Removes some rows that ended before a time and stand in no audit chain, and expired keys. True while there is
/// more.
pub(super) async fn prune(pool: &Reach, before: DateTime<Utc>) -> Result<bool, StoreError> {
    // Ids rise with time, so the primary key finds the old ones of a workspace.
    let old = format!("call_{}", uuid_at(before));
    let mut more = false;
    let mut workspace = String::new();
    while let Some(next) = workspace_after(pool, &workspace).await? {
        let rows = sqlx::query(
            "DELETE FROM calls WHERE workspace = $1 AND id IN (SELECT id FROM calls WHERE workspace = $1 \
             AND id < $2 AND ended_ms < $3 AND seq IS NULL ORDER BY id LIMIT $4)",
        )
        .bind(&next)
        .bind(&old)
        .bind(ms(before))
        .bind(PRUNE_CHUNK)
        .execute(pool)
        .await?;
        more |= rows.rows_affected() >= PRUNE_CHUNK.unsigned_abs();
        workspace = next;
    }
    sqlx::query("DELETE FROM idempotency WHERE expires_ms < $1")
        .bind(ms(Utc::now()))
        .execute(pool)
        .await?;
    Ok(more)
}

/// The next workspace that has calls: one step along the primary key.
pub(super) async fn workspace_after(
    pool: &Reach,
    workspace: &str,
) -> Result<Option<String>, StoreError> {
    let row = sqlx::query("SELECT MIN(workspace) FROM calls WHERE workspace > $1")
        .bind(workspace)
        .fetch_one(pool)
        .await?;
    Ok(row.try_get(0)?)
}

pub(super) fn uuid_at(time: DateTime<Utc>) -> uuid::Uuid {
    let millis = u64::try_from(ms(time)).unwrap_or(0);
    uuid::Builder::from_unix_timestamp_millis(millis, &[0; 10]).into_uuid()
}

fn corrupt(column: &str) -> StoreError {
    StoreError::Corrupt(format!("calls.{column}"))
}

pub(super) fn read_row(row: &AnyRow) -> Result<Row, StoreError> {
    let text = |column: &str| {
        row.try_get::<String, _>(column)
            .map_err(|_| corrupt(column))
    };
    let maybe = |column: &str| {
        row.try_get::<Option<String>, _>(column)
            .map_err(|_| corrupt(column))
    };
    let number = |column: &str| {
        row.try_get::<Option<i64>, _>(column)
            .map_err(|_| corrupt(column))
    };
    let flag = |column: &str| Ok::<_, StoreError>(number(column)? == Some(1));
    let digest =
        |column: &str| text(column).and_then(|hex| unhex(&hex).ok_or_else(|| corrupt(column)));
    let intent = Intent {
        id: CallId::parse(&text("id")?).ok_or_else(|| corrupt("id"))?,
        workspace: WorkspaceId::new(&text("workspace")?).map_err(|_| corrupt("workspace"))?,
        user: UserId::new(&text("user_id")?).map_err(|_| corrupt("user_id"))?,
        key_id: text("key_id")?,
        kind: CallKind::parse(&text("kind")?).ok_or_else(|| corrupt("kind"))?,
        reference: text("reference")?,
        lane: Lane::new(&text("lane")?).map_err(|_| corrupt("lane"))?,
        trace_id: text("trace_id")?,
        arguments_digest: digest("arguments_digest")?,
        preview: text("preview")?,
        schema_hash: maybe("schema_hash")?
            .and_then(|hex| unhex(&hex))
            .map(catalog::Hash),
        idempotency_key: maybe("idempotency_key")?,
        request_digest: match text("request_digest")?.as_str() {
            "" => [0; 32],
            hex => unhex(hex).ok_or_else(|| corrupt("request_digest"))?,
        },
        read_only: flag("read_only")?,
        detached: flag("detached")?,
        created_at: from_ms(number("created_ms")?.unwrap_or_default()),
        agent_id: maybe("agent_id")?,
        deadline_at: number("deadline_ms")?.map(from_ms),
        approval_id: maybe("approval_id")?,
    };
    Ok(Row {
        intent,
        state: CallState::parse(&text("state")?).ok_or_else(|| corrupt("state"))?,
        session_id: maybe("session_id")?,
        ended_at: number("ended_ms")?.map(from_ms),
        duration_ms: number("duration_ms")?.and_then(|ms| u64::try_from(ms).ok()),
        result: maybe("result")?,
        fault: maybe("fault")?,
    })
}

pub(crate) fn unhex(hex: &str) -> Option<[u8; 32]> {
    catalog::Hash::from_hex(hex).map(|hash| hash.0)
}
