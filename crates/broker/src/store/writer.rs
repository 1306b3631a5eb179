//! One task writes what calls and events need written: many requests, one transaction.
//!
//! A single writer means no lock is ever fought over, and a busy moment costs one commit instead of many.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, mpsc, oneshot};
use tokio::task::JoinHandle;

use super::StoreError;
use super::calls;
use super::db::Db;
use super::event_log::{self, Chunk};
use crate::ledger::{Intent, Settled};

/// Requests somebody waits for. A full queue makes its callers wait, each until the store answers.
const JOBS: usize = 1024;
/// Requests taken into one transaction.
const BATCH: usize = 256;
/// Rows of finished read-only calls that may wait; while the store is away they gather here, and past it
/// nothing more is accepted (rulings.md § Audit).
pub(crate) const MAX_RECORDS: usize = 20_000;
/// Runs of events that may wait; past it the oldest are lost and counted.
const MAX_CHUNKS: usize = 4096;
/// How long finished rows gather before they are written: nobody waits for them.
const GATHER: Duration = Duration::from_millis(20);
/// Pause after a failed write of gathered rows.
const RETRY: Duration = Duration::from_millis(500);

/// A write somebody waits for.
#[derive(Debug)]
pub(crate) enum Job {
    /// Commit an intent, and its key.
    Begin(Box<Intent>, oneshot::Sender<Result<bool, StoreError>>),
    /// Commit an end.
    Settle(Box<Settled>, oneshot::Sender<Result<bool, StoreError>>),
    /// Write everything gathered so far.
    Flush(oneshot::Sender<()>),
}

/// What waits without anybody waiting for it.
#[derive(Debug, Default)]
struct Gathered {
    records: VecDeque<(Intent, Settled)>,
    chunks: VecDeque<Chunk>,
}

/// The writer's queues.
#[derive(Debug)]
pub(crate) struct Writer {
    jobs: Mutex<Option<mpsc::Sender<Job>>>,
    gathered: Mutex<Gathered>,
    wake: Notify,
    lost: AtomicU64,
    pub(crate) key_retention_ms: AtomicI64,
    pub(crate) node: OnceLock<String>,
}

impl Writer {
    pub(crate) fn start(db: Db) -> (Arc<Self>, JoinHandle<()>) {
        let (jobs, queue) = mpsc::channel(JOBS);
        let writer = Arc::new(Self {
            jobs: Mutex::new(Some(jobs)),
            gathered: Mutex::default(),
            wake: Notify::new(),
            lost: AtomicU64::new(0),
            key_retention_ms: AtomicI64::new(24 * 3600 * 1000),
            node: OnceLock::new(),
        });
        let task = tokio::spawn(Arc::clone(&writer).run(db, queue));
        (writer, task)
    }

