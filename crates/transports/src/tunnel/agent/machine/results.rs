//! Finished calls whose RESULT is not acknowledged: in memory while a good line takes them, on disk when it
//! does not, and never more than the spool may hold.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;
use std::time::Duration;

use serde_json::value::to_raw_value;

use super::calls::{Call, Finished};
use super::outbox::Item;
use super::{AgentMachine, Note, Now, Output, SpoolState, Spooled};
use crate::tunnel::frame::{CallResult, Draft, FailureCode, Kind, Payload, payload_text};
use crate::tunnel::id::ReqId;
use crate::tunnel::limits::RESUME_IDS;

/// How long a large RESULT may be on its way before it goes to disk as well.
const SPOOL_AFTER: Duration = Duration::from_secs(1);
/// How long a RESULT may go without an acknowledgement before it is said again.
const REPEAT_AFTER: Duration = Duration::from_mins(1);
/// A disk that refused a RESULT is asked again after so long.
const RETRY_AFTER: Duration = Duration::from_secs(5);
/// A longer RESULT is not kept in memory once it is on disk. What is not longer goes to disk before it is sent, for
/// that costs one short write.
const KEEP_BYTES: usize = 16 * 1024;
/// What is shorter is not replaced by a word that it was dropped: it is hardly longer than that word.
const WORD_BYTES: usize = 512;
/// RESULTs in memory; above it they go to disk at once.
const MEMORY_BYTES: usize = 32 * 1024 * 1024;
/// RESULTs in memory while the disk takes none; above it the oldest is dropped.
const REFUSED_BYTES: usize = 64 * 1024 * 1024;

/// The order of ends, and what they weigh.
#[derive(Debug, Default)]
pub(super) struct Results {
    next_place: u64,
    order: BTreeMap<u64, (ReqId, Duration)>,
    /// When those in memory only are to go to disk.
    unspooled: BTreeSet<(Duration, ReqId)>,
    /// The disk refuses RESULTs; when it is asked again.
    retry_at: Option<Duration>,
    memory_bytes: usize,
    spool_bytes: u64,
}

impl Results {
    /// The oldest, as many as HELLO may name, and whether there are more.
    pub(super) fn oldest(&self) -> (Vec<ReqId>, bool) {
        let oldest = self.order.values().take(RESUME_IDS);
        let named = oldest.map(|(req_id, _)| req_id.clone()).collect();
        (named, self.order.len() > RESUME_IDS)
    }

    pub(super) fn next_deadline(&self, age: Duration) -> Option<Duration> {
        let spool = self.unspooled.first().map(|(at, _)| *at);
        let oldest = self.order.first_key_value();
        let drop = oldest.map(|(_, (_, since))| since.saturating_add(age));
        [spool, drop].into_iter().flatten().min()
    }

    fn enter(&mut self, req_id: &ReqId, since: Duration) -> u64 {
        self.next_place += 1;
        self.order.insert(self.next_place, (req_id.clone(), since));
        self.next_place
    }

    fn leave(&mut self, finished: &Finished) {
        self.order.remove(&finished.place);
        self.lighten(finished);
    }

    fn lighten(&mut self, finished: &Finished) {
        if finished.payload.is_some() {
            self.memory_bytes -= finished.bytes;
        }
        if finished.spooled {
            self.spool_bytes -= finished.bytes as u64;
        }
    }
}

impl AgentMachine {
    /// What an earlier process left. What it had started and not finished may have run.
    pub(super) fn load(&mut self, now: Now, mut spooled: Vec<Spooled>) {
        // In the order of their ends: what was lost with the earlier process ends now.
        spooled.sort_by_key(|one| match one.state {
            SpoolState::Finished { age, .. } => Reverse(age),
            SpoolState::Started => Reverse(Duration::ZERO),
        });
        for Spooled { req_id, state } in spooled {
            let (payload, bytes, age) = match state {
                SpoolState::Started => {
                    let lost = "the agent was restarted while the call ran";
                    let lost = CallResult::failed(FailureCode::Disconnected, lost);
                    let payload: Arc<str> = payload_text(&Payload::Result(lost)).into();
                    let bytes = payload.len();
                    self.results.memory_bytes += bytes;
                    (Some(payload), bytes, Duration::ZERO)
                }
                SpoolState::Finished { bytes, age } => (None, bytes, age),
            };
            let place = self.results.enter(&req_id, now.at.saturating_sub(age));
            // A mark of a start says the same to every later process.
            self.results.spool_bytes += bytes as u64;
            let finished = Finished {
                place,
                payload,
                bytes,
                spooled: true,
                sent_at: None,
            };
            self.calls.insert(req_id, Call::Finished(finished));
        }
    }

