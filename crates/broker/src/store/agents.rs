//! Agents: their tokens' versions, their last catalogues, and which one a lane means.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use sessions::{Lane, UserId, WorkspaceId};
use sqlx::any::AnyRow;
use sqlx::{Any, Connection as _, Row as _, Transaction};

use super::reach::within;
use super::{Store, StoreError, from_ms, ms};

/// Agents loaded at a start; a bridge with more needs several nodes.
const MAX_LOADED: i64 = 20_000;
/// Lanes of one user that name an agent; the oldest names are not dropped, new ones are refused.
pub(crate) const MAX_DEFAULTS: i64 = 256;

const COLUMNS: &str = "user_id, agent_id, workspace, label, token_version, token_issued_ms, token_expires_ms, \
     created_ms, deleted_ms, epoch, last_seen_ms, meta, catalogue, catalogue_ms";

/// An agent as kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentRow {
    /// Whose.
    pub user: UserId,
    /// Unique among the user's.
    pub agent_id: String,
    /// Where its servers appear.
    pub workspace: WorkspaceId,
    /// What people call it.
    pub label: Option<String>,
    /// The version of the one token that is good; from 1.
    pub token_version: u64,
    /// When that token was made.
    pub token_issued_at: DateTime<Utc>,
    /// Until when it is good.
    pub token_expires_at: DateTime<Utc>,
    /// When the agent was first named.
    pub created_at: DateTime<Utc>,
    /// It was deleted; only its token's version is remembered.
    pub deleted_at: Option<DateTime<Utc>>,
    /// How often it connected.
    pub epoch: u64,
    /// Its last connection.
    pub last_seen_at: Option<DateTime<Utc>>,
    /// What it said of itself, JSON.
    pub meta: Option<String>,
    /// Its last catalogue, JSON.
    pub catalogue: Option<String>,
    /// When that came.
    pub catalogue_at: Option<DateTime<Utc>>,
}

/// A token that is wanted.
#[derive(Debug, Clone)]
pub struct TokenWish {
    /// Whose agent.
    pub user: UserId,
    /// Which.
    pub agent_id: String,
    /// Where.
    pub workspace: WorkspaceId,
    /// What people call it; `None` leaves what is there.
    pub label: Option<String>,
    /// Revoke what is there.
    pub reset: bool,
    /// Until when a new token is good.
    pub expires_at: DateTime<Utc>,
    /// The live one is to be good until then, too.
    pub extend: bool,
    /// Agents the user may have.
    pub most: u32,
}

/// What became of a wish for a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TokenGrant {
    /// The token to sign.
    Granted {
        /// The row as it is now.
        row: Box<AgentRow>,
        /// A token that was good before is not any more.
        revoked: bool,
    },
    /// The agent belongs to another workspace of the user.
    Elsewhere,
    /// The user has as many agents as one may.
    TooMany,
}

