"""The fault suite: a campaign under faults, and a checker of everything that it leaves behind.

    evidence   what a run leaves: acknowledged operations, stream, ledger, read models, objects
    checker    all rules; each takes evidence and returns violations, and is pure
    lives, ledger, order, storage   the rules, by what they look at
    site, proxy   the processes of a platform, and the links that can be cut between them
    campaign, nemesis   random operations, random faults, both seeded
    collect, run   quiesce, gather the evidence, check it, say what happened
    planted    broken copies of the code, each of which the suite must report

`python -m mitosis.testing.chaos --help`; docs/reliability.md.
"""
