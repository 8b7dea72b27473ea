-- Who did what, when, from where: one row a commit. The commit itself is in the archive.

CREATE TABLE views.commits (
    position bigint PRIMARY KEY,
    at timestamptz NOT NULL,
    actor text NOT NULL,
    session text NOT NULL,
    command text NOT NULL,
    kind text NOT NULL,
    group_name text,
    name text NOT NULL,
    topics text[] NOT NULL
);
COMMENT ON COLUMN views.commits.group_name IS 'of tasks and attachments; else null';
COMMENT ON COLUMN views.commits.session IS 'of the user who asked; empty: no session did';

CREATE INDEX commits_by_time ON views.commits (at, position);
CREATE INDEX commits_by_name ON views.commits (name, position);
CREATE INDEX commits_by_actor ON views.commits (actor, position);
CREATE INDEX commits_by_group ON views.commits (group_name, position) WHERE group_name IS NOT NULL;

-- Where sessions were opened from, also those that are over.
CREATE TABLE views.session_sources (
    session text PRIMARY KEY,
    user_name text NOT NULL,
    source text NOT NULL,
    opened_at timestamptz NOT NULL
);

-- By the position of its last change a row tells whether it was already so at a past moment.
ALTER TABLE views.tasks ADD COLUMN changed_position bigint NOT NULL DEFAULT 0;

-- What was projected before lacks these: begin again with the first commit.
TRUNCATE views.position, views.users, views.user_sessions, views.groups, views.members,
    views.workers, views.worker_roles, views.tasks, views.task_specs, views.artifacts,
    views.attachments, views.group_usage;
