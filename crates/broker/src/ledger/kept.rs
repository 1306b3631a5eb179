//! Results and faults as the store keeps them.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::error::{BrokerError, ErrorCode, ExecutedWire, Fault, PointerDetail};
use crate::operations::calls::ToolResult;

/// A result as it was kept.
pub(crate) fn kept_result(text: &str) -> Result<ToolResult, BrokerError> {
    let raw = RawValue::from_string(text.to_owned())
        .map_err(|_| Fault::new(ErrorCode::Internal, "a kept result cannot be read"))?;
    ToolResult::read(raw, usize::MAX)
}

/// A fault as the store keeps it.
#[derive(Debug, Serialize, Deserialize)]
struct KeptFault {
    code: String,
    detail: String,
    executed: ExecutedWire,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    hint: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    errors: Vec<(String, String)>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    upstream: Option<(String, Option<i64>)>,
}

pub(super) fn keep(fault: &Fault) -> Option<String> {
    let pairs = fault
        .errors
        .iter()
        .map(|one| (one.pointer.clone(), one.detail.clone()));
    let kept = KeptFault {
        code: fault.code.as_str().to_owned(),
        detail: fault.detail.clone(),
        executed: fault.executed,
        hint: fault.hint.clone(),
        errors: pairs.collect(),
        upstream: fault.upstream.clone(),
    };
    serde_json::to_string(&kept).ok()
}

pub(super) fn restore(text: &str) -> Option<Fault> {
    let kept: KeptFault = serde_json::from_str(text).ok()?;
    let mut fault = Fault::new(ErrorCode::parse(&kept.code)?, kept.detail);
    fault.executed = kept.executed;
    fault.hint = kept.hint;
    fault.upstream = kept.upstream;
    fault.errors = kept
        .errors
        .into_iter()
        .map(|(pointer, detail)| PointerDetail { pointer, detail })
        .collect();
    Some(*fault)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_comes_back_from_the_store_as_it_was() {
        let mut fault = Fault::new(ErrorCode::InvalidArguments, "b: expected number");
        fault.hint = Some("add(a, b)".to_owned());
        fault.upstream = Some(("s".to_owned(), Some(-32602)));
        fault.executed = ExecutedWire::Unknown;
        fault.errors.push(PointerDetail {
            pointer: "/arguments/b".to_owned(),
            detail: "expected number".to_owned(),
        });
        let again = restore(&keep(&fault).unwrap()).unwrap();
        assert_eq!(format!("{again:?}"), format!("{:?}", *fault));
    }
}
