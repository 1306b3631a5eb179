//! One task writes what calls and events need written: many requests, one transaction.
//!
//! A single writer means no lock is ever fought over, and a busy moment costs one commit instead of many.

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use sqlx::{Any, Connection as _, Transaction};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};

use super::actions::Action;
use super::db::Db;
use super::gathered::{Gathered, Item, PART_RECORDS, Part, Record};
use super::heads::{Draft, Heads};
use super::insert::{Inserts, Placed, Writes};
use super::intents::{self, Own};
use super::reach::within;
use super::{StoreError, agent_calls, event_log};
use crate::audit::{End, Entry};
use crate::call_state::CallState;
use crate::ledger::{Intent, Settled};

/// Requests somebody waits for. A full queue makes its callers wait, each until the store answers.
const JOBS: usize = 1024;
/// Requests taken into one transaction.
const BATCH: usize = 256;
/// How long finished rows gather before they are written: nobody waits for them, and a commit costs as much as some
/// twenty rows. A crash loses as much of what was only read.
const GATHER: Duration = Duration::from_millis(50);
/// Pause after a failed write of gathered rows.
const RETRY: Duration = Duration::from_millis(500);

/// A write somebody waits for.
#[derive(Debug)]
pub(super) enum Job {
    /// Commit an intent, or a call that is held, and its key.
    Begin(
        Arc<Intent>,
        CallState,
        oneshot::Sender<Result<bool, StoreError>>,
    ),
    /// Commit an end.
    Settle(
        Arc<Intent>,
        Box<Settled>,
        oneshot::Sender<Result<bool, StoreError>>,
    ),
    /// Commit an administrative act.
    Act(Box<Action>, oneshot::Sender<Result<bool, StoreError>>),
    /// Write everything gathered so far.
    Flush(oneshot::Sender<()>),
}

/// The way to the writing task.
#[derive(Debug)]
pub(super) struct Writer {
    jobs: Mutex<Option<mpsc::Sender<Job>>>,
    pub(super) gathered: Gathered,
    pub(super) key_retention_ms: AtomicI64,
    pub(super) node: OnceLock<String>,
    pub(super) heads: Heads,
    /// The last write failed for a reason that is not in the rows.
    pub(super) away: AtomicBool,
}

impl Writer {
    pub(super) fn start(db: Db) -> (Arc<Self>, JoinHandle<()>) {
        let (jobs, queue) = mpsc::channel(JOBS);
        let writer = Arc::new(Self {
            jobs: Mutex::new(Some(jobs)),
            gathered: Gathered::default(),
            key_retention_ms: AtomicI64::new(24 * 3600 * 1000),
            node: OnceLock::new(),
            heads: Heads::default(),
            away: AtomicBool::new(false),
        });
        let task = Task {
            inserts: Inserts::new(db.kind),
            db,
            writer: Arc::clone(&writer),
            in_hand: Vec::new(),
        };
        (writer, tokio::spawn(task.run(queue)))
    }

    fn sender(&self) -> Option<mpsc::Sender<Job>> {
        self.jobs
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    pub(super) fn own(&self) -> Own<'_> {
        Own {
            node: self.node.get().map_or("local", String::as_str),
            key_retention_ms: self.key_retention_ms.load(Ordering::Relaxed),
        }
    }

    /// Hands over a write and waits for its commit.
    pub(super) async fn ask(
        &self,
        job: impl FnOnce(oneshot::Sender<Result<bool, StoreError>>) -> Job,
    ) -> Result<bool, StoreError> {
        let (answer, answered) = oneshot::channel();
        let closed = || StoreError::Unavailable(sqlx::Error::PoolClosed);
        let jobs = self.sender().ok_or_else(closed)?;
        jobs.send(job(answer)).await.map_err(|_| closed())?;
        answered.await.unwrap_or_else(|_| Err(closed()))
    }

    pub(super) async fn flush(&self) {
        let (answer, answered) = oneshot::channel();
        if let Some(jobs) = self.sender()
            && jobs.send(Job::Flush(answer)).await.is_ok()
        {
            let _ = answered.await;
        }
    }

    /// No more jobs; the task writes what is left and ends.
    pub(super) fn close(&self) {
        self.jobs
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
    }
}

/// What came of writing one part.
enum Wrote {
    /// Nothing is left.
    All,
    /// There is more; so much that it need not gather, or not.
    More { at_once: bool },
    /// The store cannot be used; everything waits.
    Away,
}

