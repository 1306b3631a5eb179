//! What is written without anybody waiting for it: rows of finished read-only calls, and runs of events.
//! Bounded by count and by size; what finds no room is counted and told.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sessions::WorkspaceId;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};

use super::event_log::Run;
use crate::ledger::{Intent, Settled, Written};

/// Rows of finished read-only calls that may wait; while the store is away they gather here, and past it they
/// are lost (rulings.md § Audit).
const MAX_RECORDS: usize = 20_000;
/// Their size: a row is some hundred bytes, but a resource's URI may be long.
const MAX_RECORD_BYTES: usize = 32 * 1024 * 1024;
/// From here on new calls are held up, so that those in flight (4096 by default) still find a place when they end.
const CROWDED_RECORDS: usize = 15_000;
const CROWDED_RECORD_BYTES: usize = 24 * 1024 * 1024;
/// Runs of events that may wait, and their size; past it the oldest are lost.
const MAX_RUNS: usize = 4096;
const MAX_RUN_BYTES: usize = 32 * 1024 * 1024;
/// What one transaction takes. Someone who waits for a commit waits for one of these at most.
pub(super) const PART_RECORDS: usize = 512;
const PART_RUNS: usize = 64;
const PART_RUN_BYTES: usize = 4 * 1024 * 1024;
/// Losses closer together than this are told in one line.
const LOSS_TOLD_EVERY: Duration = Duration::from_secs(10);

/// The row of a call that needed no intent.
#[derive(Debug)]
pub(super) struct Record {
    pub(super) intent: Arc<Intent>,
    pub(super) settled: Settled,
    pub(super) written: Option<Written>,
}

impl Record {
    fn weight_bytes(&self) -> usize {
        let (intent, settled) = (&self.intent, &self.settled);
        let kept = |text: &Option<String>| text.as_ref().map_or(0, String::len);
        512 + intent.reference.len()
            + intent.preview.len()
            + kept(&settled.result)
            + kept(&settled.fault)
    }
}

/// One thing that waits.
#[derive(Debug)]
pub(super) enum Item {
    /// The row of a call.
    Record(Record),
    /// A run of events.
    Run(Run),
    /// An intent whose commit was never confirmed and whose caller was refused: it must not hold its key.
    Void(Arc<Intent>),
}

impl Item {
    /// For the log.
    pub(super) fn what(&self) -> &'static str {
        match self {
            Self::Record(_) => "call",
            Self::Run(_) => "events",
            Self::Void(_) => "refused intent",
        }
    }
}

/// What is written together.
pub(super) type Part = Vec<Item>;

#[derive(Debug, Default)]
struct Waiting {
    records: VecDeque<Record>,
    record_bytes: usize,
    runs: VecDeque<Run>,
    run_bytes: usize,
    voids: VecDeque<Arc<Intent>>,
    told_loss: Option<Instant>,
}

impl Waiting {
    fn crowded(&self) -> bool {
        self.records.len() >= CROWDED_RECORDS || self.record_bytes >= CROWDED_RECORD_BYTES
    }
}

/// The queues.
#[derive(Debug, Default)]
pub(super) struct Gathered {
    waiting: Mutex<Waiting>,
    /// Something waits that did not before.
    pub(super) wake: Notify,
    crowded: AtomicBool,
    room: Notify,
    lost: AtomicU64,
    /// The newest event of a lost run, by workspace.
    lost_events: Mutex<HashMap<WorkspaceId, i64>>,
}

impl Gathered {
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lost_events(&self) -> MutexGuard<'_, HashMap<WorkspaceId, i64>> {
        self.lost_events
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a row. Past the bound it is lost; [`Gathered::room`] holds calls up before.
    pub(super) fn record(&self, record: Record) {
        let weight = record.weight_bytes();
        let mut waiting = self.waiting();
        if waiting.records.len() >= MAX_RECORDS || waiting.record_bytes >= MAX_RECORD_BYTES {
            self.lose(&mut waiting, 1, "the store does not keep up or is away");
            return;
        }
        waiting.record_bytes += weight;
        waiting.records.push_back(record);
        let first = waiting.records.len() == 1;
        let crowded = waiting.crowded();
        drop(waiting);
        if crowded {
            self.crowded.store(true, Ordering::Release);
        }
        if first {
            self.wake.notify_one();
        }
    }

