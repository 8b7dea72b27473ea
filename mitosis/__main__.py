"""`mito`, also as `python -m mitosis`."""

import gc
import sys


def main() -> int:
    """Run the command line of this process.

    Returns:
        The exit status.
    """
    if sys.argv[1:] in (["--version"], ["-V"]):  # needs no parser: answer at once
        from mitosis.cli.output.streams import delivered

        return delivered(show_version)
    if sys.argv[1:2] == ["--complete"] and len(sys.argv) == 3:  # asked at every TAB: be quick
        return complete(sys.argv[2])
    gc.disable()  # until the command runs: what is imported stays
    from mitosis.cli.main import main as run

    status = run()
    gc.freeze()  # nor at the end: the process takes all with it
    return status


def show_version() -> int:
    """Print the version."""
    from mitosis._version import __version__

    sys.stdout.write(f"mito {__version__}\n")
    return 0


def complete(shell: str) -> int:
    """Answer the script of a shell, or bring up to date what such answers are made from."""
    if shell == "refresh":
        from mitosis.cli.completion.background import refresh

        return refresh()
    from mitosis.cli.completion.shells import answer_shell

    return answer_shell(shell)


if __name__ == "__main__":
    sys.exit(main())
