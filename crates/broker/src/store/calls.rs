//! Rows of the ledger. SQL and its columns; what they mean is said in [`crate::ledger`].

use std::fmt::Write as _;

use chrono::{DateTime, Utc};
use sessions::{Lane, UserId, WorkspaceId};
use sqlx::AnyPool;
use sqlx::any::AnyArguments;
use sqlx::any::AnyRow;
use sqlx::query::Query;
use sqlx::{Any, AssertSqlSafe, Row as _, Transaction};

use super::db::placeholders;
use super::writer::Job;
use super::{StoreError, from_ms, ms};
use crate::call::CallId;
use crate::call_state::CallState;
use crate::ledger::{CallKind, Intent, Row, RowFilter, Settled};

/// Every column, in the order rows are read.
const COLUMNS: &str = "id, workspace, user_id, key_id, kind, reference, lane, trace_id, arguments_digest, preview, \
     schema_hash, idempotency_key, request_digest, read_only, detached, created_ms, state, session_id, ended_ms, \
     duration_ms, result, fault";
/// The columns of a row as it is inserted.
const INSERTED: &str = "INSERT INTO calls (id, workspace, user_id, key_id, kind, reference, lane, trace_id, \
     arguments_digest, preview, schema_hash, idempotency_key, request_digest, read_only, detached, node, created_ms, \
     state, session_id, ended_ms, duration_ms, code, result, fault) VALUES ";
/// How many those are.
const INSERTED_COLUMNS: usize = 24;
/// Rows in one statement: below the 999 parameters every SQLite allows.
const ROWS_A_STATEMENT: usize = 40;
/// Rows removed in one statement, so that pruning never holds the writer for long.
const PRUNE_CHUNK: i64 = 500;

/// Commits intents and ends in one transaction; for each whether it took.
pub(super) async fn commit(
    pool: &AnyPool,
    jobs: &[Job],
    own: (&str, i64),
) -> Result<Vec<bool>, sqlx::Error> {
    let mut tx = pool.begin().await?;
    let mut outcomes = Vec::with_capacity(jobs.len());
    for job in jobs {
        outcomes.push(match job {
            Job::Begin(intent, _) => begin(&mut tx, intent, own).await?,
            Job::Settle(settled, _) => settle(&mut tx, settled).await?,
            Job::Flush(_) => true,
        });
    }
    tx.commit().await?;
    Ok(outcomes)
}

async fn begin(
    tx: &mut Transaction<'_, Any>,
    intent: &Intent,
    own: (&str, i64),
) -> Result<bool, sqlx::Error> {
    let (node, retention_ms) = own;
    if let Some(key) = &intent.idempotency_key {
        let now = ms(intent.created_at);
        let expired = "DELETE FROM idempotency WHERE workspace = $1 AND user_id = $2 AND reference = $3 \
             AND idempotency_key = $4 AND expires_ms <= $5";
        sqlx::query(expired)
            .bind(intent.workspace.as_str())
            .bind(intent.user.as_str())
            .bind(&intent.reference)
            .bind(key)
            .bind(now)
            .execute(&mut **tx)
            .await?;
        let taken = sqlx::query(
            "INSERT INTO idempotency (workspace, user_id, reference, idempotency_key, call_id, expires_ms) \
             VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT DO NOTHING",
        )
        .bind(intent.workspace.as_str())
        .bind(intent.user.as_str())
        .bind(&intent.reference)
        .bind(key)
        .bind(intent.id.to_string())
        .bind(now.saturating_add(retention_ms))
        .execute(&mut **tx)
        .await?;
        if taken.rows_affected() == 0 {
            return Ok(false);
        }
    }
    let sql = AssertSqlSafe(format!("{INSERTED}{}", placeholders(1, INSERTED_COLUMNS)));
    bind_intent(sqlx::query(sql), intent, node)
        .bind(CallState::Dispatched.as_str())
        .bind(None::<String>)
        .bind(None::<i64>)
        .bind(None::<i64>)
        .bind(None::<String>)
        .bind(None::<String>)
        .bind(None::<String>)
        .execute(&mut **tx)
        .await?;
    Ok(true)
}

type Bound<'q> = Query<'q, Any, AnyArguments>;

fn bind_intent<'q>(query: Bound<'q>, intent: &Intent, node: &str) -> Bound<'q> {
    query
        .bind(intent.id.to_string())
        .bind(intent.workspace.as_str().to_owned())
        .bind(intent.user.as_str().to_owned())
        .bind(intent.key_id.clone())
        .bind(intent.kind.as_str())
        .bind(intent.reference.clone())
        .bind(intent.lane.as_str().to_owned())
        .bind(intent.trace_id.clone())
        .bind(catalog::Hash(intent.arguments_digest).hex())
        .bind(intent.preview.clone())
        .bind(intent.schema_hash.map(|hash| hash.hex()))
        .bind(intent.idempotency_key.clone())
        .bind(catalog::Hash(intent.request_digest).hex())
        .bind(i64::from(intent.read_only))
        .bind(i64::from(intent.detached))
        .bind(node.to_owned())
        .bind(ms(intent.created_at))
}