impl Store {
    /// Every agent that was not deleted.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn agents(&self) -> Result<Vec<AgentRow>, StoreError> {
        let sql = format!(
            "SELECT {COLUMNS} FROM agents WHERE deleted_ms IS NULL ORDER BY user_id, agent_id LIMIT $1"
        );
        let rows = sqlx::query(sqlx::AssertSqlSafe(sql))
            .bind(MAX_LOADED)
            .fetch_all(&self.db.browse)
            .await?;
        rows.iter().map(read).collect()
    }

    /// One agent, also a deleted one.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn agent(&self, user: &UserId, agent: &str) -> Result<Option<AgentRow>, StoreError> {
        let sql = format!("SELECT {COLUMNS} FROM agents WHERE user_id = $1 AND agent_id = $2");
        let row = sqlx::query(sqlx::AssertSqlSafe(sql))
            .bind(user.as_str())
            .bind(agent)
            .fetch_optional(&self.db.read)
            .await?;
        row.as_ref().map(read).transpose()
    }

    /// Gives the live token of an agent, or makes the next one: when there is none, when it expired, when the agent
    /// was deleted, or when it is to be reset. In one transaction, so that of two who ask at once none is left with
    /// a token the other revoked.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn grant_agent_token(&self, wish: &TokenWish) -> Result<TokenGrant, StoreError> {
        let mut lent = self.db.write.lend().await?;
        let (deadline, connection) = lent.parts()?;
        let granted = within(deadline, async {
            let mut tx = connection.begin().await?;
            let granted = grant(&mut tx, wish).await?;
            tx.commit().await?;
            Ok(granted)
        })
        .await;
        lent.settle(granted)?
    }

    /// Notes a connection and answers its epoch; `None` when the token's version is not the live one any more.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn agent_connects(
        &self,
        (user, agent): (&UserId, &str),
        token_version: u64,
        meta: &str,
    ) -> Result<Option<u64>, StoreError> {
        let sql = "UPDATE agents SET epoch = epoch + 1, last_seen_ms = $4, meta = $5 WHERE user_id = $1 \
                   AND agent_id = $2 AND token_version = $3 AND deleted_ms IS NULL RETURNING epoch";
        let row = sqlx::query(sql)
            .bind(user.as_str())
            .bind(agent)
            .bind(number(token_version))
            .bind(ms(Utc::now()))
            .bind(meta)
            .fetch_optional(&self.db.write)
            .await?;
        let epoch = row.map(|row| row.try_get::<i64, _>(0)).transpose()?;
        Ok(epoch.map(i64::unsigned_abs))
    }

    /// Notes that an agent was there until now.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn agent_seen(&self, user: &UserId, agent: &str) -> Result<(), StoreError> {
        sqlx::query("UPDATE agents SET last_seen_ms = $3 WHERE user_id = $1 AND agent_id = $2")
            .bind(user.as_str())
            .bind(agent)
            .bind(ms(Utc::now()))
            .execute(&self.db.write)
            .await?;
        Ok(())
    }

    /// Keeps an agent's catalogue in place of the one before.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn keep_agent_catalogue(
        &self,
        user: &UserId,
        agent: &str,
        catalogue: &str,
    ) -> Result<(), StoreError> {
        sqlx::query(
            "UPDATE agents SET catalogue = $3, catalogue_ms = $4 WHERE user_id = $1 AND agent_id = $2 \
             AND deleted_ms IS NULL",
        )
        .bind(user.as_str())
        .bind(agent)
        .bind(catalogue)
        .bind(ms(Utc::now()))
        .execute(&self.db.write)
        .await?;
        Ok(())
    }

    /// Deletes an agent; its token's version is remembered. False when there is none.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn delete_agent(&self, user: &UserId, agent: &str) -> Result<bool, StoreError> {
        let mut lent = self.db.write.lend().await?;
        let (deadline, connection) = lent.parts()?;
        let deleted = within(deadline, async {
            let mut tx = connection.begin().await?;
            let gone = sqlx::query(
                "UPDATE agents SET deleted_ms = $3, catalogue = NULL, catalogue_ms = NULL, meta = NULL, label = NULL \
                 WHERE user_id = $1 AND agent_id = $2 AND deleted_ms IS NULL",
            )
            .bind(user.as_str())
            .bind(agent)
            .bind(ms(Utc::now()))
            .execute(&mut *tx)
            .await?;
            sqlx::query("DELETE FROM agent_defaults WHERE user_id = $1 AND agent_id = $2")
                .bind(user.as_str())
                .bind(agent)
                .execute(&mut *tx)
                .await?;
            tx.commit().await?;
            Ok(gone.rows_affected() > 0)
        })
        .await;
        Ok(lent.settle(deleted)?)
    }

    /// Says which agent a lane means; `None` takes that back. False when the user names too many lanes.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn set_default_agent(
        &self,
        (workspace, user): (&WorkspaceId, &UserId),
        lane: &Lane,
        agent: Option<&str>,
    ) -> Result<bool, StoreError> {
        let Some(agent) = agent else {
            sqlx::query(
                "DELETE FROM agent_defaults WHERE workspace = $1 AND user_id = $2 AND lane = $3",
            )
            .bind(workspace.as_str())
            .bind(user.as_str())
            .bind(lane.as_str())
            .execute(&self.db.write)
            .await?;
            return Ok(true);
        };
        let set = sqlx::query(
            "INSERT INTO agent_defaults (workspace, user_id, lane, agent_id) SELECT $1, $2, $3, $4 \
             WHERE (SELECT COUNT(*) FROM agent_defaults WHERE workspace = $1 AND user_id = $2 AND lane <> $3) < $5 \
             ON CONFLICT (workspace, user_id, lane) DO UPDATE SET agent_id = excluded.agent_id",
        )
        .bind(workspace.as_str())
        .bind(user.as_str())
        .bind(lane.as_str())
        .bind(agent)
        .bind(MAX_DEFAULTS)
        .execute(&self.db.write)
        .await?;
        Ok(set.rows_affected() > 0)
    }

    /// Which agent each lane means, for every user.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn default_agents(
        &self,
    ) -> Result<BTreeMap<(WorkspaceId, UserId, Lane), String>, StoreError> {
        let sql = "SELECT workspace, user_id, lane, agent_id FROM agent_defaults ORDER BY workspace, user_id, lane";
        let rows = sqlx::query(sql).fetch_all(&self.db.browse).await?;
        let read = |row: &AnyRow| {
            let text = |at: usize| row.try_get::<String, _>(at);
            let key = (
                WorkspaceId::new(&text(0)?).map_err(|_| corrupt())?,
                UserId::new(&text(1)?).map_err(|_| corrupt())?,
                Lane::new(&text(2)?).map_err(|_| corrupt())?,
            );
            Ok((key, text(3)?))
        };
        rows.iter().map(read).collect()
    }
}

