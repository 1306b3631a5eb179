//! A call of an older server that waits for a modern client's answers: between two requests the client
//! holds the call's id, signed, as `requestState`.

use std::time::Duration;

use broker::InputRequest;
use chrono::Utc;
use serde_json::value::RawValue;
use transports::wire;

use super::problem::RpcFault;
use super::signed::{Bound, Purpose};
use super::strict;
use super::visit::Visit;

/// How long a state is good for; the call itself may be given up sooner.
const STATE_TTL: Duration = Duration::from_hours(1);
/// Most answers taken from one retry.
const MAX_ANSWERS: usize = 64;
/// Bytes that make each state another.
const ROUND_BYTES: usize = 8;
/// Format of a state.
const FORMAT: u8 = 1;

/// The state of a call that waits.
pub(super) fn seal(visit: &Visit, place: &str, call_id: &str) -> String {
    let until = Utc::now() + STATE_TTL;
    let mut payload = vec![FORMAT];
    // Another state in each round, so that a client can tell a new question from the old one.
    payload.extend_from_slice(&rand::random::<[u8; ROUND_BYTES]>());
    payload.extend_from_slice(&until.timestamp().to_be_bytes());
    payload.extend_from_slice(call_id.as_bytes());
    let bound = Bound {
        principal: &visit.asker.principal,
        place,
    };
    visit
        .mcp()
        .registry
        .signer()
        .seal(Purpose::State, &bound, &payload)
}

/// The call a state belongs to, when it was given to this principal for this request.
///
/// # Errors
/// `-32602`.
pub(super) fn open(visit: &Visit, place: &str, state: &RawValue) -> Result<String, RpcFault> {
    let wrong =
        || RpcFault::invalid_params("requestState is not one that was given for this request");
    let text: String = serde_json::from_str(state.get()).map_err(|_| wrong())?;
    let bound = Bound {
        principal: &visit.asker.principal,
        place,
    };
    let signer = visit.mcp().registry.signer();
    let payload = signer
        .open(Purpose::State, &bound, &text)
        .ok_or_else(wrong)?;
    let [FORMAT, rest @ ..] = payload.as_slice() else {
        return Err(wrong());
    };
    let (_round, rest) = rest.split_first_chunk::<ROUND_BYTES>().ok_or_else(wrong)?;
    let (until, call_id) = rest.split_first_chunk::<8>().ok_or_else(wrong)?;
    if i64::from_be_bytes(*until) < Utc::now().timestamp() {
        return Err(RpcFault::invalid_params(
            "requestState has expired; call again without it",
        ));
    }
    String::from_utf8(call_id.to_vec()).map_err(|_| wrong())
}

/// The answers of a retry.
///
/// # Errors
/// `-32602` when they are no map of results.
pub(super) fn answers(raw: Option<&RawValue>) -> Result<Vec<(String, Box<RawValue>)>, RpcFault> {
    let Some(raw) = raw else {
        return Ok(Vec::new());
    };
    let wrong = |what: &str| RpcFault::invalid_params(format!("inputResponses {what}"));
    let read = strict::object(raw).map_err(|_| wrong("must be an object"))?;
    if read.len() > MAX_ANSWERS {
        return Err(wrong("holds too many answers"));
    }
    let result = |(key, value): (std::borrow::Cow<'static, str>, Box<RawValue>)| {
        if value.get().starts_with('{') {
            Ok((key.into_owned(), value))
        } else {
            Err(wrong("must hold a result object for each key"))
        }
    };
    read.into_iter().map(result).collect()
}

/// The result that puts questions to a modern client.
pub(super) fn result(open: &[InputRequest], state: &str) -> Vec<u8> {
    let (requests, state) = (requests(open), wire::raw_text(state));
    format!(
        r#"{{"resultType":"input_required","inputRequests":{requests},"requestState":{state}}}"#
    )
    .into_bytes()
}

/// Questions as the object `inputRequests`.
pub(super) fn requests<'a>(open: impl IntoIterator<Item = &'a InputRequest>) -> String {
    let member = |request: &InputRequest| {
        // Lists of roots need no parameters; readers of the schema may want the member all the same.
        let params = request.params.as_deref().map_or("{}", RawValue::get);
        let [key, method] = [&request.key, &request.method].map(|text| wire::raw_text(text));
        format!(r#"{key}:{{"method":{method},"params":{params}}}"#)
    };
    let members: Vec<String> = open.into_iter().map(member).collect();
    format!("{{{}}}", members.join(","))
}
