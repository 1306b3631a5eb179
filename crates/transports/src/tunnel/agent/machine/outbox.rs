//! What waits to be sent, in three lanes: short answers go first, a payload that goes in parts is not
//! interrupted by another, and CHUNKs and RESULTs keep their order. Bounded in CHUNK bytes.

use std::collections::{HashSet, VecDeque};

use crate::tunnel::frame::{Chunk, Draft, Payload};
use crate::tunnel::id::{AgentId, ReqId};
use crate::tunnel::limits::IN_FLIGHT;

/// Short answers that wait, above which nothing is heard: a bridge that does not read is not answered.
const ANSWERS: usize = 4 * IN_FLIGHT;

/// What keeps its order.
#[derive(Debug)]
pub(super) enum Item {
    Chunk(Draft),
    Result(ReqId),
    /// A RESULT that was read from disk.
    Loaded(ReqId, String),
}

#[derive(Debug)]
pub(super) struct Outbox {
    agent_id: AgentId,
    answers: VecDeque<Draft>,
    /// The rest of a payload whose first part was sent.
    parts: VecDeque<Draft>,
    /// TOOLS are to be told.
    tools: bool,
    backlog: VecDeque<Item>,
    /// A RESULT whose turn it is and that is being read from disk; the backlog waits for it.
    reading: Option<ReqId>,
    chunk_bytes: usize,
}

impl Outbox {
    pub(super) fn new(agent_id: AgentId) -> Self {
        Self {
            agent_id,
            answers: VecDeque::new(),
            parts: VecDeque::new(),
            tools: false,
            backlog: VecDeque::new(),
            reading: None,
            chunk_bytes: 0,
        }
    }

    pub(super) fn chunk_bytes(&self) -> usize {
        self.chunk_bytes
    }

    pub(super) fn is_congested(&self) -> bool {
        self.answers.len() >= ANSWERS
    }

    pub(super) fn is_empty(&self) -> bool {
        let waits = self.tools || self.reading.is_some();
        self.answers.is_empty() && self.parts.is_empty() && self.backlog.is_empty() && !waits
    }

    /// A line begins or is gone: what was said to it alone is void. CHUNKs wait for the next one.
    pub(super) fn begin(&mut self) {
        self.answers.clear();
        self.parts.clear();
        self.tools = false;
        self.reading = None;
        self.backlog.retain(|item| matches!(item, Item::Chunk(_)));
    }

    /// A short answer.
    pub(super) fn say(&mut self, req_id: Option<&ReqId>, payload: &Payload) {
        let answers = &mut self.answers;
        Draft::write(&self.agent_id, req_id, payload, |draft| {
            answers.push_back(draft);
        });
    }

    pub(super) fn tell_tools(&mut self) {
        self.tools = true;
    }

    /// Puts a CHUNK in line; gives it back when there is no room, unless it must go.
    pub(super) fn chunk(
        &mut self,
        req_id: &ReqId,
        chunk: Chunk,
        limit_bytes: Option<usize>,
    ) -> Result<(), Chunk> {
        let payload = Payload::Chunk(chunk);
        let mut made = None;
        Draft::write(&self.agent_id, Some(req_id), &payload, |draft| {
            made = Some(draft);
        });
        let Some(draft) = made else { return Ok(()) };
        let fits = limit_bytes.is_none_or(|limit| self.chunk_bytes + draft.len_bytes() <= limit);
        if let (false, Payload::Chunk(chunk)) = (fits, payload) {
            return Err(chunk);
        }
        self.chunk_bytes += draft.len_bytes();
        self.backlog.push_back(Item::Chunk(draft));
        Ok(())
    }

    /// Puts a RESULT in line, behind its CHUNKs.
    pub(super) fn result(&mut self, req_id: &ReqId) {
        self.backlog.push_back(Item::Result(req_id.clone()));
    }

    /// Puts a RESULT in line whose turn was already.
    pub(super) fn result_first(&mut self, req_id: &ReqId) {
        self.backlog.push_front(Item::Result(req_id.clone()));
    }

    /// The backlog waits for this RESULT to be read.
    pub(super) fn reads(&mut self, req_id: &ReqId) {
        self.reading = Some(req_id.clone());
    }

    /// It was read, or could not be. False when nothing waits for it (any more).
    pub(super) fn was_read(&mut self, req_id: &ReqId) -> bool {
        self.reading.take_if(|reading| reading == req_id).is_some()
    }

    /// A RESULT came from disk; its turn was already.
    pub(super) fn loaded(&mut self, req_id: &ReqId, payload: String) {
        let item = Item::Loaded(req_id.clone(), payload);
        self.backlog.push_front(item);
    }

    /// Takes out whatever waits of these calls.
    pub(super) fn forget(&mut self, calls: &HashSet<&ReqId>) {
        self.reading.take_if(|reading| calls.contains(&*reading));
        let mut freed = 0;
        self.backlog.retain(|item| {
            let (req_id, bytes) = match item {
                Item::Chunk(draft) => (draft.req_id(), draft.len_bytes()),
                Item::Result(req_id) | Item::Loaded(req_id, _) => (Some(req_id), 0),
            };
            let keep = req_id.is_none_or(|req_id| !calls.contains(req_id));
            if !keep {
                freed += bytes;
            }
            keep
        });
        self.chunk_bytes -= freed;
    }

    /// The next short answer, or the next part of what has begun.
    pub(super) fn begun(&mut self) -> Option<Draft> {
        self.answers.pop_front().or_else(|| self.parts.pop_front())
    }

    /// Whether TOOLS are to be told now.
    pub(super) fn take_tools(&mut self) -> bool {
        std::mem::take(&mut self.tools)
    }

    /// The next of what keeps its order.
    pub(super) fn next_item(&mut self) -> Option<Item> {
        if self.reading.is_some() {
            return None;
        }
        let item = self.backlog.pop_front()?;
        if let Item::Chunk(draft) = &item {
            self.chunk_bytes -= draft.len_bytes();
        }
        Some(item)
    }

    /// Begins a payload that may go in parts.
    pub(super) fn start(&mut self, write: impl FnOnce(&AgentId, &mut VecDeque<Draft>)) {
        write(&self.agent_id, &mut self.parts);
    }
}
