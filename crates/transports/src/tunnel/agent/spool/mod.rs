//! What an agent must not forget when it is killed: which calls it started, and the ends of calls that the bridge
//! has not acknowledged.
//!
//! One log in one directory, written behind, compacted by writing a new one beside it and renaming. A record is in
//! the kernel's hands when a method returns, so it survives the process; [`Spool::syncing`] says what the disk must
//! have before a power cut. Knows no frames: a result is text.

mod record;

use std::collections::{BTreeMap, HashMap};
use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::tunnel::id::ReqId;
use crate::tunnel::limits::SPOOL_BYTES;
use record::{Extent, Kind};

/// Calls remembered; far above what can be in flight, so only crash after crash without a bridge gets there.
pub const SPOOL_CALLS: usize = 65_536;
/// A log is rewritten when it has this many bytes that nobody needs, and more of them than of others.
const COMPACT_BYTES: u64 = 8 * 1024 * 1024;
/// The log's name, and that of its successor until it is whole.
const LOG: &str = "spool.log";
const NEW_LOG: &str = "spool.log.new";
/// Held by the one agent that uses the directory.
const LOCK: &str = "lock";
/// Holds the spool's name and the boot of the machine it was written in.
const NAME: &str = "spool.id";
/// The kernel's name for the time since the machine was started.
const BOOT: &str = "/proc/sys/kernel/random/boot_id";

/// The spool cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SpoolError {
    /// Another agent uses it.
    #[error("another agent is running with the state in {0}")]
    InUse(PathBuf),
    /// The file system says no.
    #[error("{path}: {source}")]
    Io {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// How much is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SpoolLimits {
    /// Bytes of results.
    pub bytes: u64,
}

impl Default for SpoolLimits {
    fn default() -> Self {
        Self { bytes: SPOOL_BYTES }
    }
}

/// What the spool knows of a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spooled {
    /// The call.
    pub req_id: ReqId,
    /// The length of its end, if that is there; otherwise it is only known that it was started.
    pub result_bytes: Option<usize>,
    /// Seconds since 1970 when that was written.
    pub at: u64,
}

/// What was found when the spool was opened.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Recovered {
    /// The calls, oldest first.
    pub calls: Vec<Spooled>,
    /// Bytes of the log that are part of no record: a power cut or a bad disk. They are gone.
    pub damaged_bytes: u64,
}

#[derive(Debug, Clone, Copy)]
struct Live {
    /// Of the order in which the last word of each call was written.
    number: u64,
    at: u64,
    /// `None` for a mark.
    result: Option<Extent>,
    size: u64,
}

/// The spool. One owner; every method is one short write.
#[derive(Debug)]
pub struct Spool {
    folder: PathBuf,
    id: String,
    log: Arc<File>,
    _lock: File,
    limits: SpoolLimits,
    live: HashMap<ReqId, Live>,
    order: BTreeMap<u64, ReqId>,
    next_number: u64,
    /// Where the next record goes.
    end: u64,
    /// Not before the log is so long is it rewritten again, after that failed.
    compact_from: u64,
    live_bytes: u64,
    result_bytes: u64,
}

impl Spool {
    /// Opens the spool of a directory, which is made (0700), and tells what is in it.
    ///
    /// # Errors
    /// [`SpoolError::InUse`] while another process has it; [`SpoolError::Io`].
    pub fn open(folder: &Path, limits: SpoolLimits) -> Result<(Self, Recovered), SpoolError> {
        let mut builder = std::fs::DirBuilder::new();
        let made = builder.recursive(true).mode(0o700).create(folder);
        made.map_err(|source| at(folder, source))?;
        let lock_path = folder.join(LOCK);
        let lock = private(&lock_path).map_err(|source| at(&lock_path, source))?;
        lock.try_lock().map_err(|error| match error {
            std::fs::TryLockError::WouldBlock => SpoolError::InUse(folder.to_path_buf()),
            std::fs::TryLockError::Error(source) => at(&lock_path, source),
        })?;
        let path = folder.join(LOG);
        let log = private(&path).map_err(|source| at(&path, source))?;
        let bytes = std::fs::read(&path).map_err(|source| at(&path, source))?;
        let scan = record::scan(&bytes);
        let mut spool = Self {
            folder: folder.to_path_buf(),
            id: name(folder, scan.damaged_bytes > 0),
            log: Arc::new(log),
            _lock: lock,
            limits,
            live: HashMap::new(),
            order: BTreeMap::new(),
            next_number: 0,
            // Over a torn record at the end: the next one must begin a line.
            end: scan
                .found
                .iter()
                .map(|found| found.extent.start + found.extent.size())
                .max()
                .unwrap_or(0),
            compact_from: 0,
            live_bytes: 0,
            result_bytes: 0,
        };
        for found in scan.found {
            match found.kind {
                Kind::Gone => spool.forget(&found.req_id),
                Kind::Started | Kind::Result => {
                    let result = (found.kind == Kind::Result).then_some(found.extent);
                    spool.remember(found.req_id, found.at, (result, found.extent.size()));
                }
            }
        }
        // Whatever was damaged is left behind, and a log that begins small stays fast.
        if let Err(error) = spool.compact() {
            // A full disk: what is there can be read all the same, and room is made by settling it.
            tracing::warn!(%error, "the spool could not be rewritten and is used as it is");
            spool.cut();
        }
        let recovered = Recovered {
            calls: spool.calls(),
            damaged_bytes: scan.damaged_bytes,
        };
        Ok((spool, recovered))
    }

