//! What went wrong on the way, as JSON-RPC errors of the request that waits. Pure.

use serde_json::{Value, json};

use super::lines::MAX_LINE_BYTES;
use super::message::NoMessage;
use crate::failure::Failure;

/// The bridge refused or is away; `data.code` says which.
const BRIDGE_ERROR: i64 = -32000;

/// The line is no JSON.
const PARSE_ERROR: i64 = -32700;

/// The line is JSON, but no message that can be passed on.
const INVALID_REQUEST: i64 = -32600;

/// The answer to a request that failed.
#[must_use]
pub(crate) fn failed(id: &str, failure: &Failure) -> String {
    let mut data = failure.members();
    let message = data.shift_remove("message").unwrap_or_default();
    line(id, BRIDGE_ERROR, &message, &json!(data))
}

/// The answer to a line that was dropped for its length.
#[must_use]
pub(crate) fn too_long(id: Option<&str>) -> String {
    let message = format!("the line is longer than {MAX_LINE_BYTES} bytes");
    let data = json!({"code": "payload_too_large", "retryable": false, "executed": "no"});
    line(
        id.unwrap_or("null"),
        INVALID_REQUEST,
        &json!(message),
        &data,
    )
}

/// The answer to a line that is no message; nobody knows whose it was.
#[must_use]
pub(crate) fn no_message(why: &NoMessage) -> String {
    let code = match why {
        NoMessage::Syntax(_) => PARSE_ERROR,
        NoMessage::Shape => INVALID_REQUEST,
    };
    let data = json!({"code": "invalid_request", "retryable": false, "executed": "no"});
    line("null", code, &json!(why.to_string()), &data)
}

/// More requests than the pump carries at once.
#[must_use]
pub(crate) fn too_many(limit: usize) -> Failure {
    let problem = json!({"code": "overloaded", "retryable": true, "executed": "no",
        "detail": format!("{limit} requests are under way already")});
    // It has a code, so it is one.
    Failure::from_problem(&problem).unwrap_or_else(|| Failure::protocol("overloaded"))
}

fn line(id: &str, code: i64, message: &Value, data: &Value) -> String {
    let error = json!({"code": code, "message": message, "data": data});
    format!("{{\"jsonrpc\":\"2.0\",\"id\":{id},\"error\":{error}}}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_names_its_request_and_the_bridges_code() {
        let read = |line: String| serde_json::from_str::<Value>(&line).unwrap();
        let failure = Failure::unreachable("http://127.0.0.1:1/", "Connection refused");
        let error = read(failed("\"a\"", &failure));
        assert_eq!(error["id"], "a");
        assert_eq!(error["error"]["code"], -32000);
        assert_eq!(error["error"]["data"]["code"], "bridge_unreachable");
        assert_eq!(error["error"]["data"]["executed"], "no");
        assert!(error["error"]["data"].get("message").is_none());
        assert_eq!(read(too_long(None))["id"], Value::Null);
        assert_eq!(too_many(3).code, "overloaded");
        assert!(too_many(3).retryable);
        assert_eq!(read(no_message(&NoMessage::Shape))["error"]["code"], -32600);
    }
}
