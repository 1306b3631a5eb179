-- Agents: who they are, the one live token of each, and the last catalogue each sent.
CREATE TABLE agents (
    user_id TEXT NOT NULL,
    agent_id TEXT NOT NULL,
    workspace TEXT NOT NULL,
    label TEXT,
    -- The version of the one token that is good. It only ever rises, also past a deletion: no old token comes back.
    token_version BIGINT NOT NULL,
    token_issued_ms BIGINT NOT NULL,
    token_expires_ms BIGINT NOT NULL,
    created_ms BIGINT NOT NULL,
    deleted_ms BIGINT,
    -- Rises with every connection of the agent.
    epoch BIGINT NOT NULL DEFAULT 0,
    last_seen_ms BIGINT,
    meta TEXT,
    catalogue TEXT,
    catalogue_ms BIGINT,
    PRIMARY KEY (user_id, agent_id)
);

-- Which of a user's agents a lane means when it names none.
CREATE TABLE agent_defaults (
    workspace TEXT NOT NULL,
    user_id TEXT NOT NULL,
    lane TEXT NOT NULL,
    agent_id TEXT NOT NULL,
    PRIMARY KEY (workspace, user_id, lane)
);

-- Calls through an agent outlive the bridge: the next start attends them again until their deadline.
ALTER TABLE calls ADD COLUMN agent_id TEXT;
ALTER TABLE calls ADD COLUMN deadline_ms BIGINT;
