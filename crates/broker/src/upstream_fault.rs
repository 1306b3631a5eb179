//! What an upstream's failure means to a caller: the one place where facts of `transports` and `sessions`
//! become codes. No wildcard arm: a new way to fail must be placed here.

use std::sync::Arc;
use std::time::Duration;

use catalog::FetchError;
use sessions::OpenError;
use transports::{ConnectError, RequestError};

use crate::definition::Redactions;
use crate::error::{BrokerError, ErrorCode, ExecutedWire, Fault, UpstreamRpc};

/// Lines of stderr shown in a hint; the whole ring is in `inspect_session`.
const HINT_STDERR_LINES: usize = 8;
/// Longest text of an upstream shown in a fault, in bytes: it is untrusted and may be a page of HTML.
const MAX_UPSTREAM_TEXT_BYTES: usize = 600;

/// What was asked of the upstream; decides what some of its errors mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exchange {
    /// `tools/call`.
    Tool {
        /// After the owner's overrides.
        read_only: bool,
    },
    /// `resources/read`.
    Resource,
    /// `prompts/get`.
    Prompt,
    /// `completion/complete`.
    Completion,
    /// `tasks/*`.
    Task {
        /// It only looks.
        read_only: bool,
    },
}

impl Exchange {
    /// Nothing can have happened that matters.
    pub(crate) fn read_only(self) -> bool {
        match self {
            Self::Tool { read_only } | Self::Task { read_only } => read_only,
            Self::Resource | Self::Prompt | Self::Completion => true,
        }
    }
}

/// Whose failure it is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Upstream<'a> {
    /// The server's name.
    pub server: &'a str,
    /// Its secrets, taken out of its words.
    pub redactions: &'a Redactions,
}

