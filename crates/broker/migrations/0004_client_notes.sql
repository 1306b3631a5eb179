-- What a face remembers of one of its clients, so that it holds after a restart and on every node. Nothing secret.
CREATE TABLE client_notes (
    name TEXT NOT NULL PRIMARY KEY,
    note TEXT NOT NULL,
    written_ms BIGINT NOT NULL
);

CREATE INDEX client_notes_by_age ON client_notes (written_ms);