    /// A call has its RESULT.
    pub(super) fn finish(&mut self, now: Now, req_id: &ReqId, result: CallResult) {
        self.leave_running(req_id);
        let mut payload = payload_text(&Payload::Result(result));
        if payload.len() > self.limits.result_bytes {
            let large = "the result is larger than a tunnel carries";
            let large = CallResult::failed(FailureCode::ProtocolError, large);
            payload = payload_text(&Payload::Result(large));
        }
        let bytes = payload.len();
        let finished = Finished {
            place: self.results.enter(req_id, now.at),
            payload: Some(payload.into()),
            bytes,
            spooled: false,
            sent_at: None,
        };
        self.results.memory_bytes += bytes;
        self.calls.insert(req_id.clone(), Call::Finished(finished));
        let at_once = bytes <= KEEP_BYTES || self.results.memory_bytes > MEMORY_BYTES;
        if self.is_online() {
            self.outbox.result(req_id);
        }
        if !self.is_online() || self.stopping || at_once {
            self.spool(req_id);
        } else {
            let due = (now.at + SPOOL_AFTER, req_id.clone());
            self.results.unspooled.insert(due);
        }
    }

    /// Puts a RESULT on disk, and makes room for it; later, while the disk refuses.
    fn spool(&mut self, req_id: &ReqId) {
        let Some(Call::Finished(finished)) = self.calls.get(req_id) else {
            return;
        };
        if finished.spooled {
            return;
        }
        match self.results.retry_at {
            Some(retry_at) => {
                let due = (retry_at, req_id.clone());
                self.results.unspooled.insert(due);
                self.bound_refused();
            }
            None => self.put(req_id),
        }
    }

    fn put(&mut self, req_id: &ReqId) {
        let Some(Call::Finished(finished)) = self.calls.get_mut(req_id) else {
            return;
        };
        let Some(payload) = finished.payload.clone().filter(|_| !finished.spooled) else {
            return;
        };
        finished.spooled = true;
        self.results.spool_bytes += finished.bytes as u64;
        if finished.bytes > KEEP_BYTES || self.results.memory_bytes > MEMORY_BYTES {
            finished.payload = None;
            self.results.memory_bytes -= finished.bytes;
        }
        let place = finished.place;
        // Room is made first, so that the spool's own bound takes nothing besides.
        while self.results.spool_bytes > self.settings.spool_bytes {
            if !self.drop_oldest() {
                break;
            }
        }
        // It may have been the oldest itself.
        let stands = matches!(self.calls.get(req_id),
            Some(Call::Finished(now)) if now.place == place && now.bytes == payload.len());
        if stands {
            self.out.push(Output::SpoolPut {
                req_id: req_id.clone(),
                payload,
            });
        }
    }

    pub(super) fn spool_all(&mut self) {
        for (_, req_id) in std::mem::take(&mut self.results.unspooled) {
            self.spool(&req_id);
        }
    }

    pub(super) fn spool_overdue(&mut self, now: Now) {
        // A disk that refused is asked with one of them.
        let mut asks = self.results.retry_at.is_some_and(|at| at <= now.at);
        if asks {
            self.results.retry_at = Some(now.at + RETRY_AFTER);
        }
        while let Some((at, _)) = self.results.unspooled.first()
            && *at <= now.at
            && let Some((_, req_id)) = self.results.unspooled.pop_first()
        {
            let waits =
                matches!(self.calls.get(&req_id), Some(Call::Finished(one)) if !one.spooled);
            if asks && waits {
                asks = false;
                self.put(&req_id);
            } else {
                self.spool(&req_id);
            }
        }
    }

