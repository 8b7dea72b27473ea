-- Attachments are listed in the order of the bytes of their keys, whatever the database's own order.
CREATE INDEX attachments_by_key ON views.attachments (group_name, key COLLATE "C");