async fn grant(
    tx: &mut Transaction<'_, Any>,
    wish: &TokenWish,
) -> Result<Result<TokenGrant, StoreError>, sqlx::Error> {
    let sql = format!("SELECT {COLUMNS} FROM agents WHERE user_id = $1 AND agent_id = $2");
    let row = sqlx::query(sqlx::AssertSqlSafe(sql))
        .bind(wish.user.as_str())
        .bind(&wish.agent_id)
        .fetch_optional(&mut **tx)
        .await?;
    let held = match row.as_ref().map(read).transpose() {
        Ok(held) => held,
        Err(error) => return Ok(Err(error)),
    };
    let now = Utc::now();
    let living = held.as_ref().filter(|row| row.deleted_at.is_none());
    if living.is_some_and(|row| row.workspace != wish.workspace) {
        return Ok(Ok(TokenGrant::Elsewhere));
    }
    if living.is_none() && !room(tx, wish).await? {
        return Ok(Ok(TokenGrant::TooMany));
    }
    let good = living.filter(|row| row.token_expires_at > now && !wish.reset);
    let row = if let Some(good) = good {
        AgentRow {
            label: wish.label.clone().or_else(|| good.label.clone()),
            token_expires_at: if wish.extend {
                good.token_expires_at.max(wish.expires_at)
            } else {
                good.token_expires_at
            },
            ..good.clone()
        }
    } else {
        next_token(held.as_ref(), wish, now)
    };
    write(tx, &row).await?;
    Ok(Ok(TokenGrant::Granted {
        revoked: good.is_none() && living.is_some(),
        row: Box::new(row),
    }))
}

