-- Calls that are asked after later, by their users, newest first (tasks/list of 2025-11-25).
CREATE INDEX calls_detached ON calls (workspace, user_id, id) WHERE detached = 1;
