-- The audit chain: ended calls and administrative acts of a workspace, numbered and hashed in the order one node
-- committed them (docs/decisions/0015-audit-chain.md). NULL on rows that have not ended, or are older than this.
ALTER TABLE calls ADD COLUMN chain TEXT;
ALTER TABLE calls ADD COLUMN seq BIGINT;
ALTER TABLE calls ADD COLUMN hash TEXT;
-- The approval a person gave for this call.
ALTER TABLE calls ADD COLUMN approval_id TEXT;
CREATE UNIQUE INDEX calls_in_chain ON calls (workspace, chain, seq) WHERE seq IS NOT NULL;
CREATE INDEX calls_by_user ON calls (workspace, user_id, id);

ALTER TABLE actions ADD COLUMN chain TEXT;
ALTER TABLE actions ADD COLUMN seq BIGINT;
ALTER TABLE actions ADD COLUMN hash TEXT;
CREATE UNIQUE INDEX actions_in_chain ON actions (workspace, chain, seq) WHERE seq IS NOT NULL;

-- Signed places of a chain: its newest signed end, and the entry after which retention left it beginning.
CREATE TABLE audit_heads (
    workspace TEXT NOT NULL,
    chain TEXT NOT NULL,
    -- 'head' or 'anchor'.
    kind TEXT NOT NULL,
    seq BIGINT NOT NULL,
    hash TEXT NOT NULL,
    signed_ms BIGINT NOT NULL,
    signature TEXT NOT NULL,
    PRIMARY KEY (workspace, chain, kind)
);