    /// The spool's name. It is another one whenever this spool may not know each call it was ever told of: after
    /// damage, and after the machine was started anew, for then the last marks may never have come to the disk.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Whether an agent is using the spool of this directory now.
    #[must_use]
    pub fn is_in_use(folder: &Path) -> bool {
        let opened = File::open(folder.join(LOCK));
        opened.is_ok_and(|lock| matches!(lock.try_lock(), Err(std::fs::TryLockError::WouldBlock)))
    }

    /// Everything that is kept, oldest first.
    #[must_use]
    pub fn calls(&self) -> Vec<Spooled> {
        let of = |req_id: &ReqId| {
            let live = self.live.get(req_id)?;
            Some(Spooled {
                req_id: req_id.clone(),
                result_bytes: live.result.map(|extent| extent.body),
                at: live.at,
            })
        };
        self.order.values().filter_map(of).collect()
    }

    /// Bytes of results kept.
    #[must_use]
    pub fn result_bytes(&self) -> u64 {
        self.result_bytes
    }

    /// Notes that a call is about to be started. After this it is never started again, whatever happens.
    ///
    /// # Errors
    /// [`SpoolError::Io`]; then it must not be started.
    pub fn started(&mut self, req_id: &ReqId, now: u64) -> Result<(), SpoolError> {
        if self.live.len() >= SPOOL_CALLS {
            let full = io::Error::other("more calls are noted than an agent can have");
            return Err(at(&self.folder, full));
        }
        let extent = self.append((Kind::Started, now), req_id, b"")?;
        self.remember(req_id.clone(), now, (None, extent.size()));
        self.compact_when_due();
        Ok(())
    }

    /// Keeps the end of a call until it is removed. The oldest results go when there is no room for this one;
    /// their ids are given back, and all that is known of them then is that they were started.
    ///
    /// # Errors
    /// [`SpoolError::Io`]; then it is not kept.
    pub fn put(
        &mut self,
        req_id: &ReqId,
        result: &str,
        now: u64,
    ) -> Result<Vec<ReqId>, SpoolError> {
        let wanted = u64::try_from(result.len()).unwrap_or(u64::MAX);
        let mut dropped = Vec::new();
        while self.result_bytes.saturating_add(wanted) > self.limits.bytes {
            let Some(oldest) = self.oldest_result(req_id) else {
                break;
            };
            self.drop_result(&oldest, now)?;
            dropped.push(oldest);
        }
        let extent = self.append((Kind::Result, now), req_id, result.as_bytes())?;
        self.remember(req_id.clone(), now, (Some(extent), extent.size()));
        self.compact_when_due();
        Ok(dropped)
    }

    /// The kept end of a call; `None` when there is none or the disk has lost it.
    #[must_use]
    pub fn read(&self, req_id: &str) -> Option<String> {
        let extent = self.live.get(req_id)?.result?;
        let mut record = vec![0; usize::try_from(extent.size()).ok()?];
        self.log.read_exact_at(&mut record, extent.start).ok()?;
        let body = record::body_of(&record, &extent)?;
        String::from_utf8(body.to_vec()).ok()
    }

    /// Nobody will ask for this call again. `now`, as everywhere here, is in seconds since 1970.
    ///
    /// # Errors
    /// [`SpoolError::Io`]; it is forgotten here all the same, but may be told again after a restart.
    pub fn remove(&mut self, req_id: &ReqId, now: u64) -> Result<(), SpoolError> {
        if !self.live.contains_key(req_id) {
            return Ok(());
        }
        let written = self.append((Kind::Gone, now), req_id, b"");
        self.forget(req_id);
        written?;
        self.compact_when_due();
        Ok(())
    }

    /// The file whose data must be on the disk (`sync_data`) before what was written so far survives a power cut.
    /// It may be synced on another thread.
    #[must_use]
    pub fn syncing(&self) -> Arc<File> {
        Arc::clone(&self.log)
    }

    fn oldest_result(&self, but: &str) -> Option<ReqId> {
        let has_result = |req_id: &&ReqId| {
            let live = self.live.get(*req_id);
            live.is_some_and(|live| live.result.is_some()) && &***req_id != but
        };
        self.order.values().find(has_result).cloned()
    }

    /// Keeps of a call only that it was started.
    fn drop_result(&mut self, req_id: &ReqId, now: u64) -> Result<(), SpoolError> {
        let extent = self.append((Kind::Started, now), req_id, b"")?;
        self.remember(req_id.clone(), now, (None, extent.size()));
        Ok(())
    }

