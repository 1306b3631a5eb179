//! Why a call has no result, in the tunnel's words. A child's stderr stays on this machine: it may hold secrets.

use serde_json::value::RawValue;

use crate::error::{Executed, RequestError};
use crate::tunnel::frame::{CallResult, Failure, FailureCode};

/// The end of a request that got no result.
pub(super) fn of(error: RequestError) -> CallResult {
    let code = match &error {
        RequestError::Timeout { .. } => FailureCode::Timeout,
        RequestError::Exited { .. } => FailureCode::UpstreamExited,
        RequestError::Canceled { .. } => FailureCode::Canceled,
        RequestError::NoSuchTool { .. } => FailureCode::ToolNotFound,
        RequestError::Rpc { .. }
        | RequestError::Protocol { .. }
        | RequestError::TooLarge { .. } => FailureCode::ProtocolError,
        RequestError::Disconnected { .. }
        | RequestError::Closed {
            executed: Executed::Unknown,
        } => FailureCode::Disconnected,
        RequestError::Unreachable { .. }
        | RequestError::NeedsAuth { .. }
        | RequestError::Overloaded { .. }
        | RequestError::AgentOffline { .. }
        | RequestError::Closed {
            executed: Executed::No,
        } => FailureCode::Rejected,
    };
    let message = error.to_string();
    match error {
        RequestError::Rpc {
            code: rpc,
            message,
            data,
        } => CallResult {
            error: Some(Failure {
                code,
                details: rpc_details(rpc, &message, data.as_deref()),
                message,
            }),
            ..CallResult::failed(code, String::new())
        },
        _ => CallResult::failed(code, message),
    }
}

fn rpc_details(code: i64, message: &str, data: Option<&RawValue>) -> Option<Box<RawValue>> {
    let message = crate::wire::raw_text(message);
    let data = data.map_or(String::new(), |data| format!(",\"data\":{}", data.get()));
    let details = format!("{{\"rpc\":{{\"code\":{code},\"message\":{message}{data}}}}}");
    RawValue::from_string(details).ok()
}
