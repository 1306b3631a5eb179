-- What a person must decide before a call goes on, and whether its token was used.
CREATE TABLE approvals (
    workspace TEXT NOT NULL,
    id TEXT NOT NULL,
    user_id TEXT NOT NULL,
    reference TEXT NOT NULL,
    -- Empty where the caller named no agent.
    agent_id TEXT NOT NULL,
    arguments_digest TEXT NOT NULL,
    schema_hash TEXT NOT NULL,
    trace_id TEXT NOT NULL,
    rule TEXT NOT NULL,
    self_confirm BIGINT NOT NULL,
    preview TEXT NOT NULL,
    -- The call that is held for it; NULL where the caller sends it again with a token.
    call_id TEXT,
    node TEXT NOT NULL,
    state TEXT NOT NULL,
    created_ms BIGINT NOT NULL,
    expires_ms BIGINT NOT NULL,
    decided_ms BIGINT,
    decided_by TEXT,
    note TEXT,
    PRIMARY KEY (workspace, id)
);

-- Few are ever open: asking, counting and the sweep at start read this and nothing else.
CREATE INDEX approvals_open ON approvals (workspace, user_id, reference) WHERE state IN ('pending', 'approved');
CREATE INDEX approvals_by_age ON approvals (expires_ms);
