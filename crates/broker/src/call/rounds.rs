//! What a modern server asks by its results and its tasks: put, waited for, and answered in the words of 2026-07-28.
//! What an old server asks by requests of its own is in [`super::questions`].

use serde::Deserialize;
use serde_json::value::{RawValue, to_raw_value};
use tokio::sync::oneshot;
use transports::Params;

use super::dialogue::{InputAnswer, InputRequest};
use super::questions::{at_once, capabilities, too_late};
use super::run::Job;
use crate::error::{BrokerError, ErrorCode, Fault};
use crate::operations::Inner;
use crate::operations::calls::ToolResult;

#[derive(Deserialize)]
struct Asked {
    method: String,
    #[serde(default)]
    params: Option<Box<RawValue>>,
}

/// Puts the questions of an `input_required` result, waits for all answers, and makes the next round's `params`.
pub(super) async fn next_round(
    inner: &Inner,
    job: &Job,
    sent: Params,
    result: &ToolResult,
) -> Result<Params, BrokerError> {
    let requests = result.input_requests().unwrap_or("{}");
    let requests: Params = serde_json::from_str(requests).map_err(|_| broken())?;
    let answers = answers(inner, job, requests).await?;
    let mut params = sent;
    let ours = |name: &str| name == "inputResponses" || name == "requestState";
    params.0.retain(|(name, _)| !ours(name));
    params = params.with("inputResponses", answers);
    if let Some(state) = result.request_state() {
        let state = RawValue::from_string(state.to_owned()).map_err(|_| broken())?;
        params = params.with("requestState", state);
    }
    Ok(params)
}

/// Puts questions, as `inputRequests` names them, and waits for all answers: `inputResponses`.
///
/// # Errors
/// `cancelled` when somebody refused to answer, `upstream_protocol_error` for what cannot be read.
pub(super) async fn answers(
    inner: &Inner,
    job: &Job,
    requests: Params,
) -> Result<Box<RawValue>, BrokerError> {
    let capabilities = capabilities(job.client.as_deref(), job.attended);
    let mut answers = Params::default();
    let mut open = Vec::new();
    for (key, raw) in requests.0 {
        let asked: Asked = serde_json::from_str(raw.get()).map_err(|_| broken())?;
        match at_once(capabilities.as_deref(), &asked.method) {
            Some(answer) => answers.0.push((key, given(answer)?)),
            None => open.push((Some(key.into_owned()), asked.method, asked.params)),
        }
    }
    if !open.is_empty() {
        let many = |_| Fault::new(ErrorCode::UpstreamProtocolError, "it asks too much at once");
        let asked = job.live.dialogue.ask(open).await.map_err(many)?;
        inner.tell_dialogue(&job.live);
        for (request, receiver) in asked {
            let answer = wait(inner, job, &request, receiver).await;
            job.live.dialogue.withdraw(&request.key);
            answers.0.push((request.key.into(), given(answer)?));
        }
        inner.tell_dialogue(&job.live);
    }
    to_raw(&answers)
}

async fn wait(
    inner: &Inner,
    job: &Job,
    request: &InputRequest,
    receiver: oneshot::Receiver<InputAnswer>,
) -> InputAnswer {
    let until = job
        .deadline
        .min(tokio::time::Instant::now() + inner.calls.input_wait);
    match tokio::time::timeout_at(until, receiver).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(_)) | Err(_) => too_late(&request.method),
    }
}

/// A modern server takes results only: whoever refuses to answer ends the call.
fn given(answer: InputAnswer) -> Result<Box<RawValue>, BrokerError> {
    match answer {
        InputAnswer::Result(raw) => Ok(raw),
        InputAnswer::Error { message, .. } => {
            let detail = format!("the server's question was not answered: {message}");
            Err(Fault::new(ErrorCode::Cancelled, detail))
        }
    }
}

fn to_raw(answers: &Params) -> Result<Box<RawValue>, BrokerError> {
    let map: serde_json::Result<Vec<String>> = answers
        .0
        .iter()
        .map(|(key, raw)| Ok(format!("{}:{}", to_raw_value(key)?, raw.get())))
        .collect();
    let text = map.map(|members| format!("{{{}}}", members.join(",")));
    text.and_then(RawValue::from_string).map_err(|_| broken())
}

fn broken() -> BrokerError {
    let detail = "the server's questions cannot be read";
    Fault::new(ErrorCode::UpstreamProtocolError, detail)
}
