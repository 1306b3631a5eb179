-- Who signed in with a browser: what a cookie stands for, so that it holds after a restart and on every node.
CREATE TABLE logins (
    id TEXT NOT NULL PRIMARY KEY,
    secret_hash TEXT NOT NULL,
    user_id TEXT NOT NULL,
    -- The key it was begun with, which it ends with. NULL when a token of the issuer began it.
    key_id TEXT,
    -- What that token opened; a key's login opens what the key opens at the time.
    memberships TEXT,
    created_ms BIGINT NOT NULL,
    expires_ms BIGINT NOT NULL
);

CREATE INDEX logins_by_user ON logins (user_id, created_ms);
CREATE INDEX logins_by_expiry ON logins (expires_ms);
