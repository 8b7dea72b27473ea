"""What a task inherits of the worker's surroundings, and what it can do to its neighbours."""

import asyncio
import os
import pty
import signal
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mitosis.processes.engine import Engine
from mitosis.processes.runs import Exited, Signaled

from .conftest import Bench, marked, wait_until
from .test_worker_death import Worker

#: glibc leaves its two internal signals, 32 and 33, ignored.
_INTERNAL = 0b11 << 31


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Worker]]:
    workers: list[Worker] = []

    def begin(script: str, **fields: Any) -> Worker:
        workers.append(
            Worker(tmp_path, slots=1, argv=["bash", "-c", script], report=True, **fields)
        )
        return workers[-1]

    yield begin
    for worker in workers:
        worker.end()


def output(worker: Worker) -> list[str]:
    """What the task of a worker said."""
    assert worker.read() == ["own"]
    assert worker.read() == [[True]]
    [said] = worker.read()
    worker.read()
    assert worker.read() is False, "the same folder again"
    assert worker.process.wait(20) == 0
    return str(said).splitlines()


def _spoil_signals() -> None:
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})


SURROUNDINGS: dict[str, dict[str, Any]] = {
    "nohup": {"before": ["nohup"]},
    "background of a shell": {"before": ["sh", "-c", '"$@" & wait', "sh"]},
    "ignored and blocked signals": {"popen": {"preexec_fn": _spoil_signals}},
}


@pytest.mark.parity("R-02")
@pytest.mark.parametrize("name", SURROUNDINGS)
def test_signals_of_a_task_are_clean_however_the_worker_was_started(
    start: Callable[..., Worker], name: str
) -> None:
    script = (
        "grep -E '^Sig(Blk|Ign)' /proc/self/status | cut -f2; yes | head -1;"
        "python3 -c 'import signal; print(signal.getsignal(2) is signal.default_int_handler)'"
    )
    blocked, ignored, *rest = output(start(script, **SURROUNDINGS[name]))
    assert [int(blocked, 16) & ~_INTERNAL, int(ignored, 16) & ~_INTERNAL] == [0, 0]
    assert rest == ["y", "True"], "and nothing on stderr"


USES_TERMINAL = (
    "exec 2>/dev/null; stty raw < /dev/tty; echo $?;"
    "python3 -c 'import getpass; print(getpass.getpass())'; echo $?;"
    "bash -ic 'echo inside'; echo $?; ps -o stat= --ppid $$ | grep -c T"
)


@pytest.mark.parity("R-08")
def test_programs_that_want_a_terminal_end_and_leave_that_of_the_worker_alone(
    start: Callable[..., Worker],
) -> None:
    """In the worker's session they would stop for ever, or leave the operator without echo."""
    ours, theirs = pty.openpty()
    before = subprocess.run(["stty", "-g"], stdin=theirs, capture_output=True, check=True).stdout

    def own_terminal() -> None:
        os.setsid()
        os.close(os.open(os.ttyname(theirs), os.O_RDWR))

    try:
        with_terminal = start(
            USES_TERMINAL, popen={"stdin": theirs, "stderr": theirs, "preexec_fn": own_terminal}
        )
        seen = output(with_terminal)
        os.set_blocking(ours, False)
        after = subprocess.run(["stty", "-g"], stdin=theirs, capture_output=True, check=True).stdout
        assert after == before
        with pytest.raises(BlockingIOError):
            os.read(ours, 1)
    finally:
        os.close(ours)
        os.close(theirs)
    without_terminal = output(start(USES_TERMINAL))
    assert seen == without_terminal == ["1", "1", "inside", "0", "0"]


@pytest.mark.parity("R-11")
async def test_a_kill_by_name_hits_neighbours_and_nothing_of_the_platform(tmp_path: Path) -> None:
    """Whoever searches command lines for what a task runs finds tasks only."""
    engine = Engine(2, tmp_path / "root")
    await engine.start()
    bench = Bench(engine, tmp_path)
    word = f"5{os.getpid()}.25"
    neighbour = bench.shell(f"sleep {word}; echo A", env={"LABEL": "killme"})
    await neighbour.started()
    with_pattern = bench.shell(f"pkill -f 'sleep {word}'; echo B", env={"LABEL": "killme"})
    first, second = await asyncio.gather(neighbour.result(), with_pattern.result())
    assert first.outcome == Signaled(signal.SIGTERM)
    assert (first.cause, second.cause) == ("own", "own")
    assert second.outcome == Signaled(signal.SIGTERM), "its own command line has the word too"
    guardian = engine.guardian_pid
    helpers = [
        guardian,
        *map(int, Path(f"/proc/{guardian}/task/{guardian}/children").read_text().split()),
    ]
    assert len(helpers) == 3
    for pid in helpers:
        shown = Path(f"/proc/{pid}/cmdline").read_bytes() + Path(f"/proc/{pid}/comm").read_bytes()
        assert word.encode() not in shown
        assert b"killme" not in shown + Path(f"/proc/{pid}/environ").read_bytes()
    for run in (neighbour, with_pattern):
        run.release()
    await engine.close(1.0)
    assert marked(bench.mark) == []


class Broker:
    """Something outside of the tree, as a container service: runs until it is told to stop."""

    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.bind(str(path))
        self._socket.listen()
        self.running: set[int] = set()
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._socket.accept()
            except OSError:
                return
            threading.Thread(target=self._run, args=(client,), daemon=True).start()

    def _run(self, client: socket.socket) -> None:
        work = subprocess.Popen(["sleep", "30"])
        self.running.add(work.pid)
        if client.recv(10) == b"stop":
            work.kill()
            work.wait()
            self.running.discard(work.pid)

    def close(self) -> None:
        """End what nobody stopped."""
        self._socket.close()
        for pid in self.running:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


CLIENT = """
import os, signal, socket, sys, time
link = socket.socket(socket.AF_UNIX)
link.connect(os.environ["BROKER"])
def stop(*_):
    link.send(b"stop")
    sys.exit(0)
signal.signal(signal.SIGTERM, stop if sys.argv[1:] == [] else signal.SIG_IGN)
print("ready", flush=True)
time.sleep(20)
"""


@pytest.mark.parity("R-04")
async def test_work_outside_of_the_tree_is_stopped_by_the_program_that_gets_the_signal_first(
    bench: Bench,
) -> None:
    """Only the tree is ours: so the program gets the signal and the time to clean up elsewhere."""
    broker = Broker(bench.root / "broker")
    try:
        env = {"BROKER": str(bench.root / "broker")}
        polite = bench.python(CLIENT, env=env, timeout_seconds=1.0, grace_seconds=10)
        await polite.started()
        wait_until(lambda: broker.running)
        result = await bench.finish(polite)
        assert (result.cause, result.outcome) == ("timeout", Exited(0))
        wait_until(lambda: not broker.running)
        rude = bench.start("python3", "-S", "-E", "-c", CLIENT, "deaf", env=env,
                           timeout_seconds=1.0, grace_seconds=0.5)  # fmt: skip
        result = await bench.finish(rude)
        assert (result.cause, result.outcome) == ("timeout", Signaled(signal.SIGKILL))
        assert result.wall_seconds < 5
        assert broker.running, "documented: what another service runs is beyond the engine"
    finally:
        broker.close()
