"""The coordinator: decides commands, stores events, dispatches tasks."""