    /// The disk took no RESULT: it stays in memory, and is put again later. Nothing is put in answer to this, or a disk
    /// that is full would be asked for ever.
    pub(super) fn spool_refused(&mut self, now: Now, req_id: &ReqId, payload: Arc<str>) {
        let retry_at = now.at + RETRY_AFTER;
        self.results.retry_at = Some(retry_at);
        let Some(Call::Finished(finished)) = self.calls.get_mut(req_id) else {
            return;
        };
        // Another one stands there meanwhile, which is put for itself.
        if !finished.spooled || finished.bytes != payload.len() {
            return;
        }
        finished.spooled = false;
        self.results.spool_bytes -= finished.bytes as u64;
        if finished.payload.is_none() {
            finished.payload = Some(payload);
            self.results.memory_bytes += finished.bytes;
        }
        self.results.unspooled.insert((retry_at, req_id.clone()));
        self.bound_refused();
    }

    /// The disk takes RESULTs again.
    pub(super) fn spool_works(&mut self) {
        if self.results.retry_at.take().is_some() {
            self.spool_all();
        }
    }

    /// Drops the oldest of what can be kept in memory only, until the rest fits.
    fn bound_refused(&mut self) {
        while self.results.memory_bytes > REFUSED_BYTES {
            let mut order = self.results.order.values();
            let oldest = order.find(|(req_id, _)| match self.calls.get(req_id) {
                Some(Call::Finished(one)) => !one.spooled && one.payload.is_some() && !is_word(one),
                _ => false,
            });
            let Some((req_id, _)) = oldest.cloned() else {
                return;
            };
            self.replace(&req_id, "the disk took nothing");
        }
    }

    /// Replaces the oldest RESULT by a word that it was dropped; when all are such words, the oldest goes.
    fn drop_oldest(&mut self) -> bool {
        let on_disk = |req_id: &ReqId| match self.calls.get(req_id) {
            Some(Call::Finished(finished)) if finished.spooled => Some(finished),
            _ => None,
        };
        let mut oldest = None;
        for (req_id, _) in self.results.order.values() {
            let Some(finished) = on_disk(req_id) else {
                continue;
            };
            oldest.get_or_insert_with(|| req_id.clone());
            if !is_word(finished) {
                let req_id = req_id.clone();
                self.replace(&req_id, "the spool was full");
                return true;
            }
        }
        let Some(req_id) = oldest else { return false };
        self.forget(&[req_id]);
        true
    }

    /// RESULTs that were there too long are dropped, and reported; the report itself is, a day later.
    pub(super) fn drop_old(&mut self, now: Now) {
        while let Some((_, (req_id, since))) = self.results.order.first_key_value() {
            if now.at < since.saturating_add(self.settings.spool_age) {
                return;
            }
            let req_id = req_id.clone();
            let word = matches!(self.calls.get(&req_id), Some(Call::Finished(finished)) if is_word(finished));
            if word {
                self.forget(&[req_id]);
            } else {
                self.replace(&req_id, "it was kept too long");
                self.move_to_end(now, &req_id);
            }
        }
    }

    fn move_to_end(&mut self, now: Now, req_id: &ReqId) {
        if let Some(Call::Finished(finished)) = self.calls.get_mut(req_id) {
            self.results.order.remove(&finished.place);
            finished.place = self.results.enter(req_id, now.at);
        }
    }

    /// In place of a RESULT: that it is gone, and why.
    fn replace(&mut self, req_id: &ReqId, why: &str) {
        let Some(Call::Finished(finished)) = self.calls.get_mut(req_id) else {
            return;
        };
        self.results.lighten(finished);
        let bytes = finished.bytes;
        let message = format!("the result was dropped: {why}");
        let mut word = CallResult::failed(FailureCode::Disconnected, message);
        if let Some(error) = &mut word.error {
            error.details = to_raw_value(&serde_json::json!({ "dropped_bytes": bytes })).ok();
        }
        let payload: Arc<str> = payload_text(&Payload::Result(word)).into();
        finished.bytes = payload.len();
        finished.payload = Some(Arc::clone(&payload));
        finished.spooled = self.results.retry_at.is_none();
        self.results.memory_bytes += finished.bytes;
        let req_id = req_id.clone();
        self.out.push(Output::Note(Note::Dropped {
            req_id: req_id.clone(),
            bytes,
        }));
        match self.results.retry_at {
            None => {
                self.results.spool_bytes += finished.bytes as u64;
                self.out.push(Output::SpoolPut { req_id, payload });
            }
            Some(retry_at) => {
                self.results.unspooled.insert((retry_at, req_id));
            }
        }
    }

