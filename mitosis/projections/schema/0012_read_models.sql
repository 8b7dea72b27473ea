-- Pages of tasks by any filter without walking through the tasks of a group. Totals are sums of a few
-- counters, one for each set of tasks that are alike in all that has few values; an index has the
-- tasks of each counter in their order, and a table those of each label and tag.

ALTER TABLE views.tasks ADD COLUMN priority integer NOT NULL DEFAULT 0;
ALTER TABLE views.tasks ADD COLUMN exit_status integer NOT NULL DEFAULT -1;
COMMENT ON COLUMN views.tasks.exit_status IS 'exit code of its program; -1: it has none';

CREATE TABLE views.task_counts (
    group_name text NOT NULL,
    word text NOT NULL,
    creator text NOT NULL,
    state text NOT NULL,
    outcome text NOT NULL,
    exit_status integer NOT NULL,
    priority integer NOT NULL,
    tasks bigint NOT NULL,
    PRIMARY KEY (group_name, word, creator, state, outcome, exit_status, priority)
) WITH (fillfactor = 50);
COMMENT ON COLUMN views.task_counts.word IS 'of these tasks with it only, see task_words; empty: of all';
COMMENT ON COLUMN views.task_counts.outcome IS 'empty: none yet';

CREATE TABLE views.task_words (
    group_name text NOT NULL,
    word text NOT NULL,
    number bigint NOT NULL,
    PRIMARY KEY (group_name, word, number)
);
COMMENT ON COLUMN views.task_words.word IS 'such as "label run-1" or "tag gpu"';

DROP INDEX views.tasks_by_state, views.tasks_by_tag, views.tasks_by_label;

-- What follows from the rows that are there; of an empty set nothing.
UPDATE views.tasks t SET
    priority = coalesce((s.spec->>'priority')::integer, 0),
    exit_status = CASE WHEN t.exit->>'kind' = 'code'
        THEN coalesce((t.exit->>'number')::integer, 0) ELSE -1 END
    FROM views.task_specs s WHERE s.task = t.uuid;
INSERT INTO views.task_words
    SELECT group_name, 'label ' || label, number FROM views.tasks, unnest(labels) label
    UNION ALL SELECT group_name, 'tag ' || tag, number FROM views.tasks, unnest(tags) tag;
INSERT INTO views.task_counts
    SELECT t.group_name, w.word, creator, state, coalesce(outcome, ''), exit_status, priority,
        count(*)
    FROM views.tasks t JOIN (
        SELECT * FROM views.task_words UNION ALL SELECT group_name, '', number FROM views.tasks
    ) w USING (group_name, number)
    GROUP BY 1, 2, 3, 4, 5, 6, 7;

CREATE INDEX tasks_by_counter ON views.tasks
    (group_name, state, creator, (coalesce(outcome, '')), exit_status, priority, number);
