//! Messages of ours as lines, without the newline.

use std::collections::HashSet;
use std::fmt::Write as _;

use serde_json::value::RawValue;

use super::{LogLevel, Params, Request, RequestId};

/// Namespace of the protocol's own members of `_meta`.
const OWN: &str = "io.modelcontextprotocol/";

/// From so many members on, repeated names are found with a table instead of by looking back.
const LOOK_BACK: usize = 16;

/// What the era puts into each request's `_meta`.
#[derive(Debug, Clone, Copy)]
pub enum EraMeta<'a> {
    /// Nothing.
    Legacy,
    /// The revision, who we are, what the client can do, and how loud the server may log.
    Modern {
        /// The members that are always the same, as a run (`"a":1,"b":2`); never empty.
        members: &'a str,
        /// For requests that name no level.
        log_level: Option<LogLevel>,
    },
}

/// A request as one line, without the newline. No object of it has two members of one name, whatever
/// the caller gave. Our progress token, where progress is wanted, is the id.
#[must_use]
pub fn encode_request(id: u64, request: &Request, era: EraMeta<'_>) -> String {
    let size = |params: &Params| -> usize {
        let member = |(name, value): &(_, Box<RawValue>)| -> usize {
            let name: &std::borrow::Cow<'static, str> = name;
            name.len() + value.get().len() + 4
        };
        params.0.iter().map(member).sum()
    };
    let fixed = match era {
        EraMeta::Legacy => 0,
        EraMeta::Modern { members, .. } => members.len() + 128,
    };
    let mut line = String::with_capacity(160 + fixed + size(&request.params) + size(&request.meta));
    line.push_str("{\"jsonrpc\":\"2.0\",\"id\":");
    push_number(&mut line, id);
    line.push_str(",\"method\":");
    push_text(&mut line, &request.method);
    line.push_str(",\"params\":{");
    let mut first = true;
    push_members(&mut line, &mut first, &request.params, |name| {
        name == "_meta"
    });
    push_meta(&mut line, id, request, era);
    line.push_str("}}");
    line
}

/// `_meta`, if anything is to stand in it: what is the protocol's own, then what the caller adds.
fn push_meta(line: &mut String, id: u64, request: &Request, era: EraMeta<'_>) {
    let start = line.len();
    let mut first = line.ends_with('{');
    separate(line, &mut first);
    line.push_str("\"_meta\":{");
    let empty = line.len();
    let mut first_meta = true;
    if let EraMeta::Modern { members, log_level } = era {
        separate(line, &mut first_meta);
        line.push_str(members);
        line.push_str(",\"io.modelcontextprotocol/clientCapabilities\":");
        match &request.client_capabilities {
            Some(capabilities) => push_raw(line, capabilities),
            None => line.push_str("{}"),
        }
        if let Some(level) = request.log_level.or(log_level) {
            line.push_str(",\"io.modelcontextprotocol/logLevel\":\"");
            line.push_str(level.as_str());
            line.push('"');
        }
    }
    if request.progress.is_some() {
        separate(line, &mut first_meta);
        line.push_str("\"progressToken\":");
        push_number(line, id);
    }
    push_members(line, &mut first_meta, &request.meta, is_protocols_own);
    if line.len() == empty {
        line.truncate(start);
    } else {
        line.push('}');
    }
}

/// Members of `_meta` that are said once, by the transport: on a connection of the other era they would
/// be wrong, and a caller's progress token could be another caller's.
fn is_protocols_own(name: &str) -> bool {
    name == "progressToken"
        || name.strip_prefix(OWN).is_some_and(|name| {
            matches!(
                name,
                "protocolVersion" | "clientInfo" | "clientCapabilities" | "logLevel"
            )
        })
}