impl Upstream<'_> {
    /// No session could be had: nothing was sent.
    pub(crate) fn not_opened(self, error: &OpenError) -> BrokerError {
        match error {
            OpenError::Connect(source) => self.not_connected(source),
            OpenError::BackingOff {
                retry_after,
                source,
            } => {
                let mut fault = self.not_connected(source);
                fault.retry_after = Some(*retry_after);
                fault
            }
            OpenError::Timeout { after } => self.fault(
                ErrorCode::UpstreamTimeout,
                format!("the session was not ready within {} ms", after.as_millis()),
            ),
            OpenError::TooMany { limit, own } => {
                let code = if *own {
                    ErrorCode::QuotaExceeded
                } else {
                    ErrorCode::Overloaded
                };
                let mut fault = self.fault(code, format!("{limit} sessions are open already"));
                fault.hint = Some("close a session that is no longer needed".to_owned());
                fault.retry_after = Some(Duration::from_secs(1));
                fault
            }
            OpenError::Draining => Fault::new(
                ErrorCode::ShuttingDown,
                "the bridge is shutting down; nothing was sent",
            ),
        }
    }

    /// The handshake failed.
    pub(crate) fn not_connected(self, error: &ConnectError) -> BrokerError {
        match error {
            ConnectError::Spawn { detail, stderr } => {
                let mut fault = self.fault(ErrorCode::UpstreamUnreachable, self.words(detail));
                fault.hint = self.stderr_hint(stderr);
                fault
            }
            ConnectError::Unreachable { detail } => {
                self.fault(ErrorCode::UpstreamUnreachable, self.words(detail))
            }
            ConnectError::NeedsAuth { challenge } => self.needs_auth(challenge.as_deref()),
            ConnectError::Protocol { detail } => {
                self.fault(ErrorCode::UpstreamProtocolError, self.words(detail))
            }
            ConnectError::Timeout { step, after } => self.fault(
                ErrorCode::UpstreamUnreachable,
                format!("no answer to {step} within {} ms", after.as_millis()),
            ),
            ConnectError::AgentOffline { agent } => self.agent_offline(agent),
        }
    }

    /// A request got no result.
    pub(crate) fn not_answered(self, error: &RequestError, exchange: Exchange) -> BrokerError {
        let mut fault = match error {
            RequestError::Rpc {
                code,
                message,
                data,
            } => {
                let mut fault = self.answered_error(*code, message, exchange);
                fault.rpc = Some(Arc::new(UpstreamRpc {
                    code: *code,
                    message: message.clone(),
                    data: data.clone(),
                }));
                fault
            }
            RequestError::Timeout { after } => self.timed_out(*after, exchange),
            RequestError::Protocol { detail } => {
                self.fault(ErrorCode::UpstreamProtocolError, self.words(detail))
            }
            RequestError::TooLarge { limit_bytes } => self.fault(
                ErrorCode::ResultTooLarge,
                format!("the answer is larger than {limit_bytes} bytes"),
            ),
            RequestError::Exited { detail, stderr, .. } => {
                let mut fault = self.fault(ErrorCode::UpstreamExited, self.words(detail));
                fault.hint = self.stderr_hint(stderr);
                fault
            }
            RequestError::Unreachable { detail } => {
                self.fault(ErrorCode::UpstreamUnreachable, self.words(detail))
            }
            RequestError::NeedsAuth { challenge } => self.needs_auth(challenge.as_deref()),
            RequestError::Overloaded { limit } => {
                let mut fault = self.fault(
                    ErrorCode::Overloaded,
                    format!("{limit} requests are in flight on this session already"),
                );
                fault.retry_after = Some(Duration::from_secs(1));
                fault
            }
            RequestError::Closed { .. } => self.fault(
                ErrorCode::UpstreamExited,
                "the session was closed before the answer came".to_owned(),
            ),
            RequestError::AgentOffline { agent } => self.agent_offline(agent),
            RequestError::Disconnected { detail } => {
                self.fault(ErrorCode::OutcomeUnknown, self.words(detail))
            }
        };
        if !matches!(error, RequestError::Rpc { .. }) {
            fault.executed = error.executed().into();
        }
        fault
    }

    /// A listing failed.
    pub(crate) fn not_listed(self, error: &FetchError) -> BrokerError {
        let mut fault = match error {
            FetchError::Request(source) => self.not_answered(source, Exchange::Completion),
            FetchError::Malformed { detail } => {
                self.fault(ErrorCode::UpstreamProtocolError, self.words(detail))
            }
        };
        // Listing has no effect, whatever became of it.
        fault.executed = ExecutedWire::No;
        fault
    }

    /// The deadline passed after the request was sent.
    pub(crate) fn timed_out(self, after: Duration, exchange: Exchange) -> BrokerError {
        let code = if exchange.read_only() {
            ErrorCode::UpstreamTimeout
        } else {
            ErrorCode::OutcomeUnknown
        };
        let mut fault = self.fault(code, format!("no answer within {} ms", after.as_millis()));
        fault.executed = ExecutedWire::Unknown;
        fault
    }

    /// The deadline passed before anything was sent.
    pub(crate) fn too_late_to_send(self) -> BrokerError {
        self.fault(
            ErrorCode::UpstreamTimeout,
            "the deadline passed before the call was sent".to_owned(),
        )
    }

    /// A JSON-RPC error. The four codes by which a server refuses a request it did not start say that
    /// nothing was executed; `-32602` is also what servers answer to arguments or names they do not take.
    fn answered_error(self, code: i64, message: &str, exchange: Exchange) -> BrokerError {
        let refused = matches!(code, -32700 | -32600 | -32601 | -32602);
        let which = match (code, exchange) {
            (-32002 | -32602, Exchange::Resource) | (-32602, Exchange::Task { .. }) => {
                ErrorCode::ResourceNotFound
            }
            (-32602, Exchange::Tool { .. } | Exchange::Prompt | Exchange::Completion) => {
                ErrorCode::InvalidArguments
            }
            // URL elicitation (2025-11-25): the user must visit a page of the server first.
            (-32042, _) => ErrorCode::UpstreamNeedsAuth,
            _ => ErrorCode::UpstreamProtocolError,
        };
        let mut fault = self.fault(which, self.words(message));
        fault.upstream = Some((self.server.to_owned(), Some(code)));
        let harmless = refused || which == ErrorCode::ResourceNotFound || code == -32042;
        fault.executed = if harmless {
            ExecutedWire::No
        } else {
            ExecutedWire::Unknown
        };
        fault
    }

    fn agent_offline(self, agent: &str) -> BrokerError {
        self.fault(
            ErrorCode::AgentOffline,
            format!("the agent `{agent}` is not connected"),
        )
    }

    fn needs_auth(self, challenge: Option<&str>) -> BrokerError {
        let mut fault = self.fault(
            ErrorCode::UpstreamNeedsAuth,
            "the server asks for credentials".to_owned(),
        );
        fault.hint = challenge.map(|text| self.words(text));
        fault.challenge = challenge.map(str::to_owned);
        fault
    }

    fn fault(self, code: ErrorCode, detail: String) -> BrokerError {
        let mut fault = Fault::new(code, detail);
        fault.upstream = Some((self.server.to_owned(), None));
        fault
    }

    /// The upstream's words: bounded, without its secrets, without control characters.
    pub(crate) fn words(self, text: &str) -> String {
        let clean = self.redactions.clean(text);
        let printable: String = clean
            .chars()
            .map(|c| if c.is_control() { ' ' } else { c })
            .collect();
        match printable
            .char_indices()
            .find(|(at, _)| *at >= MAX_UPSTREAM_TEXT_BYTES)
        {
            Some((at, _)) => format!("{}…", &printable[..at]),
            None => printable,
        }
    }

    fn stderr_hint(self, stderr: &[String]) -> Option<String> {
        let from = stderr.len().saturating_sub(HINT_STDERR_LINES);
        let lines: Vec<String> = stderr[from..].iter().map(|line| self.words(line)).collect();
        (!lines.is_empty()).then(|| format!("its last words on stderr: {}", lines.join(" | ")))
    }
}

