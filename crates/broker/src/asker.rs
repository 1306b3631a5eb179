//! Who asks and under which trace: what every operation is told besides its request.

use sessions::{Caller, Lane};

use crate::principal::Principal;
use crate::trace::Trace;

/// The authenticated caller of one request, and the trace the request belongs to.
#[derive(Debug, Clone)]
pub struct Asker {
    /// Who asks; always from the credential.
    pub principal: Principal,
    /// The trace of this request.
    pub trace: Trace,
}

impl Asker {
    /// A caller under a fresh trace.
    #[must_use]
    pub fn new(principal: Principal) -> Self {
        Self {
            principal,
            trace: Trace::mint(),
        }
    }

    /// As sessions know the asker, in one run or conversation.
    pub(crate) fn caller(&self, lane: &Lane) -> Caller {
        Caller {
            user: self.principal.user.clone(),
            workspace: self.principal.workspace.clone(),
            lane: lane.clone(),
        }
    }
}