/// Every member once, the first of each name, but those left out.
fn push_members(line: &mut String, first: &mut bool, params: &Params, leave_out: fn(&str) -> bool) {
    let members = &params.0;
    let mut seen = HashSet::new();
    for (index, (name, value)) in members.iter().enumerate() {
        let repeated = if members.len() <= LOOK_BACK {
            members[..index].iter().any(|(earlier, _)| earlier == name)
        } else {
            !seen.insert(name)
        };
        if !repeated && !leave_out(name) {
            push_member(line, first, name, value);
        }
    }
}

/// The `params` object of a request for another transport to send: the members and the caller's own
/// `_meta`, without what the transport says itself.
#[must_use]
pub fn encode_params(request: &Request) -> Box<RawValue> {
    let mut text = String::from("{");
    let mut first = true;
    push_members(&mut text, &mut first, &request.params, |name| {
        name == "_meta"
    });
    if !request.meta.0.is_empty() {
        separate(&mut text, &mut first);
        text.push_str("\"_meta\":{");
        push_members(&mut text, &mut true, &request.meta, is_protocols_own);
        text.push('}');
    }
    text.push('}');
    // Names and values were JSON before.
    RawValue::from_string(text).unwrap_or_else(|_| RawValue::NULL.to_owned())
}

/// A notification as one line, without the newline.
#[must_use]
pub fn encode_notification(method: &str, params: &Params) -> String {
    let mut line = String::from("{\"jsonrpc\":\"2.0\",\"method\":");
    push_text(&mut line, method);
    if !params.0.is_empty() {
        line.push_str(",\"params\":{");
        let mut first = true;
        for (name, value) in &params.0 {
            push_member(&mut line, &mut first, name, value);
        }
        line.push('}');
    }
    line.push('}');
    line
}

/// Our answer to a request of the peer, as one line without the newline.
#[must_use]
pub fn encode_answer(id: &RequestId, outcome: &Result<Box<RawValue>, (i64, String)>) -> String {
    let mut line = String::from("{\"jsonrpc\":\"2.0\",\"id\":");
    push_raw(&mut line, &id.0);
    match outcome {
        Ok(result) => {
            line.push_str(",\"result\":");
            push_raw(&mut line, result);
        }
        Err((code, message)) => {
            let _ = write!(line, ",\"error\":{{\"code\":{code},\"message\":");
            push_text(&mut line, message);
            line.push('}');
        }
    }
    line.push('}');
    line
}

/// The `notifications/cancelled` for one of our requests.
#[must_use]
pub fn encode_cancelled(id: u64, reason: &str) -> String {
    let mut line = String::from(
        "{\"jsonrpc\":\"2.0\",\"method\":\"notifications/cancelled\",\"params\":{\"requestId\":",
    );
    push_number(&mut line, id);
    line.push_str(",\"reason\":");
    push_text(&mut line, reason);
    line.push_str("}}");
    line
}

fn separate(line: &mut String, first: &mut bool) {
    if !std::mem::replace(first, false) {
        line.push(',');
    }
}

fn push_member(line: &mut String, first: &mut bool, name: &str, value: &RawValue) {
    separate(line, first);
    push_text(line, name);
    line.push(':');
    push_raw(line, value);
}

fn push_number(line: &mut String, number: u64) {
    let _ = write!(line, "{number}");
}

/// Raw JSON may hold line ends between its tokens (a pretty-printed body), and a line may not.
/// Inside strings JSON has them escaped, so every raw one is white space.
fn push_raw(line: &mut String, value: &RawValue) {
    let text = value.get();
    if text.bytes().any(|byte| byte == b'\n' || byte == b'\r') {
        line.extend(
            text.chars()
                .map(|c| if c == '\n' || c == '\r' { ' ' } else { c }),
        );
    } else {
        line.push_str(text);
    }
}

pub(super) fn push_text(line: &mut String, text: &str) {
    let plain = |byte: u8| byte >= 0x20 && byte != b'"' && byte != b'\\';
    if text.bytes().all(plain) {
        line.push('"');
        line.push_str(text);
        line.push('"');
    } else {
        line.push_str(&serde_json::Value::from(text).to_string());
    }
}
