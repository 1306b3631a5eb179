//! The mark of 2025-11-25 on everything that belongs to a task: `_meta["io.modelcontextprotocol/related-task"]`.

use std::borrow::Cow;

use serde_json::value::RawValue;
use transports::{Params, wire};

use crate::mcp::capabilities::{object, with, without};

/// Where a message names its task.
const RELATED_TASK: &str = "io.modelcontextprotocol/related-task";

/// The same result or the same parameters, marked. What is no object gets to be one.
pub(in crate::mcp) fn related(raw: Option<&RawValue>, task: &str) -> Box<RawValue> {
    let raw = raw.unwrap_or(RawValue::NULL);
    let members = Params::from_raw(raw);
    let mark = format!(r#"{{"taskId":{}}}"#, wire::raw_text(task));
    let meta = members.get("_meta").unwrap_or(RawValue::NULL);
    let meta = with(meta, RELATED_TASK, &mark);
    let others = members.0.into_iter().filter(|(name, _)| name != "_meta");
    object(others.chain([("_meta".into(), meta)]))
}

/// A result without the mark, where the task itself says what it belongs to.
pub(super) fn unrelated(result: &RawValue) -> Cow<'_, RawValue> {
    if !result.get().contains(RELATED_TASK) {
        return Cow::Borrowed(result);
    }
    let members = Params::from_raw(result).0.into_iter();
    Cow::Owned(object(members.map(|(name, value)| {
        let value = if name == "_meta" {
            without(&value, RELATED_TASK)
        } else {
            value
        };
        (name, value)
    })))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_marked_once_and_keeps_everything_else() {
        let shown = |text: &str| {
            let raw = RawValue::from_string(text.to_owned()).unwrap();
            related(Some(&raw), "call_1").get().to_owned()
        };
        let mark = r#""io.modelcontextprotocol/related-task":{"taskId":"call_1"}"#;
        assert_eq!(shown("{}"), format!(r#"{{"_meta":{{{mark}}}}}"#));
        assert_eq!(
            shown(
                r#"{"_meta":{"io.modelcontextprotocol/related-task":{"taskId":"t"},"x":1.0},"y":2.50}"#
            ),
            format!(r#"{{"y":2.50,"_meta":{{"x":1.0,{mark}}}}}"#)
        );
        assert!(related(None, "call_1").get().contains(mark));
    }
}
