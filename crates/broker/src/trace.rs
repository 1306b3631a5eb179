//! W3C trace context: read from the caller, minted when absent, sent upstream in `_meta`.

use std::fmt::{self, Write as _};

use uuid::Uuid;

/// The trace one request belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trace {
    id: u128,
    span: u64,
    sampled: bool,
    state: Option<String>,
}

/// A trace id as text, and `traceparent` with it.
const TRACE_ID_BYTES: usize = 32;
const TRACEPARENT_BYTES: usize = 55;
/// Longest `tracestate` carried on; the W3C recommendation for what must be propagated.
pub const MAX_TRACESTATE_BYTES: usize = 512;

impl Trace {
    /// A new trace. Its id rises with time (and is random in its last seven bytes, as W3C wants them): the
    /// ledger's index over traces then grows at its end instead of everywhere.
    #[must_use]
    pub fn mint() -> Self {
        Self {
            id: Uuid::now_v7().as_u128(),
            span: rand::random::<u64>().max(1),
            sampled: true,
            state: None,
        }
    }

    /// Joins the trace of a `traceparent` header (and its `tracestate`); `None` when it is malformed,
    /// in which case W3C wants a new trace.
    #[must_use]
    pub fn join(traceparent: &str, tracestate: Option<&str>) -> Option<Self> {
        let mut parts = traceparent.trim().split('-');
        let (version, trace, span, flags) =
            (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        let version = hex(version, 2)?;
        // Version 00 has exactly four parts; later versions may add more.
        if version == 0xff || (version == 0 && parts.next().is_some()) {
            return None;
        }
        let trace = hex(trace, 32).filter(|id| *id != 0)?;
        hex(span, 16).filter(|id| *id != 0)?;
        let flags = hex(flags, 2)?;
        Some(Self {
            id: trace,
            span: rand::random::<u64>().max(1),
            sampled: flags & 1 == 1,
            state: tracestate
                .filter(|state| state.len() <= MAX_TRACESTATE_BYTES)
                .map(str::to_owned),
        })
    }

    /// The trace id, 32 hex digits: `X-Trace-Id`, and `trace_id` in every answer.
    #[must_use]
    pub fn id(&self) -> String {
        let mut text = String::with_capacity(TRACE_ID_BYTES);
        let _ = write!(text, "{:032x}", self.id);
        text
    }

    /// The trace id as a number.
    #[must_use]
    pub fn number(&self) -> u128 {
        self.id
    }

    /// `traceparent` as sent upstream, with our own span as the parent.
    #[must_use]
    pub fn traceparent(&self) -> String {
        let mut text = String::with_capacity(TRACEPARENT_BYTES);
        // Writing to a String cannot fail.
        let _ = write!(text, "{self}");
        text
    }

    /// `tracestate` as the caller gave it.
    #[must_use]
    pub fn tracestate(&self) -> Option<&str> {
        self.state.as_deref()
    }
}

impl fmt::Display for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let flags = u8::from(self.sampled);
        write!(f, "00-{:032x}-{:016x}-{flags:02x}", self.id, self.span)
    }
}

/// Exactly `digits` lower-case hex digits, as W3C wants them.
fn hex(text: &str, digits: usize) -> Option<u128> {
    let lower = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
    let well_formed = text.len() == digits && text.bytes().all(lower);
    well_formed.then(|| u128::from_str_radix(text, 16).ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn a_traceparent_keeps_its_trace_and_gets_our_span() {
        let trace = Trace::join(PARENT, Some("vendor=1")).unwrap();
        assert_eq!(trace.id(), "4bf92f3577b34da6a3ce929d0e0e4736");
        assert_eq!(trace.tracestate(), Some("vendor=1"));
        let sent = trace.traceparent();
        assert!(sent.starts_with("00-4bf92f3577b34da6a3ce929d0e0e4736-"));
        assert!(sent.ends_with("-01") && !sent.contains("00f067aa0ba902b7"));
        assert_eq!(Trace::join(&sent, None).unwrap().id(), trace.id());
    }

    #[test]
    fn minted_traces_rise_and_differ() {
        let ids: Vec<_> = (0..1000).map(|_| Trace::mint().id()).collect();
        assert!(ids.is_sorted_by(|one, next| one < next));
        assert!(ids.iter().all(|id| id.len() == 32));
    }

    #[test]
    fn a_malformed_traceparent_is_no_trace() {
        let zero_trace = format!("00-{}-00f067aa0ba902b7-01", "0".repeat(32));
        let zero_span = format!("00-{}-{}-01", "a".repeat(32), "0".repeat(16));
        for bad in [
            "",
            "00",
            "garbage",
            &PARENT.to_uppercase(),
            &format!("{PARENT}-x"),
            &PARENT.replace("00-4", "ff-4"),
            &zero_trace,
            &zero_span,
        ] {
            assert_eq!(Trace::join(bad, None), None, "{bad}");
        }
        assert!(Trace::join(&format!("{}-more", PARENT.replace("00-4", "01-4")), None).is_some());
    }
}
