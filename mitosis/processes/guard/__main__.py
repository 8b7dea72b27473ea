"""Entry of the guardian, started by path: `python -I -S -E .../guard/__main__.py ARGUMENTS`.

The arguments: descriptor of the channel, pid of the worker, token of the root folder, and words:
`first` (no runner of an earlier guardian is alive), `isolate` (in a PID namespace).

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

    control, worker, token, *words = sys.argv[1:]
    return main(
        int(control), int(worker), token, first="first" in words, isolate="isolate" in words
    )


if __name__ == "__main__":
    sys.exit(_enter())
