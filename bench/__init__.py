"""Benchmarks: what the platform costs beside the floor of the machine. Run by `just bench`."""
