-- The ledger by workspace first: one index fewer to write for each call, and columns a plain read-only call
-- leaves at their defaults.
CREATE TABLE calls_by_key (
    workspace TEXT NOT NULL,
    id TEXT NOT NULL,
    user_id TEXT NOT NULL,
    key_id TEXT NOT NULL,
    kind TEXT NOT NULL,
    reference TEXT NOT NULL,
    lane TEXT NOT NULL,
    trace_id TEXT NOT NULL,
    arguments_digest TEXT NOT NULL,
    preview TEXT NOT NULL,
    schema_hash TEXT,
    idempotency_key TEXT,
    -- Empty where nobody could repeat the call.
    request_digest TEXT NOT NULL DEFAULT '',
    read_only BIGINT NOT NULL DEFAULT 1,
    detached BIGINT NOT NULL DEFAULT 0,
    node TEXT NOT NULL,
    created_ms BIGINT NOT NULL,
    state TEXT NOT NULL,
    session_id TEXT,
    ended_ms BIGINT,
    duration_ms BIGINT,
    code TEXT,
    result TEXT,
    fault TEXT,
    PRIMARY KEY (workspace, id)
);

INSERT INTO calls_by_key (workspace, id, user_id, key_id, kind, reference, lane, trace_id, arguments_digest, preview,
    schema_hash, idempotency_key, request_digest, read_only, detached, node, created_ms, state, session_id, ended_ms,
    duration_ms, code, result, fault)
SELECT workspace, id, user_id, key_id, kind, reference, lane, trace_id, arguments_digest, preview,
    schema_hash, idempotency_key, request_digest, read_only, detached, node, created_ms, state, session_id, ended_ms,
    duration_ms, code, result, fault FROM calls;

DROP TABLE calls;
ALTER TABLE calls_by_key RENAME TO calls;

CREATE INDEX calls_by_trace ON calls (trace_id);
-- Few rows are ever unsettled: the sweep at start reads this and nothing else.
CREATE INDEX calls_unsettled ON calls (node) WHERE ended_ms IS NULL;

-- Numbers that rise with every change of something many remember: one read tells whether all of it still holds.
CREATE TABLE epochs (
    name TEXT NOT NULL PRIMARY KEY,
    value BIGINT NOT NULL
);

INSERT INTO epochs (name, value) VALUES ('principals', 0);
