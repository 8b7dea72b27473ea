-- Open sessions, and why accounts and groups are locked or deleted.

ALTER TABLE views.users ADD COLUMN reason text NOT NULL DEFAULT '';
ALTER TABLE views.groups ADD COLUMN reason text NOT NULL DEFAULT '';

CREATE TABLE views.user_sessions (
    user_name text PRIMARY KEY,
    sessions jsonb NOT NULL
);

-- What was projected before lacks these: begin again with the first commit.
TRUNCATE views.position, views.users, views.groups, views.members, views.workers,
    views.worker_roles, views.tasks, views.task_specs, views.artifacts, views.attachments,
    views.group_usage;