/// Whether the user may have one more. Those deleted count as long as a token of theirs could still be shown.
async fn room(tx: &mut Transaction<'_, Any>, wish: &TokenWish) -> Result<bool, sqlx::Error> {
    sqlx::query("DELETE FROM agents WHERE user_id = $1 AND deleted_ms IS NOT NULL AND token_expires_ms < $2")
        .bind(wish.user.as_str())
        .bind(ms(Utc::now()))
        .execute(&mut **tx)
        .await?;
    let row = sqlx::query(
        "SELECT COUNT(*), COALESCE(SUM(CASE WHEN deleted_ms IS NULL THEN 1 ELSE 0 END), 0) FROM agents \
         WHERE user_id = $1",
    )
    .bind(wish.user.as_str())
    .fetch_one(&mut **tx)
    .await?;
    let (all, living): (i64, i64) = (row.try_get(0)?, row.try_get(1)?);
    Ok(living < i64::from(wish.most) && all < i64::from(wish.most) * DELETED_PER_LIVING)
}

/// Deleted agents remembered for each that may live.
const DELETED_PER_LIVING: i64 = 16;

fn next_token(held: Option<&AgentRow>, wish: &TokenWish, now: DateTime<Utc>) -> AgentRow {
    let living = held.filter(|row| row.deleted_at.is_none());
    AgentRow {
        user: wish.user.clone(),
        agent_id: wish.agent_id.clone(),
        workspace: wish.workspace.clone(),
        label: wish
            .label
            .clone()
            .or_else(|| living.and_then(|row| row.label.clone())),
        token_version: held.map_or(0, |row| row.token_version) + 1,
        token_issued_at: now,
        token_expires_at: wish.expires_at,
        created_at: living.map_or(now, |row| row.created_at),
        deleted_at: None,
        epoch: held.map_or(0, |row| row.epoch),
        last_seen_at: living.and_then(|row| row.last_seen_at),
        meta: living.and_then(|row| row.meta.clone()),
        catalogue: living.and_then(|row| row.catalogue.clone()),
        catalogue_at: living.and_then(|row| row.catalogue_at),
    }
}

async fn write(tx: &mut Transaction<'_, Any>, row: &AgentRow) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO agents (user_id, agent_id, workspace, label, token_version, token_issued_ms, token_expires_ms, \
         created_ms) VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT (user_id, agent_id) DO UPDATE SET \
         workspace = excluded.workspace, label = excluded.label, token_version = excluded.token_version, \
         token_issued_ms = excluded.token_issued_ms, token_expires_ms = excluded.token_expires_ms, \
         created_ms = excluded.created_ms, deleted_ms = NULL",
    )
    .bind(row.user.as_str())
    .bind(&row.agent_id)
    .bind(row.workspace.as_str())
    .bind(&row.label)
    .bind(number(row.token_version))
    .bind(ms(row.token_issued_at))
    .bind(ms(row.token_expires_at))
    .bind(ms(row.created_at))
    .execute(&mut **tx)
    .await?;
    Ok(())
}

fn number(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

fn corrupt() -> StoreError {
    StoreError::Corrupt("agents".to_owned())
}

fn read(row: &AnyRow) -> Result<AgentRow, StoreError> {
    let text = |column: &str| row.try_get::<String, _>(column);
    let maybe = |column: &str| row.try_get::<Option<String>, _>(column);
    let count = |column: &str| row.try_get::<i64, _>(column).map(i64::unsigned_abs);
    let time = |column: &str| row.try_get::<i64, _>(column).map(from_ms);
    let some_time = |column: &str| {
        row.try_get::<Option<i64>, _>(column)
            .map(|at| at.map(from_ms))
    };
    Ok(AgentRow {
        user: UserId::new(&text("user_id")?).map_err(|_| corrupt())?,
        agent_id: text("agent_id")?,
        workspace: WorkspaceId::new(&text("workspace")?).map_err(|_| corrupt())?,
        label: maybe("label")?,
        token_version: count("token_version")?,
        token_issued_at: time("token_issued_ms")?,
        token_expires_at: time("token_expires_ms")?,
        created_at: time("created_ms")?,
        deleted_at: some_time("deleted_ms")?,
        epoch: count("epoch")?,
        last_seen_at: some_time("last_seen_ms")?,
        meta: maybe("meta")?,
        catalogue: maybe("catalogue")?,
        catalogue_at: some_time("catalogue_ms")?,
    })
}
