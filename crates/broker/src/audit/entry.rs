//! One audit entry: its members, and the one text of it that is hashed.

use std::borrow::Cow;

use catalog::Hash;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::call_state::CallState;
use crate::instant::rfc3339;
use crate::ledger::{Intent, Settled};
use crate::store::Action;

/// One line of the audit record. Members stand in the order of RFC 8785, absent ones are left out, so that
/// serialising it gives the canonical JSON without a sort.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Entry<'a> {
    /// `call_tool`, `call_resource`, `key_created`, …
    pub action: Cow<'a, str>,
    /// The agent that ran the call.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agent_id: Option<Cow<'a, str>>,
    /// The approval a person gave for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub approval_id: Option<Cow<'a, str>>,
    /// SHA-256 of the canonical arguments, hex.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub arguments_digest: Option<String>,
    /// `call_…`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub call_id: Option<String>,
    /// The node that wrote the entry; its numbers rise by one in each workspace.
    pub chain: Cow<'a, str>,
    /// The code of a failure.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<Cow<'a, str>>,
    /// Names and types of the arguments, never their values.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<Cow<'a, str>>,
    /// From accepted to ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub duration_ms: Option<u64>,
    /// Whether the effect may have happened: `no`, `yes`, `unknown`.
    pub executed: Cow<'a, str>,
    /// The entry's own hash; not part of what is hashed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hash: Option<String>,
    /// The credential.
    pub key_id: Cow<'a, str>,
    /// The run or conversation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lane: Option<Cow<'a, str>>,
    /// A terminal state.
    pub outcome: Cow<'a, str>,
    /// The hash of the entry before, hex.
    pub prev: String,
    /// What was acted on.
    #[serde(rename = "ref")]
    pub reference: Cow<'a, str>,
    /// The definition the arguments were checked against, hex.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub schema_hash: Option<String>,
    /// Its number in the chain, from 1.
    pub seq: u64,
    /// The session it ran on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session_id: Option<Cow<'a, str>>,
    /// The trace.
    pub trace_id: Cow<'a, str>,
    /// When it was asked for, RFC 3339.
    pub ts: String,
    /// Who.
    pub user: Cow<'a, str>,
    /// Where.
    pub workspace: Cow<'a, str>,
}

/// How a call ended, as its row says it.
#[derive(Debug, Clone)]
pub(crate) struct End<'a> {
    pub(crate) state: CallState,
    pub(crate) session: Option<Cow<'a, str>>,
    pub(crate) duration_ms: Option<u64>,
    pub(crate) code: Option<Cow<'a, str>>,
    /// The JSON of a kept fault.
    pub(crate) fault: Option<&'a str>,
}

impl<'a> End<'a> {
    /// As it is about to be written.
    pub(crate) fn of(settled: &'a Settled) -> Self {
        Self {
            state: settled.state,
            session: settled.session_id.map(|id| Cow::Owned(id.to_string())),
            duration_ms: Some(settled.duration_ms),
            code: settled.code.map(Cow::Borrowed),
            fault: settled.fault.as_deref(),
        }
    }
}

/// An entry as it was read, with the hash that was stored with it.
#[derive(Debug, Clone)]
pub(crate) struct Line {
    pub(crate) entry: Entry<'static>,
    pub(crate) stored: Option<Hash>,
    pub(crate) times: Times,
}

/// When what an entry tells of began and ended; actions end as they begin.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Times {
    pub(crate) began: DateTime<Utc>,
    pub(crate) ended: DateTime<Utc>,
}

impl<'a> Entry<'a> {
    /// The entry of a call at its end; it gets its place by [`super::Link::next`].
    pub(crate) fn of_call(chain: &'a str, intent: &'a Intent, end: End<'a>) -> Self {
        let executed = executed(end.state.as_str(), end.fault);
        Self {
            action: Cow::Borrowed(intent.kind.audited()),
            agent_id: intent.agent_id.as_deref().map(Cow::Borrowed),
            approval_id: intent.approval_id.as_deref().map(Cow::Borrowed),
            // A call that was refused before its arguments were read has none.
            arguments_digest: (intent.arguments_digest != [0; 32])
                .then(|| Hash(intent.arguments_digest).hex()),
            call_id: Some(intent.id.to_string()),
            chain: Cow::Borrowed(chain),
            code: end.code,
            detail: (!intent.preview.is_empty()).then(|| kept(&intent.preview)),
            duration_ms: end.duration_ms,
            executed: Cow::Borrowed(executed),
            hash: None,
            key_id: kept(&intent.key_id),
            lane: Some(Cow::Borrowed(intent.lane.as_str())),
            outcome: Cow::Borrowed(end.state.as_str()),
            prev: String::new(),
            reference: kept(&intent.reference),
            schema_hash: intent.schema_hash.map(|hash| hash.hex()),
            seq: 0,
            session_id: end.session,
            trace_id: kept(&intent.trace_id),
            ts: rfc3339(intent.created_at),
            user: Cow::Borrowed(intent.user.as_str()),
            workspace: Cow::Borrowed(intent.workspace.as_str()),
        }
    }