/// The writing task.
struct Task {
    db: Db,
    writer: Arc<Writer>,
    inserts: Inserts,
    /// Taken and not written yet: more than one while a refused row is looked for.
    in_hand: Vec<Part>,
}

impl Task {
    async fn run(mut self, mut queue: mpsc::Receiver<Job>) {
        let writer = Arc::clone(&self.writer);
        let mut batch = Vec::with_capacity(BATCH);
        // When gathered rows are written next.
        let mut next: Option<Instant> = None;
        loop {
            tokio::select! {
                biased;
                count = queue.recv_many(&mut batch, BATCH) => {
                    if count == 0 {
                        break;
                    }
                    self.serve(&mut batch).await;
                }
                () = sleep_until(next.unwrap_or_else(Instant::now)), if next.is_some() => {}
                () = writer.gathered.wake.notified(), if next.is_none() => {
                    next = Some(Instant::now() + GATHER);
                    continue;
                }
            }
            // After every batch of jobs, too: a flood of them must not starve what is gathered.
            if next.is_some_and(|at| at <= Instant::now()) {
                next = match self.write_gathered().await {
                    Wrote::All => None,
                    Wrote::More { at_once: true } => Some(Instant::now()),
                    Wrote::More { at_once: false } => Some(Instant::now() + GATHER),
                    Wrote::Away => Some(Instant::now() + RETRY),
                };
            }
        }
        self.write_all().await;
    }

    /// Commits what somebody waits for.
    async fn serve(&mut self, batch: &mut Vec<Job>) {
        let is_flush = |job: &Job| matches!(job, Job::Flush(_));
        let (flushes, writes): (Vec<_>, Vec<_>) = batch.drain(..).partition(is_flush);
        if !writes.is_empty() {
            self.commit(writes).await;
        }
        if !flushes.is_empty() {
            self.write_all().await;
            for flush in flushes {
                flush.answer(Ok(true));
            }
        }
    }

    async fn try_commit(&self, jobs: &[Job]) -> Result<Vec<bool>, sqlx::Error> {
        let writer = &self.writer;
        let with = (&self.db, &self.inserts);
        let committed = intents::commit(with, jobs, writer.own(), &writer.heads).await;
        self.note(committed.as_ref().err());
        committed
    }

    /// What a write tells of the store and of the chains.
    fn note(&self, error: Option<&sqlx::Error>) {
        if error.is_some() {
            self.writer.heads.forget();
        }
        let away = error.is_some_and(|error| !self.db.kind.refused_rows(error));
        self.writer.away.store(away, Ordering::Relaxed);
    }

    async fn commit(&self, jobs: Vec<Job>) {
        let mut committed = self.try_commit(&jobs).await;
        if matches!(&committed, Err(error) if self.db.kind.refused_rows(error)) {
            // Somebody else may have moved a chain on since: its end is read anew, once.
            committed = self.try_commit(&jobs).await;
        }
        match committed {
            Ok(outcomes) => {
                for (job, outcome) in jobs.into_iter().zip(outcomes) {
                    job.answer(Ok(outcome));
                }
            }
            Err(error) if jobs.len() > 1 && self.db.kind.refused_rows(&error) => {
                // One of them is refused, and the others have nothing to do with it.
                for job in jobs {
                    Box::pin(self.commit(vec![job])).await;
                }
            }
            Err(error) => {
                // Unless the database said no, it may have been committed: the answer may be what was lost.
                let unclear = !self.db.kind.refused_rows(&error);
                let error = Arc::new(error);
                for job in jobs {
                    if let Job::Begin(intent, ..) = &job
                        && unclear
                    {
                        self.writer.gathered.void(Arc::clone(intent));
                    }
                    job.answer(Err(StoreError::Shared(Arc::clone(&error))));
                }
            }
        }
    }

    /// Writes everything that waits now, as far as the store takes it.
    async fn write_all(&mut self) {
        let parts = self.in_hand.len() + self.writer.gathered.parts();
        for _ in 0..parts {
            if !matches!(self.write_gathered().await, Wrote::More { .. }) {
                break;
            }
        }
        // A refused row was looked for: the halves count as parts of their own.
        while !self.in_hand.is_empty() {
            if !matches!(self.write_gathered().await, Wrote::More { .. }) {
                break;
            }
        }
    }

