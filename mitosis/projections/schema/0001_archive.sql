-- The second copy: every commit as it was stored, append-only. Rebuilds never touch this schema.

CREATE TABLE archive.commits (
    position bigint PRIMARY KEY CHECK (position > 0),
    subject text NOT NULL,
    payload bytea NOT NULL,
    digest text NOT NULL
);
COMMENT ON TABLE archive.commits IS
    'digest: SHA-256 over subject, newline and payload; position: sequence in the stream';

CREATE FUNCTION archive.refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'the archive is append-only: % of %.% is refused',
        TG_OP, TG_TABLE_SCHEMA, TG_TABLE_NAME USING ERRCODE = 'MT002';
END $$;

CREATE TRIGGER only_append BEFORE UPDATE OR DELETE OR TRUNCATE ON archive.commits
    FOR EACH STATEMENT EXECUTE FUNCTION archive.refuse();
-- also when a session claims to be a replica
ALTER TABLE archive.commits ENABLE ALWAYS TRIGGER only_append;

REVOKE UPDATE, DELETE, TRUNCATE ON archive.commits FROM PUBLIC;
