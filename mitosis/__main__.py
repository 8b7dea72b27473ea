"""`mito`, also as `python -m mitosis`."""

import sys


def main() -> int:
    """Run the command line of this process.

    Returns:
        The exit status.
    """
    if sys.argv[1:] in (["--version"], ["-V"]):  # needs no parser: answer at once
        from mitosis._version import __version__

        sys.stdout.write(f"mito {__version__}\n")
        return 0
    from mitosis.cli.main import main as run

    return run()


if __name__ == "__main__":
    sys.exit(main())