#[cfg(test)]
mod tests {
    use transports::Executed;

    use super::*;

    const WRITE: Exchange = Exchange::Tool { read_only: false };
    const READ: Exchange = Exchange::Tool { read_only: true };

    fn upstream(redactions: &Redactions) -> Upstream<'_> {
        Upstream {
            server: "s",
            redactions,
        }
    }

    fn rpc(code: i64, exchange: Exchange) -> (ErrorCode, ExecutedWire) {
        let error = RequestError::Rpc {
            code,
            message: "no".to_owned(),
            data: None,
        };
        let none = Redactions::default();
        let fault = upstream(&none).not_answered(&error, exchange);
        assert_eq!(fault.upstream, Some(("s".to_owned(), Some(code))));
        (fault.code, fault.executed)
    }

    #[test]
    fn a_server_that_refuses_a_request_has_executed_nothing() {
        assert_eq!(
            rpc(-32602, WRITE),
            (ErrorCode::InvalidArguments, ExecutedWire::No)
        );
        for code in [-32700, -32600, -32601] {
            assert_eq!(
                rpc(code, WRITE),
                (ErrorCode::UpstreamProtocolError, ExecutedWire::No)
            );
        }
        assert_eq!(
            rpc(-32603, WRITE),
            (ErrorCode::UpstreamProtocolError, ExecutedWire::Unknown)
        );
        assert_eq!(
            rpc(-32002, Exchange::Resource),
            (ErrorCode::ResourceNotFound, ExecutedWire::No)
        );
    }

    #[test]
    fn a_passed_deadline_leaves_the_outcome_of_a_write_unknown() {
        let none = Redactions::default();
        let error = RequestError::Timeout {
            after: Duration::from_secs(1),
        };
        assert_eq!(
            upstream(&none).not_answered(&error, WRITE).code,
            ErrorCode::OutcomeUnknown
        );
        assert_eq!(
            upstream(&none).not_answered(&error, READ).code,
            ErrorCode::UpstreamTimeout
        );
    }

    #[test]
    fn whether_it_was_written_decides_executed() {
        let none = Redactions::default();
        for (executed, wire) in [
            (Executed::No, ExecutedWire::No),
            (Executed::Unknown, ExecutedWire::Unknown),
        ] {
            let fault = upstream(&none).not_answered(&RequestError::Closed { executed }, WRITE);
            assert_eq!(
                (fault.code, fault.executed),
                (ErrorCode::UpstreamExited, wire)
            );
        }
    }

    #[test]
    fn a_spawn_failure_tells_the_last_words_of_the_process() {
        let none = Redactions::default();
        let error = OpenError::Connect(Arc::new(ConnectError::Spawn {
            detail: "nope: not found".to_owned(),
            stderr: (0..20).map(|n| format!("line {n}")).collect(),
        }));
        let fault = upstream(&none).not_opened(&error);
        assert_eq!(
            (fault.code, fault.executed),
            (ErrorCode::UpstreamUnreachable, ExecutedWire::No)
        );
        let hint = fault.hint.unwrap();
        assert!(
            hint.contains("line 19") && !hint.contains("line 11"),
            "{hint}"
        );
    }

    #[test]
    fn words_of_an_upstream_are_bounded_and_printable() {
        let none = Redactions::default();
        let text = upstream(&none).words(&format!("a\u{1b}[31m\n{}", "é".repeat(2000)));
        assert!(text.len() < MAX_UPSTREAM_TEXT_BYTES + 8 && !text.contains('\u{1b}'));
    }
}
