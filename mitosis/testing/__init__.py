"""Public helpers for tests: clocks, ids, builders and real servers on free ports."""
