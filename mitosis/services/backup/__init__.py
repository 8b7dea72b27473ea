"""Backup and restore of a whole platform: events, objects, keys and settings.

The folder of a backup (folder.py), its commits (commits.py), what of S3 the events name
(inventory.py), taking one (taking.py), bringing back (restoring.py, copies.py), and the servers of
a data folder of `mito up` (data_folder.py). Decision: docs/decisions/0025-backup.md.
"""
