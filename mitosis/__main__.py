"""`mito`, also as `python -m mitosis`."""

import sys


def main() -> int:
    """Run the command line of this process.

    Returns:
        The exit status.
    """
    from mitosis.cli.main import main as run

    return run()


if __name__ == "__main__":
    sys.exit(main())
