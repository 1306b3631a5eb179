//! Why a verb failed, its one line on stderr and its exit code. Never prints to stdout.

use std::io::{IsTerminal as _, Write as _};

use indexmap::IndexMap;
use serde_json::{Map, Value, json};

use crate::screen;

/// Members of the bridge's problem that are worth an agent's tokens, besides those every line has.
const CARRIED: [&str; 4] = ["errors", "upstream", "call_id", "retry_after_s"];

/// May the effect have happened? A caller decides on a retry from it alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Executed {
    /// Certainly not.
    No,
    /// Certainly.
    Yes,
    /// Nobody can tell.
    Unknown,
}

impl Executed {
    /// Reads the wire's word; one of a newer bridge tells nothing.
    #[must_use]
    pub(crate) fn parse(word: &str) -> Self {
        match word {
            "no" => Self::No,
            "yes" => Self::Yes,
            _ => Self::Unknown,
        }
    }

    fn word(self) -> &'static str {
        match self {
            Self::No => "no",
            Self::Yes => "yes",
            Self::Unknown => "unknown",
        }
    }
}

/// A verb's failure, whether the bridge's or our own.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Failure {
    /// From the bridge's closed list, or one of ours: `usage`, `bridge_unreachable`,
    /// `bridge_timeout`, `bridge_protocol`, `tool_error`, `local_io`, `not_well`.
    pub(crate) code: String,
    /// In words.
    pub(crate) message: String,
    /// What to do next.
    pub(crate) hint: Option<String>,
    /// The trace of the request that failed.
    pub(crate) trace_id: Option<String>,
    /// The same request may succeed later.
    pub(crate) retryable: bool,
    /// May the effect have happened?
    pub(crate) executed: Executed,
    /// The process's exit code.
    pub(crate) exit: u8,
    /// Further members of the line.
    pub(crate) more: Box<Map<String, Value>>,
}

impl Failure {
    fn local(code: &str, exit: u8, message: impl Into<String>) -> Self {
        Self {
            code: code.to_owned(),
            message: message.into(),
            hint: None,
            trace_id: None,
            retryable: false,
            executed: Executed::No,
            exit,
            more: Box::default(),
        }
    }