    fn remember(&mut self, req_id: ReqId, at: u64, (result, size): (Option<Extent>, u64)) {
        self.forget(&req_id);
        // The last word counts, so that results stand in the order of their ends.
        let number = self.next_number;
        self.next_number += 1;
        self.live_bytes += size;
        self.result_bytes += result.map_or(0, |extent| u64::try_from(extent.body).unwrap_or(0));
        self.order.insert(number, req_id.clone());
        let live = Live {
            number,
            at,
            result,
            size,
        };
        self.live.insert(req_id, live);
    }

    fn forget(&mut self, req_id: &str) {
        if let Some(live) = self.live.remove(req_id) {
            self.order.remove(&live.number);
            self.live_bytes -= live.size;
            let body = live.result.map_or(0, |extent| extent.body);
            self.result_bytes -= u64::try_from(body).unwrap_or(0);
        }
    }

    fn append(
        &mut self,
        what: (Kind, u64),
        req_id: &str,
        body: &[u8],
    ) -> Result<Extent, SpoolError> {
        let (record, extent) = record::encode(what, req_id, body, self.end);
        let written = self.log.write_all_at(&record, self.end);
        if let Err(source) = written {
            self.cut();
            return Err(at(&self.folder.join(LOG), source));
        }
        self.end += extent.size();
        Ok(extent)
    }

    /// Takes away what a write left that failed half-way. If that fails, the next record is written over it.
    fn cut(&self) {
        let _ = self.log.set_len(self.end);
    }

    /// A log that cannot be rewritten is used as it is, for all that is in it was written well.
    fn compact_when_due(&mut self) {
        let unneeded = self.end.saturating_sub(self.live_bytes);
        let due = unneeded >= COMPACT_BYTES && unneeded >= self.live_bytes;
        if due
            && self.end >= self.compact_from
            && let Err(error) = self.compact()
        {
            self.compact_from = self.end.saturating_add(COMPACT_BYTES);
            tracing::warn!(%error, "the spool could not be rewritten and grows");
        }
    }

    /// Writes what is needed into a new log and puts it in the old one's place.
    fn compact(&mut self) -> Result<(), SpoolError> {
        let written = self.rewrite();
        if written.is_err() {
            // Half of one is of no use, and takes the room that is missing.
            let _ = std::fs::remove_file(self.folder.join(NEW_LOG));
        }
        written
    }

    fn rewrite(&mut self) -> Result<(), SpoolError> {
        let path = self.folder.join(NEW_LOG);
        let failed = |source| at(&path, source);
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
            _ => {}
        }
        let log = private(&path).map_err(failed)?;
        let mut writer = io::BufWriter::new(&log);
        let mut end = 0;
        let mut moved = Vec::with_capacity(self.order.len());
        for req_id in self.order.values() {
            let Some(live) = self.live.get(req_id) else {
                continue;
            };
            let body = live.result.and_then(|_| self.read(req_id));
            let kind = if body.is_some() {
                Kind::Result
            } else {
                Kind::Started
            };
            let bytes = body.unwrap_or_default().into_bytes();
            let (record, extent) = record::encode((kind, live.at), req_id, &bytes, end);
            writer.write_all(&record).map_err(failed)?;
            end += extent.size();
            let result = (kind == Kind::Result).then_some(extent);
            moved.push((req_id.clone(), live.at, result, extent.size()));
        }
        writer.flush().map_err(failed)?;
        drop(writer);
        log.sync_all().map_err(failed)?;
        std::fs::rename(&path, self.folder.join(LOG)).map_err(failed)?;
        // From here on the new one is the log, whatever the folder says.
        self.log = Arc::new(log);
        self.end = end;
        self.compact_from = 0;
        for (req_id, at, result, size) in moved {
            self.remember(req_id, at, (result, size));
        }
        let folder = File::open(&self.folder).and_then(|folder| folder.sync_all());
        folder.map_err(failed)
    }
}

fn at(path: &Path, source: io::Error) -> SpoolError {
    SpoolError::Io {
        path: path.to_path_buf(),
        source,
    }
}

/// The name of a directory's spool, made where there is none that may still be used.
fn name(folder: &Path, damaged: bool) -> String {
    let path = folder.join(NAME);
    let boot = std::fs::read_to_string(BOOT).unwrap_or_default();
    let known = std::fs::read_to_string(&path).unwrap_or_default();
    if let Some((id, of)) = known.split_once(' ')
        && of.trim() == boot.trim()
        && !damaged
        && id.len() == 32
    {
        return id.to_owned();
    }
    let id = format!("{:032x}", rand::random::<u128>());
    let new = folder.join("spool.id.new");
    let written = private(&new).and_then(|file| {
        file.set_len(0)?;
        (&file).write_all(format!("{id} {boot}").as_bytes())?;
        file.sync_all()?;
        std::fs::rename(&new, &path)
    });
    if let Err(error) = written {
        // A full disk. Each start has another name then, and the bridge repeats nothing.
        tracing::warn!(%error, path = %path.display(), "the spool's name cannot be kept");
    }
    id
}

/// A file nobody else may read, opened for reading and writing as it is.
fn private(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
}

#[cfg(test)]
mod tests;
