"""`python -m bench.quick`: throughput, round trip and engine in short; see `just bench`."""

import sys

from bench.__main__ import main

if __name__ == "__main__":
    main(["--quick", "engine", "true", "latency", *sys.argv[1:]])
