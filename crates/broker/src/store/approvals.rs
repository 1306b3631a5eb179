//! Approvals: asked for, decided, used. Each change of state is one statement, so that of many only one happens.

use catalog::Hash;
use chrono::{DateTime, Utc};
use sessions::{UserId, WorkspaceId};
use sqlx::any::AnyRow;
use sqlx::{AssertSqlSafe, Row as _};

use super::calls::unhex;
use super::reach::Reach;
use super::{Store, StoreError, from_ms, ms};
use crate::approvals::{ApprovalId, ApprovalState};
use crate::call::CallId;

const COLUMNS: &str = "id, workspace, user_id, reference, agent_id, arguments_digest, schema_hash, trace_id, rule, \
     self_confirm, preview, call_id, state, created_ms, expires_ms, decided_ms, decided_by, note";
/// Removed in one statement, so that pruning never holds the writer for long.
const PRUNE_CHUNK: i64 = 500;

/// One approval.
#[derive(Debug, Clone, PartialEq)]
pub struct ApprovalRow {
    /// Its id.
    pub id: ApprovalId,
    /// Where.
    pub workspace: WorkspaceId,
    /// Who asked.
    pub user: UserId,
    /// `server.tool`.
    pub reference: String,
    /// The agent the caller named; empty where it named none.
    pub agent_id: String,
    /// Of the RFC 8785 form.
    pub arguments_digest: [u8; 32],
    /// The definition it is about.
    pub schema_hash: Hash,
    /// The trace of the request that asked.
    pub trace_id: String,
    /// The rule that wants it.
    pub rule: String,
    /// Whoever asked may confirm.
    pub self_confirm: bool,
    /// What a person decides by, as JSON.
    pub preview: String,
    /// The call that is held for it.
    pub call_id: Option<CallId>,
    /// Where it stands; one past its end is still what it was.
    pub state: ApprovalState,
    /// When it was asked for.
    pub created_at: DateTime<Utc>,
    /// Until when it can be decided; once approved, until when its token is good.
    pub expires_at: DateTime<Utc>,
    /// When it was decided.
    pub decided_at: Option<DateTime<Utc>>,
    /// By whom.
    pub decided_by: Option<UserId>,
    /// In whose words.
    pub note: Option<String>,
}

/// How many may be open.
#[derive(Debug, Clone, Copy)]
pub struct OpenLimits {
    /// Of one user in one workspace.
    pub per_user: i64,
    /// In all.
    pub in_all: i64,
}

/// A decision.
#[derive(Debug, Clone)]
pub struct Decided {
    /// What becomes of it.
    pub state: ApprovalState,
    /// By whom.
    pub by: UserId,
    /// In whose words.
    pub note: Option<String>,
    /// When.
    pub at: DateTime<Utc>,
    /// Until when its token is good.
    pub expires_at: DateTime<Utc>,
}

