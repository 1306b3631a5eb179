//! The circuits of all servers. Only a server with failures has one here, so that calls of healthy servers touch
//! no lock.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use foldhash::HashMap;
use tokio::time::Instant;

use super::ServerKey;
use super::circuit::{Circuit, Verdict};
use crate::error::{BrokerError, ErrorCode, Fault};
use crate::limits::BreakerLimits;
use crate::operations::calls::ToolResult;

/// Circuits kept. With more servers failing at once, those that are still closed are forgotten, and then no more
/// are begun.
const MAX_CIRCUITS: usize = 10_000;
/// A shorter deadline says more of the caller than of the server.
const SHORTEST_TIMEOUT: Duration = Duration::from_secs(1);

/// A server's circuit, for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CircuitView {
    /// `closed`, `open` or `half_open`.
    pub state: &'static str,
    /// When calls may pass again.
    pub retry_after: Option<Duration>,
}

/// The circuits.
#[derive(Debug)]
pub(super) struct Breakers {
    limits: BreakerLimits,
    /// How many there are; read without the lock.
    known: AtomicUsize,
    circuits: Mutex<HashMap<ServerKey, Circuit>>,
    open: metrics::Gauge,
    opened: metrics::Counter,
}

impl Breakers {
    pub(super) fn new(limits: BreakerLimits) -> Arc<Self> {
        metrics::describe_gauge!("paperbot_circuits_open", "Servers whose calls are refused");
        Arc::new(Self {
            limits,
            known: AtomicUsize::new(0),
            circuits: Mutex::default(),
            open: metrics::gauge!("paperbot_circuits_open"),
            opened: metrics::counter!("paperbot_circuits_opened_total"),
        })
    }

    fn circuits(&self) -> MutexGuard<'_, HashMap<ServerKey, Circuit>> {
        self.circuits.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets a call through, or `circuit_open`.
    pub(super) fn admit(self: &Arc<Self>, key: &ServerKey) -> Result<Watch, BrokerError> {
        let mut probe = false;
        if self.known.load(Ordering::Acquire) > 0 {
            let mut circuits = self.circuits();
            if let Some(circuit) = circuits.remove(key) {
                let (circuit, passed) = circuit.admit(Instant::now());
                circuits.insert(key.clone(), circuit);
                probe = passed.map_err(|wait| open(key, wait))?;
            }
        }
        Ok(Watch {
            breakers: Arc::clone(self),
            key: key.clone(),
            probe,
        })
    }

    /// What a call came to; how the circuit stands when that opened or closed it.
    fn note(&self, key: &ServerKey, (verdict, probe): (Verdict, bool)) -> Option<CircuitView> {
        let unknown = self.known.load(Ordering::Acquire) == 0;
        let quiet = unknown && verdict != Verdict::Failed;
        if self.limits.failures == 0 || quiet {
            return None;
        }
        let now = Instant::now();
        let mut circuits = self.circuits();
        if circuits.len() >= MAX_CIRCUITS && !circuits.contains_key(key) {
            circuits.retain(|_, circuit| circuit.is_open());
            if circuits.len() >= MAX_CIRCUITS {
                return None;
            }
        }
        let before = circuits.remove(key).unwrap_or_else(Circuit::closed);
        let was_open = before.is_open();
        let (was, after) = (
            before.name(),
            before.after((verdict, probe), now, &self.limits),
        );
        let (is_open, name) = (after.is_open(), after.name());
        let retry_after = after.wait(now);
        if !after.is_forgettable(now, &self.limits) {
            circuits.insert(key.clone(), after);
        }
        self.known.store(circuits.len(), Ordering::Release);
        drop(circuits);
        match (was_open, is_open) {
            (false, true) => self.open.increment(1.0),
            (true, false) => self.open.decrement(1.0),
            (false, false) | (true, true) => {}
        }
        if was != name && name == "open" {
            self.opened.increment(1);
        }
        if was == name {
            return None;
        }
        tracing::warn!(server.name = %key.name, circuit.was = was, circuit.now = name, "a server's circuit changed");
        Some(CircuitView {
            state: name,
            retry_after,
        })
    }

    pub(super) fn view(&self, key: &ServerKey) -> CircuitView {
        let circuits = self.circuits();
        let circuit = circuits.get(key);
        CircuitView {
            state: circuit.map_or("closed", Circuit::name),
            retry_after: circuit.and_then(|circuit| circuit.wait(Instant::now())),
        }
    }
}

fn open(key: &ServerKey, wait: Duration) -> BrokerError {
    let detail = format!(
        "{} failed too often; nothing is sent to it for now",
        key.name
    );
    let mut fault = Fault::new(ErrorCode::CircuitOpen, detail);
    fault.retry_after = Some(wait);
    fault.upstream = Some((key.name.to_string(), None));
    fault
}

/// Waits to hear what a call came to. Dropped without a word, the call says nothing of its server.
#[derive(Debug)]
pub(crate) struct Watch {
    breakers: Arc<Breakers>,
    key: ServerKey,
    probe: bool,
}

impl Watch {
    /// The call ended; `deadline`: how long it was given. How the circuit stands when that opened or closed it.
    pub(crate) fn note(
        mut self,
        outcome: &Result<ToolResult, BrokerError>,
        deadline: Duration,
    ) -> Option<CircuitView> {
        let verdict = verdict(outcome, (deadline, self.probe));
        let probe = std::mem::take(&mut self.probe);
        self.breakers.note(&self.key, (verdict, probe))
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        if self.probe {
            self.breakers.note(&self.key, (Verdict::Nothing, true));
        }
    }
}

/// Only what the server itself did counts: not what a tool says, not what a caller breaks off.
fn verdict(
    outcome: &Result<ToolResult, BrokerError>,
    (deadline, probe): (Duration, bool),
) -> Verdict {
    let Err(fault) = outcome else {
        return Verdict::Answered;
    };
    if fault.rpc.is_some() {
        return Verdict::Answered;
    }
    match fault.code {
        // The session waits before its next try: the probe was not sent.
        ErrorCode::UpstreamUnreachable if probe && fault.retry_after.is_some() => Verdict::Nothing,
        ErrorCode::UpstreamUnreachable
        | ErrorCode::UpstreamExited
        | ErrorCode::UpstreamProtocolError => Verdict::Failed,
        ErrorCode::UpstreamTimeout | ErrorCode::OutcomeUnknown if deadline >= SHORTEST_TIMEOUT => {
            Verdict::Failed
        }
        _ => Verdict::Nothing,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_faults_of_the_server_count() {
        let of = |code, seconds| {
            let outcome = Err(Fault::new(code, "x"));
            verdict(&outcome, (Duration::from_secs(seconds), false))
        };
        for code in [
            ErrorCode::UpstreamUnreachable,
            ErrorCode::UpstreamExited,
            ErrorCode::UpstreamProtocolError,
            ErrorCode::UpstreamTimeout,
            ErrorCode::OutcomeUnknown,
        ] {
            assert_eq!(of(code, 60), Verdict::Failed, "{code:?}");
        }
        for code in [
            ErrorCode::Cancelled,
            ErrorCode::AgentOffline,
            ErrorCode::QuotaExceeded,
            ErrorCode::UpstreamNeedsAuth,
            ErrorCode::ShuttingDown,
        ] {
            assert_eq!(of(code, 60), Verdict::Nothing, "{code:?}");
        }
        assert_eq!(of(ErrorCode::UpstreamTimeout, 0), Verdict::Nothing);
    }
}