    /// The entry of an administrative act.
    pub(crate) fn of_action(chain: &'a str, action: &'a Action) -> Self {
        Self {
            action: Cow::Borrowed(action.action.as_str()),
            agent_id: None,
            approval_id: None,
            arguments_digest: None,
            call_id: None,
            chain: Cow::Borrowed(chain),
            code: None,
            detail: None,
            duration_ms: None,
            executed: Cow::Borrowed("yes"),
            hash: None,
            key_id: kept(&action.key_id),
            lane: None,
            outcome: Cow::Borrowed(CallState::Succeeded.as_str()),
            prev: String::new(),
            reference: kept(&action.target),
            schema_hash: None,
            seq: 0,
            session_id: None,
            trace_id: kept(&action.trace_id),
            ts: rfc3339(action.created_at),
            user: Cow::Borrowed(action.user.as_str()),
            workspace: Cow::Borrowed(action.workspace.as_str()),
        }
    }

    /// The canonical JSON (RFC 8785) of the entry as it stands.
    #[must_use]
    pub fn canonical(&self) -> Vec<u8> {
        let mut text = Vec::with_capacity(768);
        // Texts and whole numbers always have a JSON form.
        let _ = serde_json::to_writer(&mut text, self);
        text
    }
}

/// A text as the store keeps it: PostgreSQL takes no NUL (`store/bulk.rs`), and what is hashed must be what is read.
fn kept(text: &str) -> Cow<'_, str> {
    if text.as_bytes().contains(&0) {
        Cow::Owned(text.replace('\0', "\u{fffd}"))
    } else {
        Cow::Borrowed(text)
    }
}

#[derive(Deserialize)]
struct Executed {
    executed: Option<crate::error::ExecutedWire>,
}

/// Whether the effect may have happened: what a kept fault says, or else the terminal state.
pub(crate) fn executed(outcome: &str, fault: Option<&str>) -> &'static str {
    use crate::error::ExecutedWire as Wire;
    let kept = fault.and_then(|text| serde_json::from_str::<Executed>(text).ok());
    match kept.and_then(|kept| kept.executed) {
        Some(Wire::No) => "no",
        Some(Wire::Yes) => "yes",
        None if outcome == CallState::Succeeded.as_str() => "yes",
        Some(Wire::Unknown) | None => "unknown",
    }
}

#[cfg(test)]
mod tests {
    use super::super::Link;
    use super::*;

    fn entry() -> Entry<'static> {
        Entry {
            action: "call_tool".into(),
            agent_id: Some("@local".into()),
            approval_id: Some("apr_1".into()),
            arguments_digest: Some("aa".into()),
            call_id: Some("call_1".into()),
            chain: "local".into(),
            code: Some("x".into()),
            detail: Some("a\u{1}\"\\\u{e9}\u{2028}\u{1f600}: string".into()),
            duration_ms: Some(9_007_199_254_740_991),
            executed: "no".into(),
            hash: None,
            key_id: "k".into(),
            lane: Some("default".into()),
            outcome: "failed".into(),
            prev: String::new(),
            reference: "s.\u{7f}\n\t".into(),
            schema_hash: Some("bb".into()),
            seq: 0,
            session_id: Some("ses_1".into()),
            trace_id: "t".into(),
            ts: "2026-01-01T00:00:00.000Z".into(),
            user: "ann".into(),
            workspace: "default".into(),
        }
    }

    #[test]
    fn an_entry_is_written_as_rfc_8785_wants_it() {
        let mut entry = entry();
        Link::START.next(&mut entry);
        let canonical = serde_json_canonicalizer::to_vec(&entry).unwrap();
        assert_eq!(
            String::from_utf8(entry.canonical()).unwrap(),
            String::from_utf8(canonical).unwrap()
        );
    }

    #[test]
    fn every_link_depends_on_the_entry_and_on_what_was_before() {
        let mut first = entry();
        let one = Link::START.next(&mut first);
        assert_eq!((one.seq, first.seq), (1, 1));
        let mut other = Entry {
            user: "bob".into(),
            ..entry()
        };
        assert_ne!(Link::START.next(&mut other).hash, one.hash);
        let two = one.next(&mut entry());
        assert_eq!(two.seq, 2);
        assert_ne!(two.hash, one.hash);
    }
}