    fn gathered(&self) -> MutexGuard<'_, Gathered> {
        self.gathered.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn sender(&self) -> Option<mpsc::Sender<Job>> {
        self.jobs
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    pub(crate) fn node(&self) -> &str {
        self.node.get().map_or("local", String::as_str)
    }

    /// Hands over a write and waits for its commit.
    pub(crate) async fn ask(
        &self,
        job: impl FnOnce(oneshot::Sender<Result<bool, StoreError>>) -> Job,
    ) -> Result<bool, StoreError> {
        let (answer, answered) = oneshot::channel();
        let closed = || StoreError::Unavailable(sqlx::Error::PoolClosed);
        let jobs = self.sender().ok_or_else(closed)?;
        jobs.send(job(answer)).await.map_err(|_| closed())?;
        answered.await.unwrap_or_else(|_| Err(closed()))
    }

    pub(crate) async fn flush(&self) {
        let (answer, answered) = oneshot::channel();
        if let Some(jobs) = self.sender()
            && jobs.send(Job::Flush(answer)).await.is_ok()
        {
            let _ = answered.await;
        }
    }

    /// Gathers a finished row. Past the bound it is lost and counted; [`Writer::is_full`] warns before.
    pub(crate) fn record(&self, intent: Intent, settled: Settled) {
        let mut gathered = self.gathered();
        if gathered.records.len() >= MAX_RECORDS {
            self.lost.fetch_add(1, Ordering::Relaxed);
            return;
        }
        gathered.records.push_back((intent, settled));
        let first = gathered.records.len() == 1;
        drop(gathered);
        if first {
            self.wake.notify_one();
        }
    }

    pub(crate) fn is_full(&self) -> bool {
        self.gathered().records.len() >= MAX_RECORDS
    }

    /// Gathers a run of events.
    pub(crate) fn keep_events(&self, chunk: Chunk) {
        let mut gathered = self.gathered();
        if gathered.chunks.len() >= MAX_CHUNKS {
            gathered.chunks.pop_front();
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
        gathered.chunks.push_back(chunk);
        drop(gathered);
        self.wake.notify_one();
    }

    pub(crate) fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    /// No more jobs; the task writes what is left and ends.
    pub(crate) fn close(&self) {
        self.jobs
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
    }

    async fn run(self: Arc<Self>, db: Db, mut queue: mpsc::Receiver<Job>) {
        let mut batch = Vec::with_capacity(BATCH);
        loop {
            tokio::select! {
                biased;
                count = queue.recv_many(&mut batch, BATCH) => if count == 0 { break },
                () = self.wake.notified() => tokio::time::sleep(GATHER).await,
            }
            self.write(&db, &mut batch).await;
        }
        // The last chance for what is gathered.
        self.write_gathered(&db).await;
    }

    async fn write(&self, db: &Db, batch: &mut Vec<Job>) {
        let mut flushes = Vec::new();
        let mut writes = Vec::with_capacity(batch.len());
        for job in batch.drain(..) {
            match job {
                Job::Flush(answer) => flushes.push(answer),
                write => writes.push(write),
            }
        }
        if !writes.is_empty() {
            let retention = self.key_retention_ms.load(Ordering::Relaxed);
            match calls::commit(&db.write, &writes, (self.node(), retention)).await {
                Ok(outcomes) => {
                    for (job, outcome) in writes.into_iter().zip(outcomes) {
                        job.answer(Ok(outcome));
                    }
                }
                Err(error) => {
                    let error = Arc::new(error);
                    for job in writes {
                        job.answer(Err(StoreError::Shared(Arc::clone(&error))));
                    }
                }
            }
        }
        if !self.write_gathered(db).await {
            tokio::time::sleep(RETRY).await;
            self.wake.notify_one();
        }
        for answer in flushes {
            let _ = answer.send(());
        }
    }

    /// Writes what is gathered; false when the store refused and the rows wait again.
    async fn write_gathered(&self, db: &Db) -> bool {
        loop {
            let (records, chunks) = {
                let mut gathered = self.gathered();
                let count = gathered.records.len().min(BATCH);
                let records: Vec<_> = gathered.records.drain(..count).collect();
                (records, gathered.chunks.drain(..).collect::<Vec<_>>())
            };
            if records.is_empty() && chunks.is_empty() {
                return true;
            }
            let written = async {
                let mut tx = db.write.begin().await?;
                calls::insert_finished(&mut tx, &records, self.node()).await?;
                event_log::insert(&mut tx, &chunks).await?;
                tx.commit().await
            }
            .await;
            if let Err(error) = written {
                tracing::warn!(error = %error, rows = records.len(), "store.record failed; the rows wait");
                let mut gathered = self.gathered();
                records
                    .into_iter()
                    .rev()
                    .for_each(|record| gathered.records.push_front(record));
                chunks
                    .into_iter()
                    .rev()
                    .for_each(|chunk| gathered.chunks.push_front(chunk));
                return false;
            }
        }
    }
}

impl Job {
    fn answer(self, outcome: Result<bool, StoreError>) {
        match self {
            // The caller may be gone; the row stands all the same.
            Self::Begin(_, answer) | Self::Settle(_, answer) => drop(answer.send(outcome)),
            Self::Flush(answer) => drop(answer.send(())),
        }
    }
}
