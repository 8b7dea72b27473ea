"""Entry of the guardian, started by path: `python -I -S -E .../guard/__main__.py FD WORKER_PID`.

Isolated mode leaves the folder of the script out of the search path. The package is found under
its short name instead, without loading the package `mitosis` above it.
"""

import sys


def _enter() -> int:
    folder = __file__.rpartition("/")[0]
    parent, _, name = folder.rpartition("/")
    sys.path.append(parent)
    globals()["__package__"] = name

    from .guardian import main

    return main(control_fd=int(sys.argv[1]), worker_pid=int(sys.argv[2]))


if __name__ == "__main__":
    sys.exit(_enter())
