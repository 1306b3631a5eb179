//! One call: from the moment it is taken until its end is settled.

use std::collections::{HashSet, VecDeque};
use std::time::Duration;

use super::{Ask, Invoke, Now, Payload, Stream};
use crate::tunnel::frame::{CallResult, Chunk};
use crate::tunnel::id::ReqId;

/// Ended calls remembered per agent, so that a RESULT that comes twice costs no question.
const RECENT: usize = 512;

/// Waits for a call. Told from inside the machine, so it must not block.
pub trait Waiter {
    /// Something came before the end.
    fn told(&self, told: Told);
    /// The end; nothing is told after it.
    fn ended(self, ending: Ending);
}

/// What comes before a call's end.
#[derive(Debug)]
pub enum Told {
    /// The agent has it.
    Acked,
    /// It says something.
    Chunk(Chunk),
}

/// How a call ended.
#[derive(Debug)]
pub enum Ending {
    /// With the agent's RESULT.
    Result(CallResult),
    /// The agent lost it; it may have run.
    Lost {
        /// In words.
        detail: &'static str,
    },
    /// It was cancelled before the agent got it.
    NotSent,
}

/// How far a call has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// Never written to a connection.
    Waiting,
    /// Written; whether it arrived is not known.
    Written,
    /// The agent has it.
    Acked,
    /// Ended; its end is not settled.
    Over,
}

#[derive(Debug)]
pub(super) struct Call<W> {
    pub(super) phase: Phase,
    pub(super) waiter: Option<W>,
    /// Kept until the agent has it.
    pub(super) invoke: Option<Box<Invoke>>,
    pub(super) deadline: Duration,
    pub(super) acknowledge: bool,
    pub(super) cancelled: Option<Box<str>>,
    /// It ended by a RESULT, which is to be acknowledged.
    pub(super) has_result: bool,
}

impl<W> Call<W> {
    pub(super) fn asked(now: Now, ask: Ask, waiter: W) -> Self {
        let invoke = Invoke {
            server: ask.server,
            method: ask.method,
            params: ask.params,
            timeout_ms: 0,
            deadline_ts: 0,
            stream: Stream {
                enabled: ask.stream,
            },
            isolation_key: ask.isolation_key,
        };
        Self {
            phase: Phase::Waiting,
            waiter: Some(waiter),
            invoke: Some(Box::new(invoke)),
            deadline: now.at.saturating_add(ask.timeout),
            acknowledge: ask.acknowledge,
            cancelled: None,
            has_result: false,
        }
    }

    pub(super) fn attended(now: Now, timeout: Duration, waiter: W) -> Self {
        Self {
            phase: Phase::Acked,
            waiter: Some(waiter),
            invoke: None,
            deadline: now.at.saturating_add(timeout),
            acknowledge: false,
            cancelled: None,
            has_result: false,
        }
    }

    /// Whether it has not ended.
    pub(super) fn is_open(&self) -> bool {
        self.phase != Phase::Over
    }

    /// The agent has it: what was kept for sending it again may go.
    pub(super) fn acked(&mut self) -> bool {
        let news = matches!(self.phase, Phase::Waiting | Phase::Written);
        if news {
            self.phase = Phase::Acked;
            self.invoke = None;
        }
        news
    }

    /// Its INVOKE, to be written now; given back by [`Call::take_back`].
    pub(super) fn written(&mut self, now: Now) -> Option<Payload> {
        if !matches!(self.phase, Phase::Waiting | Phase::Written) {
            return None;
        }
        let mut invoke = self.invoke.take()?;
        let left = self.deadline.saturating_sub(now.at);
        invoke.timeout_ms = u64::try_from(left.as_millis()).unwrap_or(u64::MAX);
        invoke.deadline_ts = now.unix_s.saturating_add(left.as_secs());
        self.phase = Phase::Written;
        Some(Payload::Invoke(invoke))
    }

    pub(super) fn take_back(&mut self, payload: Payload) {
        if let Payload::Invoke(invoke) = payload {
            self.invoke = Some(invoke);
        }
    }
}

/// The ids of calls that ended and were settled, the newest.
#[derive(Debug, Default)]
pub(super) struct Recent {
    known: HashSet<ReqId>,
    order: VecDeque<ReqId>,
}

impl Recent {
    pub(super) fn contains(&self, req_id: &str) -> bool {
        self.known.contains(req_id)
    }

    pub(super) fn insert(&mut self, req_id: ReqId) {
        if !self.known.insert(req_id.clone()) {
            return;
        }
        if self.order.len() == RECENT
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
        self.order.push_back(req_id);
    }
}
