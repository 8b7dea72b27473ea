"""Rules only: one aggregate per file, commands, events, state, decide and evolve. No I/O, clock, randomness or logging."""
