//! The one database: SQLite or PostgreSQL behind one SQL text (`migrations/`). One file for each group of
//! tables; calls and events go through the one writer.

mod actions;
mod agent_calls;
pub mod agents;
pub mod approvals;
mod audit;
mod bulk;
mod calls;
mod catalogs;
mod db;
mod epochs;
pub(crate) mod event_log;
mod gathered;
mod heads;
mod insert;
mod intents;
mod keys;
mod logins;
mod notes;
mod people;
mod pins;
mod reach;
mod sealed;
mod servers;
pub mod signing;
mod silence;
mod writer;

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use chrono::{DateTime, TimeZone as _, Utc};
use sessions::WorkspaceId;
use sqlx::Row as _;
use sqlx::any::AnyRow;
use tokio::sync::OnceCell;
use tokio::task::JoinHandle;
use tokio::time::Instant;

pub use actions::Action;
pub use agents::{AgentRow, TokenGrant, TokenWish};
pub use audit::EntryFilter;
pub use catalogs::KeptCatalog;
pub use keys::KeyRow;
pub use logins::LoginRow;
pub use people::UserRow;
pub use pins::{PinPlace, PinRow};
pub use sealed::SealedRow;

use crate::audit::Signer;
use crate::call::CallId;
use crate::call_state::CallState;
use crate::ledger::{Intent, Row, RowFilter, Settled, Written};
use db::Db;
use event_log::{Marks, Run};
use gathered::Record;
use writer::{Job, Writer};

/// The counter of rows and runs of events that were lost.
pub(crate) const LOST_ROWS: &str = "paperbot_store_rows_lost_total";

/// The store failed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// It cannot be reached, is locked, full or read-only.
    #[error("the store is unavailable")]
    Unavailable(#[source] sqlx::Error),
    /// The same, told to everybody whose write was in one transaction.
    #[error("the store is unavailable")]
    Shared(#[source] Arc<sqlx::Error>),
    /// The URL is neither `sqlite://…` nor `postgres://…`.
    #[error("the store URL must start with sqlite:// or postgres://")]
    Url,
    /// A migration failed.
    #[error("the store's schema could not be brought up to date")]
    Migrate(#[source] sqlx::migrate::MigrateError),
    /// A row holds what no version of this program wrote.
    #[error("the store holds an unreadable row: {0}")]
    Corrupt(String),
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        Self::Unavailable(error)
    }
}

/// Unix milliseconds, as times stand in the store.
fn ms(time: DateTime<Utc>) -> i64 {
    time.timestamp_millis()
}

fn from_ms(ms: i64) -> DateTime<Utc> {
    Utc.timestamp_millis_opt(ms).single().unwrap_or_default()
}

/// How long a note is kept that nobody writes anew: longer than any client's session is idle.
const NOTES_KEPT: chrono::TimeDelta = chrono::TimeDelta::days(30);
/// Open calls ended together at a start.
const SWEPT_AT_ONCE: usize = 256;
/// Rows given out of one list; a bridge with more users than this is asked by user.
const MAX_LISTED: i64 = 1000;

/// A column of JSON.
fn json<T: serde::de::DeserializeOwned>(row: &AnyRow, column: &str) -> Result<T, StoreError> {
    serde_json::from_str(&row.try_get::<String, _>(column)?)
        .map_err(|_| StoreError::Corrupt(column.to_owned()))
}

/// The one database. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Store {
    db: Db,
    writer: Arc<Writer>,
    /// What signs places of the audit chains; read at the first use.
    signer: Arc<OnceCell<Signer>>,
    task: Arc<Mutex<Option<JoinHandle<()>>>>,
}

