//! Approvals in words: where one stands, and what is said to whoever asked.

use chrono::Utc;
use serde_json::{Value, json};

use crate::error::{BrokerError, ErrorCode, Fault};
use crate::instant::rfc3339;
use crate::store::approvals::ApprovalRow;

/// Where an approval stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ApprovalState {
    /// Somebody must decide.
    Pending,
    /// Its token is good.
    Approved,
    /// Somebody said no.
    Denied,
    /// Its token was used, or the held call went on.
    Used,
    /// The held call ended before anybody decided.
    Withdrawn,
    /// Its time is over. Told, never stored.
    Expired,
}

impl ApprovalState {
    /// As in the store and on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Approved => "approved",
            Self::Denied => "denied",
            Self::Used => "used",
            Self::Withdrawn => "withdrawn",
            Self::Expired => "expired",
        }
    }

    /// Reads a state by name.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let all = [
            Self::Pending,
            Self::Approved,
            Self::Denied,
            Self::Used,
            Self::Withdrawn,
            Self::Expired,
        ];
        all.into_iter().find(|state| state.as_str() == text)
    }
}

/// Where an approval stands now.
pub(crate) fn state(row: &ApprovalRow) -> ApprovalState {
    let open = matches!(row.state, ApprovalState::Pending | ApprovalState::Approved);
    if open && row.expires_at <= Utc::now() {
        return ApprovalState::Expired;
    }
    row.state
}

/// Why a call that was denied ends, in words.
pub(super) fn denial(row: &ApprovalRow) -> String {
    let by = row
        .decided_by
        .as_ref()
        .map_or("somebody", |user| user.as_str());
    match &row.note {
        Some(note) => format!("{by} denied it: {note}"),
        None => format!("{by} denied it"),
    }
}

/// `confirmation_invalid`: the same for every reason.
pub(super) fn invalid() -> BrokerError {
    let detail = "the confirmation is unknown, used, expired or for another request";
    let mut fault = Fault::new(ErrorCode::ConfirmationInvalid, detail);
    fault.hint = Some("call without confirm_token to ask anew".to_owned());
    fault
}

/// `confirmation_required`, with everything the next step needs.
pub(crate) fn required(row: &ApprovalRow, token: Option<String>) -> BrokerError {
    let detail = format!("{} must be approved first ({})", row.reference, row.rule);
    let mut fault = Fault::new(ErrorCode::ConfirmationRequired, detail);
    let hint = match row.state {
        ApprovalState::Approved => {
            "it is approved: send the same call with the approval's confirm_token (`--confirm TOKEN`)".to_owned()
        }
        _ => format!(
            "somebody who may approve runs `paperbot-mcp approve {}` at a terminal and gets a token; then send the \
             same call with it as confirm_token (`--confirm TOKEN`)",
            row.id
        ),
    };
    fault.hint = Some(hint);
    fault.approval = Some(shown(row, token));
    fault
}

/// An approval as it is shown to whoever asked.
pub(crate) fn shown(row: &ApprovalRow, token: Option<String>) -> Value {
    // Written by us: it always reads.
    let preview = serde_json::from_str::<Value>(&row.preview).unwrap_or_default();
    let mut shown = json!({
        "id": row.id.to_string(), "state": state(row).as_str(), "expires_at": rfc3339(row.expires_at),
        "preview": preview, "self_confirm": row.self_confirm, "rule": row.rule,
    });
    if let Some(token) = token {
        shown["confirm_token"] = token.into();
    }
    shown
}
