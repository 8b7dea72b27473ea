-- Only a projector of the version of these tables may write to them. One that has begun before a
-- migration would go on by its own rules, as no statement of it need fail: it would count no tasks.

CREATE FUNCTION views.check_writer() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    made_by text;
BEGIN
    EXECUTE format('SELECT max(number) FROM %I.schema_version', TG_TABLE_SCHEMA) INTO made_by;
    IF current_setting('mito.views_version', true) IS DISTINCT FROM made_by THEN
        -- As if it called what is not there: every version takes that for tables of another one.
        RAISE EXCEPTION 'the tables have become of version %', made_by
            USING ERRCODE = 'undefined_function';
    END IF;
    RETURN NEW;
END $$;

CREATE TRIGGER only_by_this_version BEFORE UPDATE ON views.position
    FOR EACH ROW EXECUTE FUNCTION views.check_writer();
