"""The long-running processes, one folder each."""
