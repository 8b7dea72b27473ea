-- Which task another one repeats.

ALTER TABLE views.tasks ADD COLUMN rerun_of uuid;
CREATE INDEX tasks_by_origin ON views.tasks (rerun_of) WHERE rerun_of IS NOT NULL;
