//! What an event tells, as it is held until somebody wants to read it.

use std::sync::Arc;

use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};

use crate::call::CallId;
use crate::call::outcome::Ended;
use crate::call_state::CallState;
use crate::error::ExecutedWire;

/// Results up to this stand in the event itself; larger ones are read from the call.
const MAX_RESULT_BYTES: usize = 256 * 1024;

/// What an event tells.
#[derive(Debug, Clone)]
pub(crate) enum Told {
    /// It was JSON from the start.
    Json(Arc<RawValue>),
    /// The state of a call, in the word of the wire.
    Status(&'static str),
    /// How a call ended.
    End(Arc<Ended>),
}

/// Which call, and the agent that runs it.
pub(super) type Of<'a> = (Option<CallId>, Option<&'a str>);

#[derive(Serialize)]
struct Status<'a> {
    req_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    agent_id: Option<&'a str>,
    state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<&'a str>,
}

#[derive(Serialize)]
struct Outcome<'a> {
    req_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    agent_id: Option<&'a str>,
    ok: bool,
    exit_code: u8,
    result_json: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    omitted_bytes: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<Problem<'a>>,
    canceled: bool,
}

#[derive(Serialize)]
struct Problem<'a> {
    code: &'static str,
    message: &'a str,
    detail: &'a str,
    executed: ExecutedWire,
}

impl Told {
    /// Ready JSON.
    pub(super) fn json(data: Box<RawValue>) -> Self {
        Self::Json(Arc::from(data))
    }

    /// A state with words to it.
    pub(crate) fn state_because(
        (call, agent): (CallId, Option<&str>),
        state: &'static str,
        message: &str,
    ) -> Self {
        let req_id = call.to_string();
        Self::Json(json(&Status {
            req_id: &req_id,
            agent_id: agent,
            state,
            message: Some(message),
        }))
    }

    /// The end of a call. One with a result too large for an event is not held on to.
    pub(crate) fn end((call, agent): (CallId, Option<&str>), ended: &Arc<Ended>) -> Self {
        if result_bytes(ended) > MAX_RESULT_BYTES {
            Self::Json(outcome((Some(call), agent), ended))
        } else {
            Self::End(Arc::clone(ended))
        }
    }

    pub(super) fn to_json(&self, of: Of<'_>) -> Arc<RawValue> {
        match self {
            Self::Json(json) => Arc::clone(json),
            Self::Status(state) => {
                let req_id = name(of.0);
                json(&Status {
                    req_id: &req_id,
                    agent_id: of.1,
                    state,
                    message: None,
                })
            }
            Self::End(ended) => outcome(of, ended),
        }
    }

    pub(super) fn weight_bytes(&self) -> usize {
        match self {
            Self::Json(json) => json.get().len(),
            Self::Status(_) => 0,
            Self::End(ended) => result_bytes(ended) + 256,
        }
    }
}

fn name(call: Option<CallId>) -> String {
    call.map(|id| id.to_string()).unwrap_or_default()
}

fn json(value: &impl Serialize) -> Arc<RawValue> {
    // Texts, numbers and ready JSON: it always has a form.
    Arc::from(to_raw_value(value).unwrap_or_else(|_| RawValue::NULL.to_owned()))
}

fn result_bytes(ended: &Ended) -> usize {
    match &ended.outcome {
        Ok(result) => result.raw().get().len(),
        Err(fault) => fault.detail.len(),
    }
}

fn outcome((call, agent_id): Of<'_>, ended: &Ended) -> Arc<RawValue> {
    let req_id = name(call);
    let mut outcome = Outcome {
        req_id: &req_id,
        agent_id,
        ok: false,
        exit_code: 0,
        result_json: None,
        omitted_bytes: None,
        error: None,
        canceled: ended.state == CallState::Cancelled,
    };
    match &ended.outcome {
        Ok(result) => {
            let size = result.raw().get().len();
            outcome.ok = !result.is_error();
            outcome.exit_code = if result.is_error() { 5 } else { 0 };
            outcome.result_json = (size <= MAX_RESULT_BYTES).then(|| result.raw());
            outcome.omitted_bytes = (size > MAX_RESULT_BYTES).then_some(size);
        }
        Err(fault) => {
            outcome.exit_code = fault.code.row().1;
            outcome.error = Some(Problem {
                code: fault.code.as_str(),
                message: &fault.detail,
                detail: &fault.detail,
                executed: fault.executed,
            });
        }
    }
    json(&outcome)
}