    /// Adds a run of events; the oldest make room.
    pub(super) fn keep_run(&self, run: Run) {
        let mut waiting = self.waiting();
        waiting.run_bytes += run.body.len();
        waiting.runs.push_back(run);
        while waiting.runs.len() > MAX_RUNS || waiting.run_bytes > MAX_RUN_BYTES {
            let Some(oldest) = waiting.runs.pop_front() else {
                break;
            };
            waiting.run_bytes -= oldest.body.len();
            self.lose_run(
                &mut waiting,
                &oldest,
                "the store does not keep up or is away",
            );
        }
        drop(waiting);
        self.wake.notify_one();
    }

    /// Undoes an intent later: whether it was committed is not known, and its caller was told that it was not.
    pub(super) fn void(&self, intent: Arc<Intent>) {
        let mut waiting = self.waiting();
        if waiting.voids.len() < MAX_RECORDS {
            waiting.voids.push_back(intent);
        }
        drop(waiting);
        self.wake.notify_one();
    }

    /// What is written next.
    pub(super) fn take(&self) -> Part {
        let mut waiting = self.waiting();
        let count = waiting.records.len().min(PART_RECORDS);
        let mut part = Part::with_capacity(count + PART_RUNS);
        part.extend(waiting.records.drain(..count).map(Item::Record));
        let weight = |item: &Item| match item {
            Item::Record(record) => record.weight_bytes(),
            Item::Run(_) | Item::Void(_) => 0,
        };
        waiting.record_bytes -= part.iter().map(weight).sum::<usize>();
        let count = waiting.voids.len().min(PART_RECORDS);
        part.extend(waiting.voids.drain(..count).map(Item::Void));
        let mut bytes = 0;
        for _ in 0..PART_RUNS {
            if bytes >= PART_RUN_BYTES {
                break;
            }
            let Some(run) = waiting.runs.pop_front() else {
                break;
            };
            bytes += run.body.len();
            part.push(Item::Run(run));
        }
        waiting.run_bytes -= bytes;
        let crowded = waiting.crowded();
        drop(waiting);
        if !crowded && self.crowded.swap(false, Ordering::AcqRel) {
            self.room.notify_waiters();
        }
        part
    }

    /// How many parts what waits would fill, about.
    pub(super) fn parts(&self) -> usize {
        let waiting = self.waiting();
        let of = |count: usize, a_part: usize| count.div_ceil(a_part);
        of(waiting.records.len(), PART_RECORDS)
            .max(of(waiting.runs.len(), PART_RUNS).max(of(waiting.run_bytes, PART_RUN_BYTES)))
            .max(of(waiting.voids.len(), PART_RECORDS))
    }

    /// Whether a whole part is there to be written.
    pub(super) fn has_at_least(&self, records: usize) -> bool {
        let waiting = self.waiting();
        waiting.records.len() >= records
            || waiting.runs.len() >= PART_RUNS
            || !waiting.voids.is_empty()
    }

    /// So many rows wait that no new ones should be made.
    pub(super) fn is_crowded(&self) -> bool {
        self.crowded.load(Ordering::Acquire)
    }

    /// Waits until rows may be made; false when there is no room even then.
    pub(super) async fn room(&self, until: Instant) -> bool {
        while self.is_crowded() {
            let mut freed = std::pin::pin!(self.room.notified());
            freed.as_mut().enable();
            if self.is_crowded() && timeout_at(until, freed).await.is_err() {
                return !self.is_crowded();
            }
        }
        true
    }

    /// Rows and runs lost so far.
    pub(super) fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    /// The newest lost event of a workspace; 0 when none was.
    pub(super) fn lost_event(&self, workspace: &WorkspaceId) -> i64 {
        self.lost_events().get(workspace).copied().unwrap_or(0)
    }

