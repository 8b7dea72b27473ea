"""Rules only, one aggregate per file: commands, events, state, decide and evolve.

No I/O, no clock, no randomness, no logging: everything a decision needs is passed in.
"""
