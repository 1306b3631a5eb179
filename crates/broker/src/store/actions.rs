//! What was done by administrators, for audit.

use chrono::{DateTime, Utc};
use sessions::{UserId, WorkspaceId};
use sqlx::{Any, Transaction, query_with};

use super::bulk::Values;
use super::heads::Draft;
use super::insert::seq;
use super::writer::Job;
use super::{Store, StoreError, ms};
use crate::audit::Entry;

/// An administrative act, for audit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Action {
    /// `act_` and a `UUIDv7`.
    pub id: String,
    /// Where.
    pub workspace: WorkspaceId,
    /// Who.
    pub user: UserId,
    /// By which key.
    pub key_id: String,
    /// `key_created`, `key_revoked`, `server_saved`, …
    pub action: String,
    /// On what.
    pub target: String,
    /// The trace.
    pub trace_id: String,
    /// When.
    pub created_at: DateTime<Utc>,
}

impl Store {
    /// Writes an administrative act down, as the next entry of the audit chain.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn add_action(&self, action: &Action) -> Result<(), StoreError> {
        self.writer
            .ask(|answer| Job::Act(Box::new(action.clone()), answer))
            .await?;
        Ok(())
    }
}

/// Adds an act; false when it is there already.
pub(super) async fn add(
    tx: &mut Transaction<'_, Any>,
    action: &Action,
    draft: &mut Draft<'_>,
) -> Result<bool, sqlx::Error> {
    draft.load(tx, &action.workspace).await?;
    let mut entry = Entry::of_action(draft.chain, action);
    let link = draft.place(&action.workspace, &mut entry);
    let columns = [
        action.id.as_str(),
        action.workspace.as_str(),
        action.user.as_str(),
        &action.key_id,
        &action.action,
        &action.target,
        &action.trace_id,
        draft.chain,
    ];
    let mut values = Values::with_capacity(columns.len() + 3);
    for column in columns {
        values.text(column);
    }
    values.text(link.hash.hex());
    values.number(ms(action.created_at));
    values.number(seq(link));
    let added = query_with(
        "INSERT INTO actions (id, workspace, user_id, key_id, action, target, trace_id, chain, hash, created_ms, seq) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) ON CONFLICT (id) DO NOTHING",
        values.done(),
    )
    .execute(&mut **tx)
    .await?;
    let new = added.rows_affected() > 0;
    if new {
        draft.take(&action.workspace, link);
    }
    Ok(new)
}
