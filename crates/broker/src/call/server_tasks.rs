//! Tasks of 2026-07-28 that a server made of a call whose caller does not follow them: asked after until they end,
//! their questions put like any other. To the caller it is a call.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use serde_json::value::RawValue;
use sessions::SessionLease;
use tokio::time::Instant;
use transports::wire::RpcError;
use transports::{Params, Request, RequestError};

use super::exchange::{answered, unanswered, unreadable};
use super::rounds;
use super::run::Job;
use super::unfinished::Unfinished;
use crate::error::{BrokerError, ErrorCode, ExecutedWire, Fault};
use crate::operations::Inner;
use crate::operations::calls::ToolResult;
use crate::upstream_fault::Upstream;

/// How often a server that names no interval is asked.
const POLL_USUAL: Duration = Duration::from_secs(1);
/// Bounds of the interval a server names: it must neither keep the bridge busy nor make it sleep.
const POLL_LEAST: Duration = Duration::from_millis(50);
const POLL_MOST: Duration = Duration::from_secs(10);

/// Questions of one task; a server that asks more is not going to end it.
const MAX_QUESTIONS: usize = 256;

/// A task as its server tells it; what is not looked at is left out.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Told {
    task_id: String,
    status: String,
    #[serde(default)]
    poll_interval_ms: Option<f64>,
    #[serde(default)]
    input_requests: Option<Params>,
    #[serde(default)]
    result: Option<Box<RawValue>>,
    #[serde(default)]
    error: Option<RpcError>,
}

impl Told {
    fn pause(&self) -> Duration {
        let millis = self.poll_interval_ms.unwrap_or(f64::NAN);
        let told = Duration::try_from_secs_f64(millis / 1000.0);
        told.map_or(POLL_USUAL, |told| told.clamp(POLL_LEAST, POLL_MOST))
    }
}

/// Waits for the end of the task that `first` began. Dropping the future cancels the task, and so does whatever
/// keeps its end from being seen.
pub(super) async fn result(
    inner: &Arc<Inner>,
    job: &Job,
    (lease, upstream): (&SessionLease, &Upstream<'_>),
    first: &ToolResult,
) -> Result<ToolResult, BrokerError> {
    let mut told = read(first.raw(), upstream)?;
    let id = std::mem::take(&mut told.task_id);
    let mut unfinished = Unfinished::of(inner, job, id.clone());
    let mut known = HashSet::new();
    loop {
        match &*told.status {
            "completed" | "failed" | "cancelled" => {
                unfinished.ended();
                return ended(inner, job, upstream, told);
            }
            "input_required" => {
                let mut asked = told.input_requests.take().unwrap_or_default();
                // A server may go on showing what was answered until it has seen the answer.
                asked.0.retain(|(key, _)| !known.contains(&**key));
                if known.len() + asked.0.len() > MAX_QUESTIONS {
                    let fault = broken("the server's task asks without end");
                    return Err(unreadable(fault, upstream));
                }
                if !asked.0.is_empty() {
                    known.extend(asked.0.iter().map(|(key, _)| key.clone().into_owned()));
                    let answers = rounds::answers(inner, job, asked).await;
                    let answers = answers.map_err(|fault| unreadable(fault, upstream))?;
                    let params = about(&id).with("inputResponses", answers);
                    ask(inner, job, (lease, upstream), ("tasks/update", params)).await?;
                }
            }
            _ => {}
        }
        tokio::time::sleep_until(job.deadline.min(Instant::now() + told.pause())).await;
        if Instant::now() >= job.deadline {
            return Err(upstream.timed_out(job.timeout, job.exchange));
        }
        let raw = ask(inner, job, (lease, upstream), ("tasks/get", about(&id))).await?;
        told = read(&raw, upstream)?;
    }
}

fn about(id: &str) -> Params {
    Params::default().with_text("taskId", id)
}

async fn ask(
    inner: &Arc<Inner>,
    job: &Job,
    (lease, upstream): (&SessionLease, &Upstream<'_>),
    (method, params): (&'static str, Params),
) -> Result<Box<RawValue>, BrokerError> {
    let left = job.deadline.saturating_duration_since(Instant::now());
    let request = Request {
        method: method.into(),
        repeatable: true,
        ..job.request(params, left)
    };
    let raw = answered(inner, job, lease, request).await;
    raw.map_err(|error| begun(unanswered(upstream, job, &error)))
}

/// Whatever failed later: the task had begun.
fn begun(mut fault: BrokerError) -> BrokerError {
    fault.executed = ExecutedWire::Unknown;
    fault
}

fn read(raw: &RawValue, upstream: &Upstream<'_>) -> Result<Told, BrokerError> {
    let told = serde_json::from_str(raw.get());
    told.map_err(|_| unreadable(broken("the server's task cannot be read"), upstream))
}

fn broken(detail: &str) -> BrokerError {
    Fault::new(ErrorCode::UpstreamProtocolError, detail)
}

fn ended(
    inner: &Inner,
    job: &Job,
    upstream: &Upstream<'_>,
    told: Told,
) -> Result<ToolResult, BrokerError> {
    let fault = match (&*told.status, told.result, told.error) {
        ("completed", Some(result), _) => {
            let read = ToolResult::read(result, inner.calls.result_bytes);
            return read.map_err(|fault| unreadable(fault, upstream));
        }
        ("failed", _, Some(error)) => {
            let error = RequestError::Rpc {
                code: error.code,
                message: error.message,
                data: error.data,
            };
            return Err(begun(unanswered(upstream, job, &error)));
        }
        ("cancelled", ..) => Fault::new(ErrorCode::Cancelled, "the server cancelled the task"),
        _ => broken("the server's task ended without saying how"),
    };
    Err(unreadable(fault, upstream))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interval_is_kept_within_bounds() {
        for (told, pause) in [
            ("", POLL_USUAL),
            (r#","pollIntervalMs":250"#, Duration::from_millis(250)),
            (r#","pollIntervalMs":0"#, POLL_LEAST),
            (r#","pollIntervalMs":1e300"#, POLL_USUAL),
            (r#","pollIntervalMs":-5"#, POLL_USUAL),
            (r#","pollIntervalMs":3600000"#, POLL_MOST),
            (r#","pollIntervalMs":null"#, POLL_USUAL),
        ] {
            let text = format!(r#"{{"taskId":"t","status":"working"{told}}}"#);
            let read: Told = serde_json::from_str(&text).unwrap();
            assert_eq!(read.pause(), pause, "{told}");
        }
    }
}
