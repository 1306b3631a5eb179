//! Events on disk: runs of one workspace's events in one row each, and how far ids were given out.

use sessions::WorkspaceId;
use sqlx::{Any, Row as _, Transaction};

use super::StoreError;
use super::reach::Reach;

/// Runs read at once.
const READ_CHUNKS: i64 = 64;
/// Runs removed in one statement.
const PRUNE_CHUNK: i64 = 500;

/// A run of events written together.
#[derive(Debug, Clone)]
pub(crate) struct Run {
    pub(crate) workspace: WorkspaceId,
    pub(crate) first_id: i64,
    pub(crate) last_id: i64,
    pub(crate) first_ms: i64,
    pub(crate) last_ms: i64,
    /// The newest event before this run's end that goes to no disk; the note of it is committed with the run.
    pub(crate) gone: i64,
    /// One JSON text a line.
    pub(crate) body: String,
}

/// How far a workspace's ids went.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Marks {
    pub(crate) reserved: i64,
    pub(crate) gone: i64,
    /// The last event on disk.
    pub(crate) written: i64,
}

/// Reserves ids up to `reserved`; they are given out only after this is committed. What was noted as gone
/// stays gone.
pub(super) async fn mark(
    pool: &Reach,
    workspace: &WorkspaceId,
    marks: Marks,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO event_marks (workspace, reserved, gone) VALUES ($1, $2, $3) \
         ON CONFLICT (workspace) DO UPDATE SET reserved = excluded.reserved, \
         gone = CASE WHEN excluded.gone > event_marks.gone THEN excluded.gone ELSE event_marks.gone END",
    )
    .bind(workspace.as_str())
    .bind(marks.reserved)
    .bind(marks.gone)
    .execute(pool)
    .await?;
    Ok(())
}

/// Notes that a workspace's events up to an id are not all kept.
pub(super) async fn note_gone(
    tx: &mut Transaction<'_, Any>,
    workspace: &WorkspaceId,
    gone: i64,
) -> Result<(), sqlx::Error> {
    sqlx::query("UPDATE event_marks SET gone = $2 WHERE workspace = $1 AND gone < $2")
        .bind(workspace.as_str())
        .bind(gone)
        .execute(&mut **tx)
        .await?;
    Ok(())
}

pub(super) async fn marks(pool: &Reach, workspace: &WorkspaceId) -> Result<Marks, StoreError> {
    let row = sqlx::query("SELECT reserved, gone FROM event_marks WHERE workspace = $1")
        .bind(workspace.as_str())
        .fetch_optional(pool)
        .await?;
    let last: Option<i64> = sqlx::query("SELECT MAX(last_id) FROM events WHERE workspace = $1")
        .bind(workspace.as_str())
        .fetch_one(pool)
        .await?
        .try_get(0)?;
    let number = |name: &str| {
        row.as_ref()
            .map_or(Ok(0), |row| row.try_get::<i64, _>(name))
    };
    Ok(Marks {
        reserved: number("reserved")?,
        gone: number("gone")?,
        written: last.unwrap_or_default(),
    })
}

/// The bodies of runs that end after an id, oldest first, some at a time.
pub(super) async fn after(
    pool: &Reach,
    workspace: &WorkspaceId,
    id: i64,
) -> Result<Vec<String>, StoreError> {
    let sql =
        "SELECT body FROM events WHERE workspace = $1 AND last_id > $2 ORDER BY last_id LIMIT $3";
    let rows = sqlx::query(sql)
        .bind(workspace.as_str())
        .bind(id)
        .bind(READ_CHUNKS)
        .fetch_all(pool)
        .await?;
    rows.iter().map(|row| Ok(row.try_get(0)?)).collect()
}

/// The first event of the earliest run that reaches to a time.
pub(super) async fn first_since(
    pool: &Reach,
    workspace: &WorkspaceId,
    since_ms: i64,
) -> Result<Option<i64>, StoreError> {
    let sql = "SELECT first_id FROM events WHERE workspace = $1 AND last_ms >= $2 ORDER BY last_ms LIMIT 1";
    let row = sqlx::query(sql)
        .bind(workspace.as_str())
        .bind(since_ms)
        .fetch_optional(pool)
        .await?;
    Ok(row.as_ref().map(|row| row.try_get(0)).transpose()?)
}

/// The bodies of runs that touch a span of time, oldest first.
pub(super) async fn between(
    pool: &Reach,
    workspace: &WorkspaceId,
    span_ms: (i64, i64),
) -> Result<Vec<String>, StoreError> {
    let sql = "SELECT body FROM events WHERE workspace = $1 AND last_ms >= $2 AND first_ms <= $3 \
               ORDER BY last_id LIMIT $4";
    let rows = sqlx::query(sql)
        .bind(workspace.as_str())
        .bind(span_ms.0)
        .bind(span_ms.1)
        .bind(READ_CHUNKS * 16)
        .fetch_all(pool)
        .await?;
    rows.iter().map(|row| Ok(row.try_get(0)?)).collect()
}

/// Removes some runs that ended before a time, noting what is gone. True while there is more.
pub(super) async fn prune(pool: &Reach, before_ms: i64) -> Result<bool, StoreError> {
    sqlx::query(
        "UPDATE event_marks SET gone = (SELECT MAX(e.last_id) FROM events e \
           WHERE e.workspace = event_marks.workspace AND e.last_ms < $1) \
         WHERE gone < (SELECT MAX(e.last_id) FROM events e \
           WHERE e.workspace = event_marks.workspace AND e.last_ms < $1)",
    )
    .bind(before_ms)
    .execute(pool)
    .await?;
    // SQLite names no row of a two-column key but by its own; time bounds the chunk instead.
    let sql = "SELECT last_ms FROM events WHERE last_ms < $1 ORDER BY last_ms LIMIT 1 OFFSET $2";
    let cut = sqlx::query(sql)
        .bind(before_ms)
        .bind(PRUNE_CHUNK)
        .fetch_optional(pool)
        .await?;
    let until: i64 = cut.as_ref().map_or(Ok(before_ms), |row| row.try_get(0))?;
    sqlx::query("DELETE FROM events WHERE last_ms < $1")
        .bind(until.max(1))
        .execute(pool)
        .await?;
    Ok(cut.is_some() && until < before_ms)
}
