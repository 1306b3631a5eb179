//! Intents, ends and administrative acts: what is committed while somebody waits for it.

use sessions::WorkspaceId;
use sqlx::{Any, Connection as _, Transaction};

use super::actions;
use super::db::Db;
use super::heads::{Draft, Heads};
use super::insert::{Inserts, seq};
use super::ms;
use super::reach::within;
use super::writer::Job;
use crate::audit::{End, Entry};
use crate::call::CallId;
use crate::call_state::CallState;
use crate::ledger::{HeldKey, Intent, Settled};

/// What this process adds to every intent.
#[derive(Debug, Clone, Copy)]
pub(super) struct Own<'a> {
    pub(super) node: &'a str,
    pub(super) key_retention_ms: i64,
}

/// Commits jobs in one transaction; for each whether it took.
pub(super) async fn commit(
    (db, inserts): (&Db, &Inserts),
    jobs: &[Job],
    own: Own<'_>,
    heads: &Heads,
) -> Result<Vec<bool>, sqlx::Error> {
    let mut draft = Draft::new(heads, own.node);
    let mut lent = db.write.lend().await?;
    let (deadline, connection) = lent.parts()?;
    let committed = within(deadline, async {
        let mut tx = connection.begin().await?;
        let mut outcomes = Vec::with_capacity(jobs.len());
        for job in jobs {
            outcomes.push(match job {
                Job::Begin(intent, state, _) => {
                    begin(&mut tx, inserts, (intent, *state), own).await?
                }
                Job::Settle(intent, settled, _) => {
                    settle(&mut tx, (intent, settled), &mut draft).await?
                }
                Job::Act(action, _) => actions::add(&mut tx, action, &mut draft).await?,
                Job::Flush(_) => true,
            });
        }
        tx.commit().await?;
        Ok(outcomes)
    })
    .await;
    let outcomes = lent.settle(committed)?;
    heads.keep(draft);
    Ok(outcomes)
}

async fn begin(
    tx: &mut Transaction<'_, Any>,
    inserts: &Inserts,
    (intent, state): (&Intent, CallState),
    own: Own<'_>,
) -> Result<bool, sqlx::Error> {
    if let Some(key) = &intent.idempotency_key
        && !reserve(tx, intent, key, own.key_retention_ms).await?
    {
        return Ok(false);
    }
    inserts.intent(tx, (intent, state), own.node).await?;
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

/// The first end wins: a row that ended is not touched again, and has no second entry.
async fn settle(
    tx: &mut Transaction<'_, Any>,
    (intent, settled): (&Intent, &Settled),
    draft: &mut Draft<'_>,
) -> Result<bool, sqlx::Error> {
    draft.load(tx, &settled.workspace).await?;
    let mut entry = Entry::of_call(draft.chain, intent, End::of(settled));
    let link = draft.place(&settled.workspace, &mut entry);
    let written = sqlx::query(
        "UPDATE calls SET state = $3, session_id = $4, ended_ms = $5, duration_ms = $6, code = $7, result = $8, \
         fault = $9, chain = $10, seq = $11, hash = $12 WHERE workspace = $1 AND id = $2 AND ended_ms IS NULL",
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
    .bind(draft.chain)
    .bind(seq(link))
    .bind(link.hash.hex())
    .execute(&mut **tx)
    .await?;
    let took = written.rows_affected() > 0;
    if took {
        draft.take(&settled.workspace, link);
        if let Some(key) = &settled.frees_key {
            free(tx, (&settled.workspace, settled.id), key).await?;
        }
    }
    Ok(took)
}

/// Gives a key back that this call holds.
async fn free(
    tx: &mut Transaction<'_, Any>,
    (workspace, call): (&WorkspaceId, CallId),
    held: &HeldKey,
) -> Result<(), sqlx::Error> {
    let sql = "DELETE FROM idempotency WHERE workspace = $1 AND user_id = $2 AND reference = $3 \
         AND idempotency_key = $4 AND call_id = $5";
    sqlx::query(sql)
        .bind(workspace.as_str())
        .bind(held.user.as_str())
        .bind(&held.reference)
        .bind(&held.key)
        .bind(call.to_string())
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// Takes an intent back, and its key: its caller was refused and nothing was sent.
pub(super) async fn void(
    tx: &mut Transaction<'_, Any>,
    intent: &Intent,
) -> Result<(), sqlx::Error> {
    if let Some(key) = &intent.idempotency_key {
        let held = HeldKey {
            user: intent.user.clone(),
            reference: intent.reference.clone(),
            key: key.clone(),
        };
        free(tx, (&intent.workspace, intent.id), &held).await?;
    }
    sqlx::query("DELETE FROM calls WHERE workspace = $1 AND id = $2 AND ended_ms IS NULL")
        .bind(intent.workspace.as_str())
        .bind(intent.id.to_string())
        .execute(&mut **tx)
        .await?;
    Ok(())
}
