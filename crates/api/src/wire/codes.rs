//! Codes and the CLI's exit codes. Generated from `broker::ErrorCode`; do not edit, run the tests with
//! `UPDATE_GENERATED=1`.

/// Every code of the bridge with the exit code of the CLI, in the order of `docs/ERRORS.md`.
pub const EXIT_CODES: &[(&str, u8)] = &[
    ("invalid_request", 2),
    ("unauthenticated", 3),
    ("forbidden", 7),
    ("policy_denied", 7),
    ("server_not_found", 6),
    ("tool_not_found", 6),
    ("resource_not_found", 6),
    ("prompt_not_found", 6),
    ("session_not_found", 6),
    ("call_not_found", 6),
    ("agent_not_found", 6),
    ("schema_changed", 10),
    ("tool_quarantined", 10),
    ("in_progress", 10),
    ("conflict", 10),
    ("version_conflict", 10),
    ("payload_too_large", 2),
    ("invalid_arguments", 2),
    ("idempotency_mismatch", 2),
    ("unsupported_schema", 2),
    ("confirmation_required", 7),
    ("confirmation_invalid", 7),
    ("rate_limited", 9),
    ("quota_exceeded", 9),
    ("cancelled", 130),
    ("internal", 1),
    ("upstream_protocol_error", 4),
    ("upstream_exited", 4),
    ("result_too_large", 4),
    ("upstream_unreachable", 4),
    ("agent_offline", 4),
    ("circuit_open", 9),
    ("overloaded", 9),
    ("shutting_down", 9),
    ("store_unavailable", 9),
    ("node_unreachable", 9),
    ("upstream_needs_auth", 3),
    ("upstream_timeout", 8),
    ("outcome_unknown", 8),
];

/// The CLI's exit code for a code of the bridge; `None` for a code this version does not know.
#[must_use]
pub fn exit_code(code: &str) -> Option<u8> {
    let row = EXIT_CODES.iter().find(|(name, _)| *name == code)?;
    Some(row.1)
}
