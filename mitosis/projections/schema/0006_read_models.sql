-- What a worker's machine can promise for tasks, and what it lets them use.

ALTER TABLE views.workers ADD COLUMN guarantees text[] NOT NULL DEFAULT '{}';
ALTER TABLE views.workers ADD COLUMN default_limits jsonb NOT NULL DEFAULT '{}';
ALTER TABLE views.workers ADD COLUMN ceilings jsonb NOT NULL DEFAULT '{}';