impl Store {
    /// Opens `sqlite://PATH` or `postgres://…`, brings the schema up to date and starts the writer.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn open(url: &str) -> Result<Self, StoreError> {
        let db = Db::open(url).await?;
        let (writer, task) = Writer::start(db.clone());
        Ok(Self {
            db,
            writer,
            signer: Arc::default(),
            task: Arc::new(Mutex::new(Some(task))),
        })
    }

    /// Whether it answers.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn ping(&self) -> Result<(), StoreError> {
        sqlx::query("SELECT 1").execute(&self.db.read).await?;
        Ok(())
    }

    /// Whether the last write failed for a reason that lies in the store.
    pub(crate) fn is_away(&self) -> bool {
        self.writer.away.load(Ordering::Relaxed)
    }

    /// Tries a write that changes nothing, and notes how it went.
    pub(crate) async fn try_write(&self) -> Result<(), StoreError> {
        let sql = "UPDATE epochs SET value = value WHERE name = 'principals'";
        let tried = sqlx::query(sql).execute(&self.db.write).await;
        self.writer.away.store(tried.is_err(), Ordering::Relaxed);
        tried?;
        Ok(())
    }

    /// How long an idempotency key is remembered from now on.
    pub fn set_key_retention(&self, retention: Duration) {
        let retention_ms = i64::try_from(retention.as_millis()).unwrap_or(i64::MAX);
        self.writer
            .key_retention_ms
            .store(retention_ms, Ordering::Relaxed);
    }

    /// Commits an intent and its key; false when the key is taken, and nothing was written.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn begin_call(&self, intent: &Intent) -> Result<bool, StoreError> {
        self.writer
            .ask(|answer| Job::Begin(Arc::new(intent.clone()), CallState::Dispatched, answer))
            .await
    }

    /// Commits a call that waits to be approved, and its key; false when the key is taken, and nothing was written.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn hold_call(&self, intent: &Intent) -> Result<bool, StoreError> {
        let state = CallState::AwaitingApproval;
        self.writer
            .ask(|answer| Job::Begin(Arc::new(intent.clone()), state, answer))
            .await
    }

    /// Makes the row of a held call its intent; false when the call waits for no approval any more. `deadline`:
    /// when an agent gives it up.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn release_call(
        &self,
        (workspace, id): (&WorkspaceId, CallId),
        deadline: Option<DateTime<Utc>>,
    ) -> Result<bool, StoreError> {
        calls::release(&self.db.write, (workspace, id), deadline).await
    }

    /// Commits the end of a call, as the next entry of the audit chain; false when it had ended before.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn settle_call(
        &self,
        intent: impl Into<Arc<Intent>>,
        settled: &Settled,
    ) -> Result<bool, StoreError> {
        let intent = intent.into();
        self.writer
            .ask(|answer| Job::Settle(intent, Box::new(settled.clone()), answer))
            .await
    }

    /// Writes a whole row behind its caller's back, soon. Never waits.
    pub fn record_call(&self, intent: impl Into<Arc<Intent>>, settled: Settled) {
        self.record(intent.into(), settled, None);
    }

    /// The same; `written` hears once it is committed.
    pub(crate) fn record(&self, intent: Arc<Intent>, settled: Settled, written: Option<Written>) {
        self.writer.gathered.record(Record {
            intent,
            settled,
            written,
        });
    }

    /// Waits until there is room for the rows of new calls; false when there is none even `until` then: the
    /// store is away, or does not keep up.
    pub(crate) async fn room(&self, until: Instant) -> bool {
        self.writer.gathered.room(until).await
    }

    /// So many rows wait to be written that no more should be made.
    #[must_use]
    pub fn is_backlogged(&self) -> bool {
        self.writer.gathered.is_crowded()
    }

    /// Rows and runs of events that were lost: queues were full, or the database refused them.
    #[must_use]
    pub fn lost_rows(&self) -> u64 {
        self.writer.gathered.lost()
    }

    /// The newest event of a workspace that was lost on its way to disk.
    pub(crate) fn lost_event(&self, workspace: &WorkspaceId) -> i64 {
        self.writer.gathered.lost_event(workspace)
    }

    /// Waits until everything recorded before is written, or the store refused it.
    pub async fn flush(&self) {
        self.writer.flush().await;
    }

    /// One row.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn get_call(
        &self,
        workspace: &WorkspaceId,
        id: CallId,
    ) -> Result<Option<Row>, StoreError> {
        calls::get(&self.db.read, workspace, id).await
    }

    /// The row that holds an intent's key, while it is remembered.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn find_by_key(&self, intent: &Intent) -> Result<Option<Row>, StoreError> {
        calls::find_by_key(&self.db.read, intent).await
    }

    /// Rows, newest first.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn list_calls(&self, filter: &RowFilter) -> Result<Vec<Row>, StoreError> {
        calls::list(&self.db.browse, filter).await
    }

    /// When the calls of a trace began and ended, in unix milliseconds; running ones end late.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(crate) async fn trace_span(
        &self,
        workspace: &WorkspaceId,
        trace_id: &str,
    ) -> Result<Option<(i64, i64)>, StoreError> {
        calls::trace_span(&self.db.browse, workspace, trace_id).await
    }

    /// Ends what an earlier process of this node left open as `outcome_unknown`, and names this node.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn sweep_calls(&self, node: &str) -> Result<u64, StoreError> {
        let node = self.writer.node.get_or_init(|| node.to_owned());
        approvals::sweep(&self.db.write, node).await?;
        let mut swept = 0;
        loop {
            let open = calls::left_open(&self.db.browse, node, SWEPT_AT_ONCE).await?;
            let ends = open.into_iter().map(|row| {
                // Nothing of a held call was sent. Of any other nobody knows how it went, and nothing is run again.
                let settled = if row.state == CallState::AwaitingApproval {
                    Settled::unsent(&row.intent, Utc::now())
                } else {
                    Settled::unknown(&row.intent, Utc::now())
                };
                async move { self.settle_call(row.intent, &settled).await }
            });
            let mut took = 0;
            for end in futures_util::future::join_all(ends).await {
                took += u64::from(end?);
            }
            if took == 0 {
                return Ok(swept);
            }
            swept += took;
        }
    }

    /// Removes some of what is older than `retention`. True while there is more.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn prune(&self, retention: Duration) -> Result<bool, StoreError> {
        let before =
            Utc::now() - chrono::TimeDelta::from_std(retention).unwrap_or(chrono::TimeDelta::MAX);
        let chains = self.prune_chains(before).await?;
        let calls = calls::prune(&self.db.write, before).await?;
        let events = event_log::prune(&self.db.write, ms(before)).await?;
        let approvals = approvals::prune(&self.db.write, before).await?;
        notes::prune(&self.db.write, Utc::now() - NOTES_KEPT).await?;
        logins::prune(&self.db.write, Utc::now()).await?;
        Ok(chains || calls || events || approvals)
    }

    pub(crate) fn keep_events(&self, run: Run) {
        self.writer.gathered.keep_run(run);
    }

    pub(crate) async fn event_marks(&self, workspace: &WorkspaceId) -> Result<Marks, StoreError> {
        event_log::marks(&self.db.read, workspace).await
    }

    pub(crate) async fn mark_events(
        &self,
        workspace: &WorkspaceId,
        marks: Marks,
    ) -> Result<(), StoreError> {
        event_log::mark(&self.db.write, workspace, marks).await
    }

    pub(crate) async fn events_after(
        &self,
        workspace: &WorkspaceId,
        id: i64,
    ) -> Result<Vec<String>, StoreError> {
        event_log::after(&self.db.browse, workspace, id).await
    }

    pub(crate) async fn first_event_since(
        &self,
        workspace: &WorkspaceId,
        since_ms: i64,
    ) -> Result<Option<i64>, StoreError> {
        event_log::first_since(&self.db.browse, workspace, since_ms).await
    }

    pub(crate) async fn events_between(
        &self,
        workspace: &WorkspaceId,
        span_ms: (i64, i64),
    ) -> Result<Vec<String>, StoreError> {
        event_log::between(&self.db.browse, workspace, span_ms).await
    }

    /// Writes what is left and closes. Nothing can be written afterwards.
    pub async fn shutdown(&self) {
        self.writer.close();
        let task = self
            .task
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(task) = task {
            let _ = task.await;
        }
        self.db.close().await;
    }
}