impl Store {
    /// Writes an approval down; false when too many are open, and nothing was written.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn add_approval(
        &self,
        row: &ApprovalRow,
        limits: OpenLimits,
    ) -> Result<bool, StoreError> {
        // In one statement: two that come at once do not both take the last place of a file.
        let sql = "INSERT INTO approvals (workspace, id, user_id, reference, agent_id, arguments_digest, schema_hash, \
             trace_id, rule, self_confirm, preview, call_id, node, state, created_ms, expires_ms) \
             SELECT $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16 WHERE \
             (SELECT COUNT(*) FROM approvals WHERE workspace = $1 AND user_id = $3 AND state = 'pending' \
             AND expires_ms > $15) < $17 AND \
             (SELECT COUNT(*) FROM approvals WHERE state = 'pending' AND expires_ms > $15) < $18";
        let written = sqlx::query(sql)
            .bind(row.workspace.as_str())
            .bind(row.id.to_string())
            .bind(row.user.as_str())
            .bind(&row.reference)
            .bind(&row.agent_id)
            .bind(Hash(row.arguments_digest).hex())
            .bind(row.schema_hash.hex())
            .bind(&row.trace_id)
            .bind(&row.rule)
            .bind(i64::from(row.self_confirm))
            .bind(row.preview.replace('\0', "\u{fffd}"))
            .bind(row.call_id.map(|id| id.to_string()))
            .bind(self.writer.own().node)
            .bind(row.state.as_str())
            .bind(ms(row.created_at))
            .bind(ms(row.expires_at))
            .bind(limits.per_user)
            .bind(limits.in_all)
            .execute(&self.db.write)
            .await?;
        Ok(written.rows_affected() > 0)
    }

    /// One approval.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn approval(
        &self,
        workspace: &WorkspaceId,
        id: ApprovalId,
    ) -> Result<Option<ApprovalRow>, StoreError> {
        let sql = AssertSqlSafe(format!(
            "SELECT {COLUMNS} FROM approvals WHERE workspace = $1 AND id = $2"
        ));
        let row = sqlx::query(sql)
            .bind(workspace.as_str())
            .bind(id.to_string())
            .fetch_optional(&self.db.read)
            .await?;
        row.as_ref().map(read).transpose()
    }

    /// The newest approval that is open for the same request and holds no call.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn open_approval(
        &self,
        like: &ApprovalRow,
    ) -> Result<Option<ApprovalRow>, StoreError> {
        let sql = AssertSqlSafe(format!(
            "SELECT {COLUMNS} FROM approvals WHERE workspace = $1 AND user_id = $2 AND reference = $3 \
             AND agent_id = $4 AND arguments_digest = $5 AND schema_hash = $6 AND expires_ms > $7 \
             AND state IN ('pending', 'approved') AND call_id IS NULL ORDER BY id DESC LIMIT 1"
        ));
        let row = sqlx::query(sql)
            .bind(like.workspace.as_str())
            .bind(like.user.as_str())
            .bind(&like.reference)
            .bind(&like.agent_id)
            .bind(Hash(like.arguments_digest).hex())
            .bind(like.schema_hash.hex())
            .bind(ms(like.created_at))
            .fetch_optional(&self.db.read)
            .await?;
        row.as_ref().map(read).transpose()
    }

    /// Approvals, newest first; `user`: only of this one.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn list_approvals(
        &self,
        workspace: &WorkspaceId,
        (user, before): (Option<&UserId>, Option<ApprovalId>),
        limit: usize,
    ) -> Result<Vec<ApprovalRow>, StoreError> {
        let whose = if user.is_some() {
            " AND user_id = $4"
        } else {
            ""
        };
        let sql = AssertSqlSafe(format!(
            "SELECT {COLUMNS} FROM approvals WHERE workspace = $1 AND id < $2{whose} ORDER BY id DESC LIMIT $3"
        ));
        let mut query = sqlx::query(sql)
            .bind(workspace.as_str().to_owned())
            // After every id there can be.
            .bind(before.map_or_else(|| "apr_~".to_owned(), |id| id.to_string()))
            .bind(i64::try_from(limit).unwrap_or(i64::MAX));
        if let Some(user) = user {
            query = query.bind(user.as_str().to_owned());
        }
        let rows = query.fetch_all(&self.db.browse).await?;
        rows.iter().map(read).collect()
    }

    /// Decides an approval that waits for it; false when it does not.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn decide_approval(
        &self,
        workspace: &WorkspaceId,
        id: ApprovalId,
        decided: &Decided,
    ) -> Result<bool, StoreError> {
        let sql = "UPDATE approvals SET state = $3, decided_ms = $4, decided_by = $5, note = $6, expires_ms = $7 \
             WHERE workspace = $1 AND id = $2 AND state = 'pending' AND expires_ms > $4";
        let written = sqlx::query(sql)
            .bind(workspace.as_str())
            .bind(id.to_string())
            .bind(decided.state.as_str())
            .bind(ms(decided.at))
            .bind(decided.by.as_str())
            .bind(&decided.note)
            .bind(ms(decided.expires_at))
            .execute(&self.db.write)
            .await?;
        Ok(written.rows_affected() > 0)
    }

    /// Uses an approval up: of everybody who tries, one is told true, also over a restart.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn spend_approval(
        &self,
        workspace: &WorkspaceId,
        id: ApprovalId,
    ) -> Result<bool, StoreError> {
        let sql = "UPDATE approvals SET state = 'used' WHERE workspace = $1 AND id = $2 AND expires_ms > $3 \
             AND call_id IS NULL AND (state = 'approved' OR (state = 'pending' AND self_confirm = 1))";
        let written = sqlx::query(sql)
            .bind(workspace.as_str())
            .bind(id.to_string())
            .bind(ms(Utc::now()))
            .execute(&self.db.write)
            .await?;
        Ok(written.rows_affected() > 0)
    }

    /// Nobody need decide any more: the call that was held is gone.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn withdraw_approval(
        &self,
        workspace: &WorkspaceId,
        id: ApprovalId,
    ) -> Result<(), StoreError> {
        let sql = "UPDATE approvals SET state = 'withdrawn' WHERE workspace = $1 AND id = $2 AND state = 'pending'";
        sqlx::query(sql)
            .bind(workspace.as_str())
            .bind(id.to_string())
            .execute(&self.db.write)
            .await?;
        Ok(())
    }
}

