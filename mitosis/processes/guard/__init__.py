"""What runs beside the worker: the guardian and its runners.

Started by file path with `python -I -S -E`, so these modules import the standard library and each
other (relatively), and nothing else of the project: every module loaded here costs memory in each
slot, and the peak memory of a task can never be reported below that of the process spawning it.
The worker's side imports `frames` and `linux` from here, for both ends to speak one language.
"""
