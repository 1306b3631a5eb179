//! The closed list of error codes as a client needs it. `broker::ErrorCode` is the source; a test of the
//! daemon holds the two equal. Owns no behaviour.

/// What a client knows about a code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Code {
    /// As in `code` of a problem.
    pub name: &'static str,
    /// The HTTP status.
    pub status: u16,
    /// The CLI's exit code.
    pub exit: u8,
    /// Whether the same request may succeed later.
    pub retryable: bool,
}

const fn code(name: &'static str, status: u16, exit: u8, retryable: bool) -> Code {
    Code {
        name,
        status,
        exit,
        retryable,
    }
}

/// Every code, in the order of `docs/errors.md`.
pub const CODES: &[Code] = &[
    code("invalid_request", 400, 2, false),
    code("unauthenticated", 401, 3, false),
    code("forbidden", 403, 7, false),
    code("policy_denied", 403, 7, false),
    code("server_not_found", 404, 6, false),
    code("tool_not_found", 404, 6, false),
    code("resource_not_found", 404, 6, false),
    code("prompt_not_found", 404, 6, false),
    code("session_not_found", 404, 6, false),
    code("call_not_found", 404, 6, false),
    code("agent_not_found", 404, 6, false),
    code("schema_changed", 409, 10, false),
    code("tool_quarantined", 409, 10, false),
    code("in_progress", 409, 10, false),
    code("conflict", 409, 10, false),
    code("version_conflict", 412, 10, false),
    code("payload_too_large", 413, 2, false),
    code("invalid_arguments", 422, 2, false),
    code("idempotency_mismatch", 422, 2, false),
    code("unsupported_schema", 422, 2, false),
    code("confirmation_required", 428, 7, true),
    code("confirmation_invalid", 403, 7, false),
    code("rate_limited", 429, 9, true),
    code("quota_exceeded", 429, 9, true),
    code("cancelled", 409, 130, false),
    code("internal", 500, 1, false),
    code("upstream_protocol_error", 502, 4, false),
    code("upstream_exited", 502, 4, false),
    code("result_too_large", 502, 4, false),
    code("upstream_unreachable", 502, 4, true),
    code("agent_offline", 502, 4, true),
    code("circuit_open", 503, 9, true),
    code("overloaded", 503, 9, true),
    code("shutting_down", 503, 9, true),
    code("store_unavailable", 503, 9, true),
    code("node_unreachable", 503, 9, true),
    code("upstream_needs_auth", 502, 3, false),
    code("upstream_timeout", 504, 8, false),
    code("outcome_unknown", 504, 8, false),
];

/// The exit code that belongs to a code; `None` for one this version does not know.
#[must_use]
pub fn exit_code(code: &str) -> Option<u8> {
    CODES
        .iter()
        .find(|known| known.name == code)
        .map(|known| known.exit)
}
