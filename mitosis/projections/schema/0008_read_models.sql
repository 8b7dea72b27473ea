-- The position is looked for in the schema of the session (its search_path), so that the same
-- statements also build a second set of read models beside the live one.

CREATE OR REPLACE FUNCTION views.advance(
    which text, expected bigint, reached bigint, reached_digest text
) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    UPDATE position AS p SET position = reached, digest = reached_digest
        WHERE p.projection = which AND p.position = expected AND reached > expected;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'projection % is not at position %', which, expected
            USING ERRCODE = 'MT001';
    END IF;
END $$;
