"""Repair of a damaged event stream: what is sound in it and in the archive becomes whole again.

What can still be read (salvage.py), which copy of each commit is the right one and what is lost
(survey.py), what is kept of before (keeping.py), and the new stream (rebuild.py).
Decision: docs/decisions/0036-repair.md.
"""
