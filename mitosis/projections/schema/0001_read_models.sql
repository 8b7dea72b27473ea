-- Read models: everything here follows from the stream and may be dropped and built again.

CREATE TABLE views.position (
    projection text PRIMARY KEY,
    position bigint NOT NULL,
    digest text NOT NULL,
    stream text NOT NULL
);

-- Moves a projection from the position at which its batch begins to the one at which it ends. A
-- second writer, or a batch that overlaps or leaves a gap, is refused, and its transaction with it.
CREATE FUNCTION views.advance(
    which text, expected bigint, reached bigint, reached_digest text
) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    UPDATE views.position SET position = reached, digest = reached_digest
        WHERE projection = which AND position = expected AND reached > expected;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'projection % is not at position %', which, expected
            USING ERRCODE = 'MT001';
    END IF;
END $$;

CREATE TABLE views.users (
    name text PRIMARY KEY,
    admin boolean NOT NULL,
    state text NOT NULL,
    group_quota integer NOT NULL,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL
);

CREATE TABLE views.groups (
    name text PRIMARY KEY,
    creator text NOT NULL,
    state text NOT NULL,
    storage_quota_bytes bigint NOT NULL,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL
);

CREATE TABLE views.members (
    group_name text NOT NULL,
    user_name text NOT NULL,
    role smallint NOT NULL,
    PRIMARY KEY (group_name, user_name)
);
CREATE INDEX members_by_user ON views.members (user_name);

CREATE TABLE views.workers (
    uuid uuid PRIMARY KEY,
    owner text NOT NULL,
    state text NOT NULL,
    tags text[] NOT NULL,
    labels text[] NOT NULL,
    slots integer NOT NULL,
    host text NOT NULL,
    version text NOT NULL,
    reason text NOT NULL,
    created_position bigint NOT NULL,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL
);

CREATE TABLE views.worker_roles (
    worker uuid NOT NULL,
    group_name text NOT NULL,
    role smallint NOT NULL,
    PRIMARY KEY (worker, group_name)
);
CREATE INDEX worker_roles_by_group ON views.worker_roles (group_name);

CREATE TABLE views.tasks (
    uuid uuid PRIMARY KEY,
    number bigint NOT NULL,
    group_name text NOT NULL,
    creator text NOT NULL,
    state text NOT NULL,
    outcome text,
    reason text NOT NULL,
    tags text[] NOT NULL,
    labels text[] NOT NULL,
    attempt integer NOT NULL,
    losses integer NOT NULL,
    worker uuid,
    cancel_requested boolean NOT NULL,
    steps jsonb NOT NULL,
    exit jsonb,
    warnings text[] NOT NULL,
    created_position bigint NOT NULL,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    started_at timestamptz,
    ended_at timestamptz
);
CREATE UNIQUE INDEX tasks_by_number ON views.tasks (group_name, number);
CREATE INDEX tasks_by_creator ON views.tasks (creator, created_position);
CREATE INDEX tasks_by_state ON views.tasks (group_name, state, number);
CREATE INDEX tasks_by_worker ON views.tasks (worker) WHERE state = 'running';
CREATE INDEX tasks_by_tag ON views.tasks USING gin (tags) WHERE tags <> '{}';
CREATE INDEX tasks_by_label ON views.tasks USING gin (labels) WHERE labels <> '{}';

CREATE TABLE views.task_specs (
    task uuid PRIMARY KEY,
    spec jsonb NOT NULL
);

CREATE TABLE views.artifacts (
    task uuid NOT NULL,
    kind text NOT NULL,
    object_name text NOT NULL,
    size_bytes bigint NOT NULL,
    sha256 text NOT NULL,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    PRIMARY KEY (task, kind)
);

CREATE TABLE views.attachments (
    group_name text NOT NULL,
    token text NOT NULL,
    key text NOT NULL,
    object_name text NOT NULL,
    size_bytes bigint NOT NULL,
    sha256 text NOT NULL,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    PRIMARY KEY (group_name, token)
);

CREATE TABLE views.group_usage (
    group_name text PRIMARY KEY,
    storage_used_bytes bigint NOT NULL,
    pending bigint NOT NULL,
    ready bigint NOT NULL,
    running bigint NOT NULL,
    finished bigint NOT NULL,
    cancelled bigint NOT NULL
);
