-- One text for SQLite and PostgreSQL: times are unix milliseconds, ids and JSON are text, digests are hex, flags 0 or 1.

CREATE TABLE workspaces (
    id TEXT NOT NULL PRIMARY KEY,
    created_ms BIGINT NOT NULL
);

CREATE TABLE users (
    id TEXT NOT NULL PRIMARY KEY,
    created_ms BIGINT NOT NULL
);

CREATE TABLE memberships (
    user_id TEXT NOT NULL,
    workspace TEXT NOT NULL,
    roles TEXT NOT NULL,
    PRIMARY KEY (user_id, workspace)
);

CREATE TABLE api_keys (
    id TEXT NOT NULL PRIMARY KEY,
    user_id TEXT NOT NULL,
    secret_hash TEXT NOT NULL,
    name TEXT,
    scopes TEXT NOT NULL,
    workspaces TEXT NOT NULL,
    created_ms BIGINT NOT NULL,
    expires_ms BIGINT,
    revoked_ms BIGINT,
    last_used_ms BIGINT
);

CREATE TABLE servers (
    workspace TEXT NOT NULL,
    name TEXT NOT NULL,
    version BIGINT NOT NULL,
    -- NULL marks the version in which the server was deleted.
    definition TEXT,
    created_ms BIGINT NOT NULL,
    created_by TEXT,
    PRIMARY KEY (workspace, name, version)
);

CREATE TABLE catalogs (
    workspace TEXT NOT NULL,
    server TEXT NOT NULL,
    -- Empty for a catalogue the whole workspace shares: a primary key holds no NULL.
    user_id TEXT NOT NULL,
    hash TEXT NOT NULL,
    listing TEXT NOT NULL,
    fetched_ms BIGINT NOT NULL,
    PRIMARY KEY (workspace, server, user_id)
);

-- The ledger: one row for each call.
CREATE TABLE calls (
    id TEXT NOT NULL PRIMARY KEY,
    workspace TEXT NOT NULL,
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
    request_digest TEXT NOT NULL,
    read_only BIGINT NOT NULL,
    detached BIGINT NOT NULL,
    node TEXT NOT NULL,
    created_ms BIGINT NOT NULL,
    state TEXT NOT NULL,
    session_id TEXT,
    ended_ms BIGINT,
    duration_ms BIGINT,
    code TEXT,
    result TEXT,
    fault TEXT
);

CREATE INDEX calls_by_workspace ON calls (workspace, id);
CREATE INDEX calls_by_trace ON calls (trace_id);
-- Few rows are ever unsettled: the sweep at start reads this and nothing else.
CREATE INDEX calls_unsettled ON calls (node) WHERE ended_ms IS NULL;

CREATE TABLE idempotency (
    workspace TEXT NOT NULL,
    user_id TEXT NOT NULL,
    reference TEXT NOT NULL,
    idempotency_key TEXT NOT NULL,
    call_id TEXT NOT NULL,
    expires_ms BIGINT NOT NULL,
    PRIMARY KEY (workspace, user_id, reference, idempotency_key)
);

CREATE INDEX idempotency_by_expiry ON idempotency (expires_ms);

-- What is no call: keys, servers, users changed.
CREATE TABLE actions (
    id TEXT NOT NULL PRIMARY KEY,
    workspace TEXT NOT NULL,
    user_id TEXT NOT NULL,
    key_id TEXT NOT NULL,
    action TEXT NOT NULL,
    target TEXT NOT NULL,
    trace_id TEXT NOT NULL,
    created_ms BIGINT NOT NULL
);

CREATE INDEX actions_by_workspace ON actions (workspace, id);

-- Events as they were written together: one row holds a run of one workspace's events, a JSON text a line.
CREATE TABLE events (
    workspace TEXT NOT NULL,
    last_id BIGINT NOT NULL,
    first_id BIGINT NOT NULL,
    first_ms BIGINT NOT NULL,
    last_ms BIGINT NOT NULL,
    body TEXT NOT NULL,
    PRIMARY KEY (workspace, last_id)
);

CREATE INDEX events_by_time ON events (last_ms);

CREATE TABLE event_marks (
    workspace TEXT NOT NULL PRIMARY KEY,
    -- Ids up to this may have been given out: a new start begins after it.
    reserved BIGINT NOT NULL,
    -- Every event up to this id is gone: pruned, or never kept because there were too many a second.
    gone BIGINT NOT NULL
);
