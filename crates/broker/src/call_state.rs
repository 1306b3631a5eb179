//! The life of a call: its states by name, and which of them are final.

use serde::{Deserialize, Serialize};

/// Where a call stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CallState {
    /// The intent is written.
    Accepted,
    /// A person must decide first.
    AwaitingApproval,
    /// Given to the upstream's connection.
    Dispatched,
    /// The upstream showed a sign of life.
    Running,
    /// The upstream asked something back.
    InputRequired,
    /// There is a result (also an `isError` one).
    Succeeded,
    /// It failed.
    Failed,
    /// It was cancelled.
    Cancelled,
    /// The deadline passed and surely nothing more happens.
    TimedOut,
    /// Whether the effect happened is not known.
    OutcomeUnknown,
}

impl CallState {
    /// Every state.
    pub const ALL: &'static [Self] = &[
        Self::Accepted,
        Self::AwaitingApproval,
        Self::Dispatched,
        Self::Running,
        Self::InputRequired,
        Self::Succeeded,
        Self::Failed,
        Self::Cancelled,
        Self::TimedOut,
        Self::OutcomeUnknown,
    ];

    /// As on the wire and in the store.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::AwaitingApproval => "awaiting_approval",
            Self::Dispatched => "dispatched",
            Self::Running => "running",
            Self::InputRequired => "input_required",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::TimedOut => "timed_out",
            Self::OutcomeUnknown => "outcome_unknown",
        }
    }

    /// Reads a state by name.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL
            .iter()
            .copied()
            .find(|state| state.as_str() == text)
    }

    /// Nothing follows it.
    #[must_use]
    pub fn is_terminal(self) -> bool {
        match self {
            Self::Succeeded
            | Self::Failed
            | Self::Cancelled
            | Self::TimedOut
            | Self::OutcomeUnknown => true,
            Self::Accepted
            | Self::AwaitingApproval
            | Self::Dispatched
            | Self::Running
            | Self::InputRequired => false,
        }
    }
}
