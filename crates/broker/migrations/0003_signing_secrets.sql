-- Random keys of this bridge, made once: what they sign is still good after a restart and on every node.
-- They prove where a token comes from and open nothing by themselves.
CREATE TABLE signing_secrets (
    name TEXT NOT NULL PRIMARY KEY,
    secret TEXT NOT NULL,
    created_ms BIGINT NOT NULL
);
