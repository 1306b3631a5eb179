-- The definition of each tool that was seen first or approved. One that differs is not called.
CREATE TABLE pins (
    workspace TEXT NOT NULL,
    server TEXT NOT NULL,
    -- Empty for a server of the workspace; user and agent, parted by a blank, for one of a user's own agents.
    scope TEXT NOT NULL,
    tool TEXT NOT NULL,
    hash TEXT NOT NULL,
    -- 1 read-only, 2 destructive, 4 idempotent, 8 open world: what the definition said.
    hints BIGINT NOT NULL,
    definition TEXT NOT NULL,
    -- NULL: pinned when it was seen first.
    approved_by TEXT,
    pinned_ms BIGINT NOT NULL,
    PRIMARY KEY (workspace, server, scope, tool)
);