    /// Writes one part of what is gathered.
    async fn write_gathered(&mut self) -> Wrote {
        let part = match self.in_hand.pop() {
            Some(part) => part,
            None => self.writer.gathered.take(),
        };
        if part.is_empty() {
            return Wrote::All;
        }
        let written = self.write(&part).await;
        self.note(written.as_ref().err());
        match written {
            Ok(true) => tell_written(&part),
            Ok(false) => return self.take_known_out(part).await,
            Err(error) if self.db.kind.refused_rows(&error) => self.part_refused(part, &error),
            Err(error) => {
                tracing::warn!(error = %error, rows = part.len(), "store.record failed; the rows wait");
                self.in_hand.push(part);
                return Wrote::Away;
            }
        }
        let at_once = !self.in_hand.is_empty() || self.writer.gathered.has_at_least(PART_RECORDS);
        Wrote::More { at_once }
    }

    /// The database refuses something in this part: halves of it find out what.
    fn part_refused(&mut self, mut part: Part, error: &sqlx::Error) {
        if part.len() > 1 {
            let rest = part.split_off(part.len() / 2);
            self.in_hand.extend([rest, part]);
        } else if let Some(item) = part.pop() {
            tracing::error!(error = %error, what = item.what(), "store.record gives a refused row up");
            self.writer.gathered.give_up(&item);
        }
    }

    /// Some rows of this part are there already: its commit came through although its answer was lost. They have
    /// their places in the chain; the others get theirs now.
    async fn take_known_out(&mut self, part: Part) -> Wrote {
        self.writer.heads.forget();
        let count = part.len();
        match agent_calls::known(&self.db.write, part).await {
            Ok((known, rest)) => {
                tell_written(&known);
                let moved = rest.len() < count;
                if !rest.is_empty() {
                    self.in_hand.push(rest);
                }
                if moved {
                    Wrote::More { at_once: true }
                } else {
                    // Another process writes the same chain at the same time.
                    Wrote::Away
                }
            }
            Err((part, error)) => {
                tracing::warn!(error = %error, rows = part.len(), "store.record failed; the rows wait");
                self.in_hand.push(part);
                Wrote::Away
            }
        }
    }

    /// Writes a part; false when nothing was written because some of its rows are there already.
    async fn write(&self, part: &Part) -> Result<bool, sqlx::Error> {
        let own = self.writer.own();
        let mut draft = Draft::new(&self.writer.heads, own.node);
        let mut lent = self.db.write.lend().await?;
        let (deadline, connection) = lent.parts()?;
        let written = within(deadline, async {
            let mut tx = connection.begin().await?;
            let (mut rows, mut runs) = (Vec::with_capacity(part.len()), Vec::new());
            for item in part {
                match item {
                    Item::Record(record) => {
                        rows.push(placed(&mut tx, record, &mut draft).await?);
                    }
                    Item::Run(run) => runs.push(run),
                    Item::Void(intent) => intents::void(&mut tx, intent).await?,
                }
            }
            let writes = Writes {
                node: own.node,
                chain: own.node,
            };
            let new = self.inserts.finished(&mut tx, &rows, writes).await?;
            if usize::try_from(new).ok() != Some(rows.len()) {
                tx.rollback().await?;
                return Ok(false);
            }
            self.inserts.runs(&mut tx, &runs).await?;
            for (workspace, gone) in self.writer.gathered.gone(&runs) {
                event_log::note_gone(&mut tx, &workspace, gone).await?;
            }
            tx.commit().await?;
            Ok(true)
        })
        .await;
        let written = lent.settle(written)?;
        if written {
            self.writer.heads.keep(draft);
        }
        Ok(written)
    }
}

/// A row with its place in the chain, the next one.
async fn placed<'r>(
    tx: &mut Transaction<'_, Any>,
    record: &'r Record,
    draft: &mut Draft<'_>,
) -> Result<Placed<'r>, sqlx::Error> {
    let workspace = &record.intent.workspace;
    draft.load(tx, workspace).await?;
    let mut entry = Entry::of_call(draft.chain, &record.intent, End::of(&record.settled));
    let link = draft.place(workspace, &mut entry);
    draft.take(workspace, link);
    Ok(Placed { record, link })
}

fn tell_written(part: &Part) {
    for item in part {
        if let Item::Record(Record {
            written: Some(written),
            ..
        }) = item
        {
            written.tell();
        }
    }
}

impl Job {
    fn answer(self, outcome: Result<bool, StoreError>) {
        match self {
            // The caller may be gone; the row stands all the same.
            Self::Begin(_, _, answer) | Self::Settle(_, _, answer) | Self::Act(_, answer) => {
                drop(answer.send(outcome));
            }
            Self::Flush(answer) => drop(answer.send(())),
        }
    }
}