    /// Acknowledged: nothing of these calls is kept but that they were.
    pub(super) fn forget(&mut self, calls: &[ReqId]) {
        let gone: HashSet<&ReqId> = calls
            .iter()
            .filter(|req_id| matches!(self.calls.get(*req_id), Some(Call::Finished(_))))
            .collect();
        for req_id in &gone {
            if let Some((req_id, Call::Finished(finished))) = self.calls.remove_entry(*req_id) {
                self.results.leave(&finished);
                self.acknowledged.insert(req_id.clone());
                self.out.push(Output::SpoolDelete(req_id));
            }
        }
        if !gone.is_empty() {
            self.outbox.forget(&gone);
        }
    }

    /// After HELLO_ACK: every RESULT that is not acknowledged goes out, oldest first.
    pub(super) fn deliver(&mut self) {
        for (req_id, _) in self.results.order.values() {
            if let Some(Call::Finished(finished)) = self.calls.get_mut(req_id) {
                finished.sent_at = None;
                self.outbox.result(req_id);
            }
        }
    }

    /// A RESULT came back from disk, or did not.
    pub(super) fn read_back(&mut self, req_id: &ReqId, payload: Option<String>) {
        let awaited = self.outbox.was_read(req_id);
        let Some(Call::Finished(finished)) = self.calls.get(req_id) else {
            return;
        };
        match payload {
            Some(payload) if awaited => self.outbox.loaded(req_id, payload),
            // It is read again when its turn comes on the next line.
            Some(_) => {}
            None => {
                if finished.payload.is_none() {
                    self.replace(req_id, "it could not be kept");
                }
                if awaited {
                    self.outbox.result_first(req_id);
                }
            }
        }
    }

    /// What goes out next.
    pub(super) fn next_draft(&mut self, now: Now) -> Option<Draft> {
        self.line.as_ref()?;
        loop {
            if let Some(draft) = self.outbox.begun() {
                return Some(draft);
            }
            if !self.is_online() {
                return None;
            }
            if self.outbox.take_tools()
                && let Some(tools) = self.tools.clone()
            {
                let payload = Payload::Tools((*tools).clone());
                self.outbox.start(|agent_id, parts| {
                    Draft::write(agent_id, None, &payload, |draft| parts.push_back(draft));
                });
                continue;
            }
            match self.outbox.next_item()? {
                Item::Chunk(draft) => return Some(draft),
                Item::Loaded(req_id, payload) => self.start_result(now, &req_id, &payload),
                Item::Result(req_id) => {
                    let Some(Call::Finished(finished)) = self.calls.get(&req_id) else {
                        continue;
                    };
                    if let Some(payload) = finished.payload.clone() {
                        self.start_result(now, &req_id, &payload);
                    } else {
                        // One at a time: together they may be all that the spool holds.
                        self.outbox.reads(&req_id);
                        self.out.push(Output::SpoolRead(req_id));
                    }
                }
            }
        }
    }

    /// On a line that holds, a RESULT that is not acknowledged for long is said again.
    pub(super) fn repeat_unheard(&mut self, now: Now) {
        for (req_id, _) in self.results.order.values() {
            if let Some(Call::Finished(finished)) = self.calls.get_mut(req_id)
                && finished
                    .sent_at
                    .is_some_and(|at| now.at >= at + REPEAT_AFTER)
            {
                finished.sent_at = None;
                self.outbox.result(req_id);
            }
        }
    }

    fn start_result(&mut self, now: Now, req_id: &ReqId, payload: &str) {
        if let Some(Call::Finished(finished)) = self.calls.get_mut(req_id) {
            finished.sent_at = Some(now.at);
        }
        self.outbox.start(|agent_id, parts| {
            let put = |draft| parts.push_back(draft);
            Draft::write_text(agent_id, Some(req_id), (Kind::Result, payload), put);
        });
    }
}

/// A word that something was dropped weighs little; dropping it would say nothing.
fn is_word(finished: &Finished) -> bool {
    finished.bytes <= WORD_BYTES
}
