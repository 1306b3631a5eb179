//! Intents and ends: what is committed before and after a call that may act.

use sqlx::{Any, Connection as _, Transaction};

use super::db::Db;
use super::insert::Inserts;
use super::ms;
use super::reach::within;
use super::writer::Job;
use crate::ledger::{Intent, Settled};

/// What this process adds to every intent.
#[derive(Debug, Clone, Copy)]
pub(super) struct Own<'a> {
    pub(super) node: &'a str,
    pub(super) key_retention_ms: i64,
}

/// Commits intents and ends in one transaction; for each whether it took.
pub(super) async fn commit(
    db: &Db,
    inserts: &Inserts,
    jobs: &[Job],
    own: Own<'_>,
) -> Result<Vec<bool>, sqlx::Error> {
    let mut lent = db.write.lend().await?;
    let (deadline, connection) = lent.parts()?;
    let committed = within(deadline, async {
        let mut tx = connection.begin().await?;
        let mut outcomes = Vec::with_capacity(jobs.len());
        for job in jobs {
            outcomes.push(match job {
                Job::Begin(intent, _) => begin(&mut tx, inserts, intent, own).await?,
                Job::Settle(settled, _) => settle(&mut tx, settled).await?,
                Job::Flush(_) => true,
            });
        }
        tx.commit().await?;
        Ok(outcomes)
    })
    .await;
    lent.settle(committed)
}

async fn begin(
    tx: &mut Transaction<'_, Any>,
    inserts: &Inserts,
    intent: &Intent,
    own: Own<'_>,
) -> Result<bool, sqlx::Error> {
    if let Some(key) = &intent.idempotency_key
        && !reserve(tx, intent, key, own.key_retention_ms).await?
    {
        return Ok(false);
    }
    inserts.intent(tx, intent, own.node).await?;
    Ok(true)
}

/// Takes a key; false when it is taken.
async fn reserve(
    tx: &mut Transaction<'_, Any>,
    intent: &Intent,
    key: &str,
    retention_ms: i64,
) -> Result<bool, sqlx::Error> {
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
    Ok(taken.rows_affected() > 0)
}

/// The first end wins: a row that ended is not touched again.
async fn settle(tx: &mut Transaction<'_, Any>, settled: &Settled) -> Result<bool, sqlx::Error> {
    let written = sqlx::query(
        "UPDATE calls SET state = $3, session_id = $4, ended_ms = $5, duration_ms = $6, code = $7, result = $8, \
         fault = $9 WHERE workspace = $1 AND id = $2 AND ended_ms IS NULL",
    )
    .bind(settled.workspace.as_str())
    .bind(settled.id.to_string())
    .bind(settled.state.as_str())
    .bind(settled.session_id.map(|id| id.to_string()))
    .bind(ms(settled.ended_at))
    .bind(i64::try_from(settled.duration_ms).unwrap_or(i64::MAX))
    .bind(settled.code)
    .bind(&settled.result)
    .bind(&settled.fault)
    .execute(&mut **tx)
    .await?;
    Ok(written.rows_affected() > 0)
}

/// Takes an intent back, and its key: its caller was refused and nothing was sent.
pub(super) async fn void(
    tx: &mut Transaction<'_, Any>,
    intent: &Intent,
) -> Result<(), sqlx::Error> {
    if let Some(key) = &intent.idempotency_key {
        let held = "DELETE FROM idempotency WHERE workspace = $1 AND user_id = $2 AND reference = $3 \
             AND idempotency_key = $4 AND call_id = $5";
        sqlx::query(held)
            .bind(intent.workspace.as_str())
            .bind(intent.user.as_str())
            .bind(&intent.reference)
            .bind(key)
            .bind(intent.id.to_string())
            .execute(&mut **tx)
            .await?;
    }
    sqlx::query("DELETE FROM calls WHERE workspace = $1 AND id = $2 AND ended_ms IS NULL")
        .bind(intent.workspace.as_str())
        .bind(intent.id.to_string())
        .execute(&mut **tx)
        .await?;
    Ok(())
}
