"""The worker: takes assignments, runs them, uploads and reports."""
