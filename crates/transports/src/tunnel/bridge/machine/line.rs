//! One connection of an agent, from HELLO_ACK to its end.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use super::Draft;
use crate::tunnel::frame::{Assembly, Hello, ResumeAnswer};
use crate::tunnel::id::ReqId;
use crate::tunnel::limits::{PING_EVERY, READ_DEADLINE};

/// A connection whose token was found good.
#[derive(Debug)]
pub struct Opening<'a> {
    /// Rises with every connection of this agent.
    pub epoch: u64,
    /// The connection's name.
    pub conn_session_id: Arc<str>,
    /// What the agent said.
    pub hello: &'a Hello,
    /// What the ledger says of the calls offered.
    pub resume: ResumeAnswer,
    /// Both ends are on this machine.
    pub local: bool,
    /// The last `seq` heard: HELLO and AUTH had theirs.
    pub seq_in: u64,
}

/// What waits to be sent.
#[derive(Debug)]
pub(super) enum Item {
    Draft(Draft),
    /// Written out when its turn comes, if it is still wanted then.
    Invoke(ReqId),
}

/// The calls the agent said it has.
#[derive(Debug)]
pub(super) struct Offered {
    calls: HashSet<ReqId>,
    /// It may have more.
    more: bool,
}

impl Offered {
    pub(super) fn names(&self, req_id: &str) -> bool {
        self.calls.contains(req_id)
    }

    /// Whether the agent said that it does not have this call.
    pub(super) fn lacks(&self, req_id: &str) -> bool {
        !self.more && !self.names(req_id)
    }
}

#[derive(Debug)]
pub(super) struct Line {
    pub(super) epoch: u64,
    pub(super) conn_session_id: Arc<str>,
    pub(super) local: bool,
    /// What waits to be sent; as many as calls are in flight, and a few for each frame heard.
    pub(super) queue: VecDeque<Item>,
    pub(super) seq_out: u64,
    pub(super) seq_in: u64,
    /// A frame could not be read, so its `seq` is not known either.
    pub(super) seq_unsure: bool,
    pub(super) bad: u32,
    pub(super) assembly: Assembly,
    pub(super) heard: Duration,
    pub(super) next_ping: Duration,
    pub(super) offered: Offered,
    /// Calls offered that HELLO_ACK cancelled or forgot and nobody here waits for: their RESULT is acknowledged. As
    /// many as were offered, at most.
    pub(super) dismissed: HashSet<ReqId>,
    /// No new calls: one of the sides leaves.
    pub(super) leaving: bool,
    pub(super) close_when_sent: Option<(u16, Box<str>)>,
}

impl Line {
    pub(super) fn new(now: Duration, opening: &Opening<'_>) -> Self {
        let offer = &opening.hello.resume;
        Self {
            epoch: opening.epoch,
            conn_session_id: Arc::clone(&opening.conn_session_id),
            local: opening.local,
            queue: VecDeque::new(),
            seq_out: 0,
            seq_in: opening.seq_in,
            seq_unsure: false,
            bad: 0,
            assembly: Assembly::default(),
            heard: now,
            next_ping: now + PING_EVERY,
            offered: Offered {
                calls: offer
                    .running
                    .iter()
                    .chain(&offer.results)
                    .cloned()
                    .collect(),
                more: offer.more,
            },
            dismissed: HashSet::new(),
            leaving: false,
            close_when_sent: None,
        }
    }

    /// When the line counts as dead.
    pub(super) fn silent_at(&self) -> Duration {
        self.heard + READ_DEADLINE
    }
}