/// Withdraws what an earlier process of this node held calls for: they ended with it.
pub(super) async fn sweep(pool: &Reach, node: &str) -> Result<(), StoreError> {
    let sql = "UPDATE approvals SET state = 'withdrawn' WHERE node = $1 AND state = 'pending' AND call_id IS NOT NULL";
    sqlx::query(sql).bind(node).execute(pool).await?;
    Ok(())
}

/// Removes some that ended before a time. True while there is more.
pub(super) async fn prune(pool: &Reach, before: DateTime<Utc>) -> Result<bool, StoreError> {
    let gone = sqlx::query(
        "DELETE FROM approvals WHERE (workspace, id) IN (SELECT workspace, id FROM approvals WHERE expires_ms < $1 \
         ORDER BY expires_ms LIMIT $2)",
    )
    .bind(ms(before))
    .bind(PRUNE_CHUNK)
    .execute(pool)
    .await?;
    Ok(gone.rows_affected() >= PRUNE_CHUNK.unsigned_abs())
}

fn read(row: &AnyRow) -> Result<ApprovalRow, StoreError> {
    let corrupt = |column: &str| StoreError::Corrupt(format!("approvals.{column}"));
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
    let digest =
        |column: &str| text(column).and_then(|hex| unhex(&hex).ok_or_else(|| corrupt(column)));
    Ok(ApprovalRow {
        id: ApprovalId::parse(&text("id")?).ok_or_else(|| corrupt("id"))?,
        workspace: WorkspaceId::new(&text("workspace")?).map_err(|_| corrupt("workspace"))?,
        user: UserId::new(&text("user_id")?).map_err(|_| corrupt("user_id"))?,
        reference: text("reference")?,
        agent_id: text("agent_id")?,
        arguments_digest: digest("arguments_digest")?,
        schema_hash: Hash(digest("schema_hash")?),
        trace_id: text("trace_id")?,
        rule: text("rule")?,
        self_confirm: number("self_confirm")? == Some(1),
        preview: text("preview")?,
        call_id: maybe("call_id")?.and_then(|id| CallId::parse(&id)),
        state: ApprovalState::parse(&text("state")?).ok_or_else(|| corrupt("state"))?,
        created_at: from_ms(number("created_ms")?.unwrap_or_default()),
        expires_at: from_ms(number("expires_ms")?.unwrap_or_default()),
        decided_at: number("decided_ms")?.map(from_ms),
        decided_by: maybe("decided_by")?.and_then(|user| UserId::new(&user).ok()),
        note: maybe("note")?,
    })
}