    /// Up to where the workspaces of some runs are not whole, as far as it is to be noted with them.
    pub(super) fn gone(&self, runs: &[&Run]) -> HashMap<WorkspaceId, i64> {
        let lost = self.lost_events();
        let mut gone: HashMap<WorkspaceId, i64> = HashMap::new();
        for run in runs {
            let lost = lost.get(&run.workspace).copied().unwrap_or(0);
            let newest = gone.entry(run.workspace.clone()).or_default();
            *newest = run.gone.max(lost).max(*newest);
        }
        gone.retain(|_, gone| *gone > 0);
        gone
    }

    /// Gives up what the database refuses.
    pub(super) fn give_up(&self, item: &Item) {
        let mut waiting = self.waiting();
        let why = "the database refuses the row";
        match item {
            Item::Record(_) => self.lose(&mut waiting, 1, why),
            Item::Run(run) => self.lose_run(&mut waiting, run, why),
            Item::Void(_) => {}
        }
    }

    fn lose_run(&self, waiting: &mut Waiting, run: &Run, why: &'static str) {
        let mut events = self.lost_events();
        let newest = events.entry(run.workspace.clone()).or_default();
        *newest = run.last_id.max(*newest);
        drop(events);
        self.lose(waiting, 1, why);
    }

    fn lose(&self, waiting: &mut Waiting, rows: u64, why: &'static str) {
        let lost = self.lost.fetch_add(rows, Ordering::Relaxed) + rows;
        metrics::counter!(super::LOST_ROWS).increment(rows);
        let due = |told: Instant| told.elapsed() >= LOSS_TOLD_EVERY;
        if waiting.told_loss.is_none_or(due) {
            waiting.told_loss = Some(Instant::now());
            tracing::error!(
                store.rows_lost = lost,
                why,
                "rows of the ledger or runs of events were lost"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(first_id: i64, body_bytes: usize) -> Run {
        Run {
            workspace: WorkspaceId::new("w").unwrap(),
            first_id,
            last_id: first_id + 9,
            first_ms: 0,
            last_ms: 0,
            gone: 0,
            body: "x".repeat(body_bytes),
        }
    }

    #[test]
    fn runs_that_wait_are_bounded_by_size_and_the_oldest_are_lost() {
        let gathered = Gathered::default();
        for number in 0..40 {
            gathered.keep_run(run(number * 10 + 1, 1024 * 1024));
        }
        let workspace = WorkspaceId::new("w").unwrap();
        assert_eq!((gathered.lost(), gathered.lost_event(&workspace)), (8, 80));
        let (mut runs, mut parts) = (0, 0);
        loop {
            let part = gathered.take();
            if part.is_empty() {
                break;
            }
            runs += part.len();
            parts += 1;
        }
        assert_eq!((runs, parts), (32, 8), "a transaction takes 4 MiB");
    }

    #[test]
    fn runs_that_wait_are_bounded_by_count() {
        let gathered = Gathered::default();
        for number in 0..MAX_RUNS + 3 {
            gathered.keep_run(run(i64::try_from(number).unwrap(), 1));
        }
        assert_eq!(gathered.lost(), 3);
    }

    #[test]
    fn what_was_lost_is_noted_with_the_next_run() {
        let gathered = Gathered::default();
        gathered.give_up(&Item::Run(run(100, 1)));
        let (next, shed) = (
            run(110, 1),
            Run {
                gone: 150,
                ..run(120, 1)
            },
        );
        let workspace = WorkspaceId::new("w").unwrap();
        assert_eq!(gathered.gone(&[&next])[&workspace], 109);
        assert_eq!(gathered.gone(&[&next, &shed])[&workspace], 150);
        let elsewhere = Run {
            workspace: WorkspaceId::new("v").unwrap(),
            ..run(1, 1)
        };
        assert!(gathered.gone(&[&elsewhere]).is_empty());
    }
}
