-- Attempts before the latest one, and until when a failed task waits to run again.

ALTER TABLE views.tasks ADD COLUMN retries integer NOT NULL DEFAULT 0;
ALTER TABLE views.tasks ADD COLUMN retry_at timestamptz;
ALTER TABLE views.tasks ADD COLUMN former_attempts jsonb NOT NULL DEFAULT '[]';

-- What was projected before lacks these: begin again with the first commit.
TRUNCATE views.position, views.users, views.user_sessions, views.groups, views.members,
    views.workers, views.worker_roles, views.tasks, views.task_specs, views.artifacts,
    views.attachments, views.group_usage;
