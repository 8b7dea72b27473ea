"""GNU parallel, two at once, with a job log."""

import subprocess
import tempfile

from bench.peers.say import SLOTS, rate, sizes


def campaign(count: int) -> None:
    """Run one campaign."""
    numbers = "\n".join(map(str, range(count)))
    with tempfile.NamedTemporaryFile() as log:
        subprocess.run(
            ["parallel", "--will-cite", f"-j{SLOTS}", "--joblog", log.name, "/bin/true"],
            input=numbers, text=True, check=True,
        )  # fmt: skip


def main() -> None:
    """Measure."""
    campaign(10)
    for size in sizes():
        rate(size, campaign)


if __name__ == "__main__":
    main()