    /// The command line or a file named on it is wrong.
    #[must_use]
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::local("usage", 2, message)
    }

    /// A file or stream of this machine failed.
    #[must_use]
    pub(crate) fn local_io(what: &str, error: &std::io::Error) -> Self {
        Self::local("local_io", 1, format!("{what}: {error}"))
    }

    /// Whoever read stdout has enough: not a failure, but the end. Exit 0 and no line.
    #[must_use]
    pub(crate) fn reader_gone() -> Self {
        Self::local("reader_gone", 0, "the reader of stdout went away")
    }

    /// Nothing answers at the bridge's address.
    #[must_use]
    pub(crate) fn unreachable(address: &str, cause: &str) -> Self {
        let mut failure = Self::local(
            "bridge_unreachable",
            4,
            format!("no bridge at {address}: {cause}"),
        )
        .hint("start it with `paperbot-mcpd serve` (in the repository: `make run`), or name another with --url or PAPERBOT_URL");
        failure.retryable = true;
        failure
    }

    /// The bridge did not answer in time.
    #[must_use]
    pub(crate) fn bridge_timeout(waited_ms: u128) -> Self {
        Self::local(
            "bridge_timeout",
            8,
            format!("the bridge did not answer within {waited_ms} ms"),
        )
        .executed(Executed::Unknown)
    }

    /// What answered does not speak our protocol.
    #[must_use]
    pub(crate) fn protocol(message: impl Into<String>) -> Self {
        Self::local("bridge_protocol", 4, message)
            .executed(Executed::Unknown)
            .hint("is the address a PaperBot bridge of this version? `paperbot-mcp doctor` tells")
    }

    /// The tool ran and said it failed.
    #[must_use]
    pub(crate) fn tool_error(call_id: &str, trace_id: Option<String>) -> Self {
        let mut failure = Self::local("tool_error", 5, "the tool answered with an error (isError)")
            .executed(Executed::Yes)
            .traced(trace_id);
        failure.more.insert("call_id".to_owned(), json!(call_id));
        failure
    }

    /// Something a person should look at; only `doctor` and `server test` say so.
    #[must_use]
    pub(crate) fn not_well(exit: u8, message: impl Into<String>) -> Self {
        Self::local("not_well", exit, message)
    }

    /// A call that waits for no answer, in the words and with the code the bridge has for it.
    #[must_use]
    pub(crate) fn waits_for_nothing(call_id: &str, state: &str) -> Self {
        let code = "conflict";
        let message = format!("{call_id} waits for no answer; it is {state}");
        Self::local(code, exit_of(code), message)
    }

    /// Cancelled by the user.
    #[must_use]
    pub(crate) fn cancelled(message: impl Into<String>, executed: Executed) -> Self {
        Self::local("cancelled", 130, message).executed(executed)
    }

    /// Reads the bridge's problem body; `None` when it is none.
    #[must_use]
    pub(crate) fn from_problem(problem: &Value) -> Option<Self> {
        let text = |name: &str| problem.get(name).and_then(Value::as_str);
        let code = text("code")?;
        let message = text("detail").or_else(|| text("title")).unwrap_or(code);
        let mut failure = Self::local(code, exit_of(code), message)
            .executed(text("executed").map_or(Executed::Unknown, Executed::parse))
            .traced(text("trace_id").map(str::to_owned));
        failure.hint = text("hint").map(str::to_owned);
        failure.retryable = problem.get("retryable") == Some(&Value::Bool(true));
        let approval = problem.get("approval").map(without_token);
        for name in CARRIED {
            if let Some(value) = problem.get(name).filter(|value| !value.is_null()) {
                failure.more.insert(name.to_owned(), value.clone());
            }
        }
        if let Some(approval) = approval {
            failure.more.insert("approval".to_owned(), approval);
        }
        Some(failure)
    }

    /// With what to do next.
    #[must_use]
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// With another answer than `no`.
    #[must_use]
    pub(crate) fn executed(mut self, executed: Executed) -> Self {
        self.executed = executed;
        self
    }

    /// With the request's trace, unless it has one.
    #[must_use]
    pub(crate) fn traced(mut self, trace_id: Option<String>) -> Self {
        self.trace_id = self.trace_id.or(trace_id);
        self
    }

    /// The one line: JSON for programs, words for a terminal.
    #[must_use]
    pub(crate) fn line(&self, for_people: bool) -> String {
        if for_people {
            return self.words();
        }
        let line = IndexMap::from([("error", self.members())]);
        // Text, flags and JSON values always serialise.
        serde_json::to_string(&line).unwrap_or_else(|_| self.words())
    }

    /// Everything known, what an agent looks at first coming first.
    #[must_use]
    pub(crate) fn members(&self) -> IndexMap<&str, Value> {
        let mut error: IndexMap<&str, Value> = IndexMap::new();
        error.insert("code", json!(self.code));
        error.insert("message", json!(self.message));
        if let Some(hint) = &self.hint {
            error.insert("hint", json!(hint));
        }
        if let Some(trace_id) = &self.trace_id {
            error.insert("trace_id", json!(trace_id));
        }
        error.insert("retryable", json!(self.retryable));
        error.insert("executed", json!(self.executed.word()));
        error.extend(
            self.more
                .iter()
                .map(|(name, value)| (name.as_str(), value.clone())),
        );
        error
    }

    fn words(&self) -> String {
        let mut line = format!("error: {} ({})", self.message, self.code);
        if let Some(hint) = &self.hint {
            line.push_str("; ");
            line.push_str(hint);
        }
        if self.executed != Executed::No {
            line.push_str("; executed: ");
            line.push_str(self.executed.word());
        }
        if let Some(trace_id) = &self.trace_id {
            line.push_str("; trace ");
            line.push_str(trace_id);
        }
        screen::one_line(&line)
    }

    /// Writes the line to stderr, unless nothing failed.
    pub(crate) fn report(&self) {
        if self.exit == 0 {
            return;
        }
        let mut stderr = std::io::stderr();
        let line = self.line(stderr.is_terminal());
        // A closed stderr leaves nobody to tell.
        let _ = writeln!(stderr, "{line}");
    }
}

/// An approval without a token nobody approved: whoever reads this line may be a model, which must not open a gate for
/// itself. A person decides with `approve`.
fn without_token(approval: &Value) -> Value {
    let mut shown = approval.clone();
    if approval["state"] != "approved"
        && let Some(members) = shown.as_object_mut()
    {
        members.remove("confirm_token");
    }
    shown
}

/// The exit code of one of the bridge's codes; a code of a newer bridge is an unexpected one.
fn exit_of(code: &str) -> u8 {
    api::wire::codes::exit_code(code).unwrap_or(1)
}
