//! Tools of 2025-11-25 that run as a task only (`execution.taskSupport: required`): for callers who know no such
//! tasks the bridge begins the task and waits for its result. To them it is a call like any other.

use std::sync::Arc;

use serde::Deserialize;
use serde_json::value::RawValue;
use sessions::SessionLease;
use tokio::time::Instant;
use transports::{Params, Request, RequestError};

use super::exchange::{answered, unanswered, unreadable};
use super::run::Job;
use super::unfinished::Unfinished;
use crate::error::BrokerError;
use crate::operations::Inner;
use crate::operations::calls::ToolResult;
use crate::upstream_fault::Upstream;

/// Whether a tool runs as a task only.
pub(crate) fn is_demanded(definition: &RawValue) -> bool {
    #[derive(Deserialize)]
    struct Tool {
        execution: Execution,
    }
    #[derive(Deserialize)]
    struct Execution {
        #[serde(rename = "taskSupport")]
        task_support: String,
    }
    // Few definitions say anything of tasks, and then nothing is parsed.
    definition.get().contains("taskSupport")
        && serde_json::from_str::<Tool>(definition.get())
            .is_ok_and(|tool| tool.execution.task_support == "required")
}

/// The parameters that begin a task, which lives as long as the server thinks best.
pub(super) fn beginning(mut params: Params) -> Params {
    params.0.retain(|(name, _)| name != "task");
    let empty = RawValue::from_string("{}".to_owned());
    params.with("task", empty.unwrap_or_else(|_| RawValue::NULL.to_owned()))
}

/// The id of the task that a result began.
pub(super) fn begun(result: &ToolResult) -> Option<String> {
    #[derive(Deserialize)]
    struct Begun {
        task: Task,
    }
    #[derive(Deserialize)]
    struct Task {
        #[serde(rename = "taskId")]
        id: String,
    }
    if !result.may_be_task() {
        return None;
    }
    let begun = serde_json::from_str::<Begun>(result.raw().get());
    begun.ok().map(|begun| begun.task.id)
}

/// Waits for the result of a task. Dropping the future cancels the task, and so does its deadline.
pub(super) async fn result(
    inner: &Arc<Inner>,
    job: &Job,
    (lease, upstream): (&SessionLease, &Upstream<'_>),
    id: String,
) -> Result<ToolResult, BrokerError> {
    let left = job.deadline.saturating_duration_since(Instant::now());
    let request = Request {
        method: "tasks/result".into(),
        repeatable: true,
        ..job.request(Params::default().with_text("taskId", &id), left)
    };
    let mut unfinished = Unfinished::of(inner, job, id);
    let raw = answered(inner, job, lease, request).await;
    if !matches!(raw, Err(RequestError::Timeout { .. })) {
        unfinished.ended();
    }
    let raw = raw.map_err(|error| unanswered(upstream, job, &error))?;
    ToolResult::read(raw, inner.calls.result_bytes).map_err(|fault| unreadable(fault, upstream))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(text: &str) -> Box<RawValue> {
        RawValue::from_string(text.to_owned()).unwrap()
    }

    #[test]
    fn only_a_tool_that_says_so_demands_a_task() {
        for (definition, demanded) in [
            (r#"{"execution":{"taskSupport":"required"}}"#, true),
            (r#"{"execution":{"taskSupport":"optional"}}"#, false),
            (r#"{"description":"taskSupport required"}"#, false),
            (r#"{"name":"a"}"#, false),
        ] {
            assert_eq!(is_demanded(&raw(definition)), demanded, "{definition}");
        }
    }

    #[test]
    fn a_begun_task_is_told_from_a_result() {
        let read = |text: &str| ToolResult::read(raw(text), 1000).unwrap();
        let task = read(r#"{"task":{"taskId":"t","status":"working"}}"#);
        assert_eq!(begun(&task).as_deref(), Some("t"));
        assert_eq!(
            begun(&read(r#"{"content":[],"task":{"taskId":"t"}}"#)),
            None
        );
    }
}
