//! What policy says of one call, and what that means to its caller.

use super::find::Found;
use crate::arguments::Arguments;
use crate::asker::Asker;
use crate::error::{BrokerError, ErrorCode, Fault};
use crate::operations::Inner;
use crate::operations::calls::{CallTool, DryRun};
use crate::policy::{Decision, Subject, Verdict};

/// What policy says of the call, now that its arguments are known.
pub(super) fn decided(
    inner: &Inner,
    asker: &Asker,
    found: &Found,
    arguments: &Arguments,
) -> Verdict {
    let subject = Subject {
        reference: &found.tool.reference,
        hints: found.hints,
        arguments: Some(&arguments.value),
    };
    inner.policy.now().decide(&asker.principal, subject)
}

/// Refuses what policy denies, and what it wants a key for and has none.
///
/// # Errors
/// `policy_denied`, `invalid_request`.
pub(super) fn check_verdict(
    found: &Found,
    verdict: &Verdict,
    request: &CallTool,
) -> Result<(), BrokerError> {
    let reference = &found.tool.reference;
    if verdict.decision >= Decision::Deny {
        let detail = format!("{reference} is not for this principal's roles");
        let mut fault = Fault::new(ErrorCode::PolicyDenied, detail);
        fault.hint = Some(format!("decided by {}", verdict.because));
        return Err(fault);
    }
    if verdict.needs_key && request.idempotency_key.is_none() {
        let detail = format!("{reference} is called with an idempotency key or not at all");
        let mut fault = Fault::new(ErrorCode::InvalidRequest, detail);
        fault.hint = Some(
            "send Idempotency-Key: a text of your own, the same when you repeat the call"
                .to_owned(),
        );
        return Err(fault);
    }
    Ok(())
}

/// What a dry run answers.
pub(super) fn checked(found: &Found, arguments: &Arguments, verdict: &Verdict) -> DryRun {
    let effect = if found.hints.read_only {
        "reads"
    } else {
        "may change things"
    };
    DryRun {
        reference: found.tool.reference.to_string(),
        schema_hash: found.tool.hash.short(),
        decision: verdict.decision.as_str(),
        rule: verdict.because.to_string(),
        needs_key: verdict.needs_key,
        preview: format!(
            "would call {} ({effect}) with {{{}}}",
            found.tool.reference,
            arguments.preview()
        ),
        read_only: found.hints.read_only,
    }
}
