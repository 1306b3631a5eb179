-- Values sealed by envelope encryption: secrets of users and workspaces, grants at authorization servers, clients
-- registered there, and sign-ins under way. Without the key of the configuration nobody reads one.
CREATE TABLE sealed (
    workspace TEXT NOT NULL,
    server TEXT NOT NULL,
    -- Empty for what belongs to the workspace: a primary key holds no NULL.
    user_id TEXT NOT NULL,
    -- secret, grant, client or flow.
    kind TEXT NOT NULL,
    -- The secret's name, the issuer, or the digest of a state.
    field TEXT NOT NULL,
    -- Rises with every change; part of what the seal is bound to.
    version BIGINT NOT NULL,
    -- Which key wraps this row's own key.
    key_id TEXT NOT NULL,
    wrapped_key TEXT NOT NULL,
    body TEXT NOT NULL,
    -- What people may see of it, JSON; nothing secret.
    about TEXT NOT NULL,
    written_ms BIGINT NOT NULL,
    -- Until when one node has it to itself for renewing it.
    busy_ms BIGINT NOT NULL DEFAULT 0,
    PRIMARY KEY (workspace, server, user_id, kind, field)
);

CREATE INDEX sealed_by_field ON sealed (kind, field);
CREATE INDEX sealed_by_key ON sealed (key_id);
