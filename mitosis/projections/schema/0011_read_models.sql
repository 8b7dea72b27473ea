-- Audit by kind, command and event. What most commits are (the life of a task) is found by reading on
-- from a position; these find the rest, and cost the usual commit one entry.

CREATE INDEX commits_by_kind ON views.commits (kind, position) WHERE kind <> 'task';
CREATE INDEX commits_by_command ON views.commits USING hash (command) WHERE command <> '';
-- The events of an undisturbed task; event_reads.py says the same.
CREATE INDEX commits_by_event ON views.commits USING gin (topics) WHERE NOT topics <@ ARRAY[
    'task.submitted@1', 'task.ready@1', 'task.assigned@1', 'task.started@1', 'task.progressed@1',
    'task.exited@1', 'task.artifact_stored@1', 'task.committed@1'];
