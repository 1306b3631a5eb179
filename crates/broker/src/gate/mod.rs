//! Whether a call may begin now: rates, places in flight and the server's circuit. Memory only; a permit gives its
//! place back when dropped. Never looks at what a call says.

mod accounts;
mod breakers;
mod circuit;
mod rates;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sessions::{UserId, WorkspaceId};
use transports::{Params, ServerName};

use self::accounts::{Books, Payers};
pub use self::breakers::CircuitView;
use self::breakers::{Breakers, Watch};
pub use self::rates::RateStanding;
use crate::error::{BrokerError, ErrorCode, Fault};
use crate::limits::CallLimits;
use crate::principal::Principal;
use crate::registry::Server;

/// Which server, as its calls are counted: each agent of a user has its own behind the same name.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct ServerKey {
    workspace: WorkspaceId,
    name: ServerName,
    incarnation: Option<u64>,
}

impl ServerKey {
    fn of(server: &Server) -> Self {
        Self {
            workspace: server.workspace.clone(),
            name: server.name.clone(),
            incarnation: server.via.as_ref().map(|via| via.incarnation),
        }
    }
}

/// The bytes of a request's parameters.
pub(crate) fn size_bytes(params: &Params) -> usize {
    params.0.iter().map(|(_, value)| value.get().len()).sum()
}

/// The counters.
#[derive(Debug)]
pub(crate) struct Gate {
    books: Mutex<Open>,
    breakers: Arc<Breakers>,
    gauge: metrics::Gauge,
}

#[derive(Debug)]
struct Open {
    books: Books,
    closed: bool,
}

/// One place in flight.
#[derive(Debug)]
pub(crate) struct Permit {
    gate: Arc<Gate>,
    payers: Payers,
    watch: Option<Watch>,
}

impl Gate {
    pub(crate) fn new(limits: CallLimits, gauge: metrics::Gauge) -> Arc<Self> {
        Arc::new(Self {
            books: Mutex::new(Open {
                books: Books::new(limits),
                closed: false,
            }),
            breakers: Breakers::new(limits.breaker),
            gauge,
        })
    }

    fn open(&self) -> MutexGuard<'_, Open> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a place for a call of so many bytes. Refused when a rate or the places are used up, while the
    /// server's circuit is open, and after [`Gate::close`].
    pub(crate) fn enter(
        self: &Arc<Self>,
        who: &Principal,
        server: &Server,
        bytes: usize,
    ) -> Result<Permit, BrokerError> {
        let payers = Payers {
            user: who.user.clone(),
            workspace: who.workspace.clone(),
            server: ServerKey::of(server),
            bytes,
        };
        let mut open = self.open();
        if open.closed {
            let detail = "the bridge is shutting down; nothing was sent";
            let mut fault = Fault::new(ErrorCode::ShuttingDown, detail);
            fault.retry_after = Some(Duration::from_secs(1));
            return Err(fault);
        }
        open.books.enter(&payers)?;
        drop(open);
        self.gauge.increment(1.0);
        // From here on the place is given back whatever happens.
        let mut permit = Permit {
            gate: Arc::clone(self),
            payers,
            watch: None,
        };
        permit.watch = Some(self.breakers.admit(&permit.payers.server)?);
        Ok(permit)
    }

    /// Whether a refusal is to be audited. All are but those of a flood, of which one a second is.
    pub(crate) fn audits(&self, user: &UserId, fault: &Fault) -> bool {
        let of_flood = matches!(
            fault.code,
            ErrorCode::RateLimited
                | ErrorCode::QuotaExceeded
                | ErrorCode::Overloaded
                | ErrorCode::CircuitOpen
        );
        !of_flood || self.open().books.tells_refusal(user)
    }

    /// How the buckets a caller may know of stand.
    pub(crate) fn standings(
        &self,
        user: &UserId,
        workspace: &WorkspaceId,
    ) -> [Option<RateStanding>; 2] {
        self.open().books.standings(user, workspace)
    }

    /// How a server's circuit stands.
    pub(crate) fn circuit(&self, server: &Server) -> CircuitView {
        self.breakers.view(&ServerKey::of(server))
    }

    /// Lets nobody in any more.
    pub(crate) fn close(&self) {
        self.open().closed = true;
    }

    /// Whether [`Gate::close`] was said.
    pub(crate) fn is_closed(&self) -> bool {
        self.open().closed
    }

    /// Places taken now.
    #[cfg(test)]
    pub(crate) fn in_flight(&self) -> usize {
        self.open().books.in_flight()
    }
}

impl Permit {
    /// Who is to hear what the call came to; once.
    pub(crate) fn take_watch(&mut self) -> Option<Watch> {
        self.watch.take()
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.gate.open().books.leave(&self.payers);
        self.gate.gauge.decrement(1.0);
    }
}

#[cfg(test)]
mod tests;
