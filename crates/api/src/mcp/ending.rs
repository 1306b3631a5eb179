//! How a call's end becomes an answer: the server's own result, one made from it, or a failure in words.

use std::sync::Arc;

use broker::operations::calls::ToolResult;
use broker::{Fault, UpstreamRpc};
use serde_json::json;
use transports::ResultHead;

use super::problem::{RpcFault, Told};
use super::reply;
use super::visit::Visit;

/// How a call's end becomes a result.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shape {
    /// A modern client may cache the result (`resources/read`).
    pub(super) cacheable: bool,
    /// Which failures are results for the model instead of errors for its host.
    pub(super) failures: Failures,
    /// Makes another result of the server's; `None` where it is passed on all the same.
    pub(super) rewrite: Option<fn(&ToolResult) -> Option<String>>,
}

/// Which failures are results with `isError`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Failures {
    /// None.
    Errors,
    /// None, and a task that is not there for this principal is a wrong parameter, not a missing resource.
    OfTask,
    /// Those another try of the model can repair.
    Repairable,
    /// All: what was called is a tool of ours.
    Results,
}

impl Shape {
    /// A result in this shape: gives its text, and what a modern client must find in it and does not.
    pub(super) fn result<T>(
        &self,
        result: &ToolResult,
        modern: bool,
        with: impl FnOnce(&str, &str) -> T,
    ) -> T {
        let rewritten = self.rewrite.and_then(|rewrite| rewrite(result));
        if let Some(text) = rewritten {
            return with(&text, reply::lacking(modern, (None, false)));
        }
        // A legacy client lacks nothing, so the result need not be looked through for it.
        let head = modern.then(|| ResultHead::of(result.raw()));
        let lacking = reply::lacking(modern, (head.as_ref(), self.cacheable));
        with(result.raw().get(), lacking)
    }
}

/// A kept failure as the server's own error again, where it was one. Its number and its words are kept, the words
/// without secrets; its data is not.
pub(super) fn kept(fault: &Fault) -> Box<Fault> {
    let mut fault = Box::new(fault.clone());
    if let (None, Some((_, Some(code)))) = (&fault.rpc, &fault.upstream) {
        fault.rpc = Some(Arc::new(UpstreamRpc {
            code: *code,
            message: fault.detail.clone(),
            data: None,
        }));
    }
    fault
}

/// A failure as a result for the model, or as an error for its host.
///
/// # Errors
/// The JSON-RPC error, where it is one.
pub(super) fn failure(
    visit: &Visit,
    fault: &Fault,
    failures: Failures,
) -> Result<Vec<u8>, RpcFault> {
    use broker::ErrorCode::{
        ConfirmationInvalid, ConfirmationRequired, InvalidArguments, ResourceNotFound,
        SchemaChanged, ToolQuarantined, UnsupportedSchema,
    };
    let trace_id = visit.asker.trace.id();
    let repairable = fault.rpc.is_none()
        && matches!(
            fault.code,
            InvalidArguments
                | UnsupportedSchema
                | SchemaChanged
                | ToolQuarantined
                | ConfirmationRequired
                | ConfirmationInvalid
        );
    let told = Told::of(fault, &trace_id);
    let content = json!([{"type": "text", "text": told.text()}]);
    let mut result = match failures {
        Failures::Results => {
            json!({"content": content, "structuredContent": told, "isError": true})
        }
        // The tool's own output schema does not know what we would put beside the text.
        Failures::Repairable if repairable => {
            json!({"content": content, "isError": true, "_meta": {"paperbot/fault": told}})
        }
        Failures::OfTask if fault.rpc.is_none() && fault.code == ResourceNotFound => {
            return Err(RpcFault::invalid_params(fault.detail.clone()).with(&told));
        }
        Failures::Repairable | Failures::Errors | Failures::OfTask => {
            return Err(RpcFault::of(fault, visit.client.revision(), &trace_id));
        }
    };
    if visit.client.revision().is_modern() {
        result["resultType"] = "complete".into();
    }
    Ok(result.to_string().into_bytes())
}