/// The first end wins: a row that ended is not touched again.
async fn settle(tx: &mut Transaction<'_, Any>, settled: &Settled) -> Result<bool, sqlx::Error> {
    let written = sqlx::query(
        "UPDATE calls SET state = $2, session_id = $3, ended_ms = $4, duration_ms = $5, code = $6, result = $7, \
         fault = $8 WHERE id = $1 AND ended_ms IS NULL",
    )
    .bind(settled.id.to_string())
    .bind(settled.state.as_str())
    .bind(&settled.session_id)
    .bind(ms(settled.ended_at))
    .bind(i64::try_from(settled.duration_ms).unwrap_or(i64::MAX))
    .bind(settled.code)
    .bind(&settled.result)
    .bind(&settled.fault)
    .execute(&mut **tx)
    .await?;
    Ok(written.rows_affected() > 0)
}

/// Inserts whole rows: calls that needed no intent.
pub(super) async fn insert_finished(
    tx: &mut Transaction<'_, Any>,
    rows: &[(Intent, Settled)],
    node: &str,
) -> Result<(), sqlx::Error> {
    for chunk in rows.chunks(ROWS_A_STATEMENT) {
        // A batch that was committed although its answer was lost comes again.
        let sql = format!(
            "{INSERTED}{} ON CONFLICT DO NOTHING",
            placeholders(chunk.len(), INSERTED_COLUMNS)
        );
        let mut query = sqlx::query(AssertSqlSafe(sql));
        for (intent, settled) in chunk {
            query = bind_intent(query, intent, node)
                .bind(settled.state.as_str())
                .bind(settled.session_id.clone())
                .bind(ms(settled.ended_at))
                .bind(i64::try_from(settled.duration_ms).unwrap_or(i64::MAX))
                .bind(settled.code)
                .bind(settled.result.clone())
                .bind(settled.fault.clone());
        }
        query.execute(&mut **tx).await?;
    }
    Ok(())
}

pub(super) async fn get(
    pool: &AnyPool,
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

pub(super) async fn find_by_key(
    pool: &AnyPool,
    intent: &Intent,
) -> Result<Option<Row>, StoreError> {
    let sql = AssertSqlSafe(format!(
        "SELECT {COLUMNS} FROM calls WHERE id = (SELECT call_id FROM idempotency WHERE workspace = $1 \
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
pub(super) async fn list(pool: &AnyPool, filter: &RowFilter) -> Result<Vec<Row>, StoreError> {
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
    pool: &AnyPool,
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

/// Ends what a stopped process of this node left open: nobody knows how it went, and nothing is run again.
pub(super) async fn sweep(pool: &AnyPool, node: &str) -> Result<u64, StoreError> {
    let swept = sqlx::query(
        "UPDATE calls SET state = $2, ended_ms = $3 WHERE node = $1 AND ended_ms IS NULL",
    )
    .bind(node)
    .bind(CallState::OutcomeUnknown.as_str())
    .bind(ms(Utc::now()))
    .execute(pool)
    .await?;
    Ok(swept.rows_affected())
}

/// Removes some rows that ended before a time, and expired keys. True while there is more.
pub(super) async fn prune(pool: &AnyPool, before: DateTime<Utc>) -> Result<bool, StoreError> {
    let rows = sqlx::query(
        "DELETE FROM calls WHERE id IN (SELECT id FROM calls WHERE id < $1 AND ended_ms < $2 ORDER BY id LIMIT $3)",
    )
    // Ids rise with time, so the primary key finds the old ones.
    .bind(format!("call_{}", uuid_at(before)))
    .bind(ms(before))
    .bind(PRUNE_CHUNK)
    .execute(pool)
    .await?;
    sqlx::query("DELETE FROM idempotency WHERE expires_ms < $1")
        .bind(ms(Utc::now()))
        .execute(pool)
        .await?;
    Ok(rows.rows_affected() >= PRUNE_CHUNK.unsigned_abs())
}

fn uuid_at(time: DateTime<Utc>) -> uuid::Uuid {
    let millis = u64::try_from(ms(time)).unwrap_or(0);
    uuid::Builder::from_unix_timestamp_millis(millis, &[0; 10]).into_uuid()
}

fn corrupt(column: &str) -> StoreError {
    StoreError::Corrupt(format!("calls.{column}"))
}

fn read_row(row: &AnyRow) -> Result<Row, StoreError> {
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
        request_digest: digest("request_digest")?,
        read_only: flag("read_only")?,
        detached: flag("detached")?,
        created_at: from_ms(number("created_ms")?.unwrap_or_default()),
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

fn unhex(hex: &str) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    if hex.len() != 64 || !hex.is_ascii() {
        return None;
    }
    for (byte, at) in bytes.iter_mut().zip((0..64).step_by(2)) {
        *byte = u8::from_str_radix(&hex[at..at + 2], 16).ok()?;
    }
    Some(bytes)
}
