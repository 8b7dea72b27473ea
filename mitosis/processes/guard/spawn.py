"""Start of one program: argv as given, never through a shell, nothing in front of it.

Each helper binary before the task would cost another exec, 0.7 ms measured.
"""

import errno
import os
import signal
import stat
from collections.abc import Callable, Iterator

from . import diagnosis
from .confinement import Confinement
from .spawn_error import SpawnError

_SETTABLE = signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}


def ignored_signals() -> list[int]:
    """Signals that this process ignores, and so would its programs if it did nothing about it.

    What it handles in its own way goes back to the default by itself.
    """
    return sorted(n for n in _SETTABLE if signal.getsignal(n) is signal.SIG_IGN)


def spawn(
    argv: list[str],
    env: dict[str, str],
    folder: bytes,
    stdout_fd: int,
    stderr_fd: int,
    ignored: list[int],
    confinement: Confinement | None = None,
) -> int:
    """Start a program in an own session with clean signals; its pid.

    The caller has one thread, so its working folder can be changed for the moment of the spawn.
    `ignored`: the signals that it ignores (`ignored_signals`), which the program does not.

    Raises:
        SpawnError: with the stage that failed; nothing was started.
    """
    if not argv:
        raise SpawnError("arguments", errno.EINVAL, "the argument list is empty")
    try:
        os.chdir(folder)
    except OSError as problem:
        text = f"{os.fsdecode(folder)}: {problem.strerror}"
        raise SpawnError("folder", problem.errno or 0, text) from problem
    start = _starter(argv, env, stdout_fd, stderr_fd, ignored, confinement)
    other_user = confinement is not None and confinement.user is not None
    try:
        return _start_first(start, argv, env, other_user=other_user)
    except ValueError as problem:
        # NUL byte, a name with "=", or text that no byte string stands for.
        raise SpawnError("arguments", errno.EINVAL, str(problem)) from problem
    finally:
        os.chdir("/")


def _starter(
    argv: list[str],
    env: dict[str, str],
    stdout_fd: int,
    stderr_fd: int,
    ignored: list[int],
    confinement: Confinement | None,
) -> Callable[[str], int]:
    """What starts a program of a given path, as this user without limits or in a confinement."""
    if confinement is not None:
        return lambda program: confinement.start(program, argv, env, stdout_fd, stderr_fd)
    return lambda program: os.posix_spawn(
        program,
        argv,
        env,
        file_actions=(
            # Descriptor 0 is /dev/null already; the others close themselves.
            (os.POSIX_SPAWN_DUP2, stdout_fd, 1),
            (os.POSIX_SPAWN_DUP2, stderr_fd, 2),
        ),
        setsid=True,
        setsigmask=(),
        setsigdef=ignored,
    )


def _start_first(
    start: Callable[[str], int], argv: list[str], env: dict[str, str], *, other_user: bool
) -> int:
    """Start what execvp would: of the programs of the name, the first that may be executed."""
    denied: list[SpawnError] = []
    for program in _candidates(argv[0], env.get("PATH", os.defpath)):
        try:
            return start(program)
        except OSError as problem:
            refusal = _refusal(program, problem, argv, env, other_user)
            if problem.errno != errno.EACCES:
                raise refusal from problem
            # A task of another user may not reach what this process can look at.
            denied.append(refusal)
    raise denied[0]


def _refusal(
    program: str, problem: OSError, argv: list[str], env: dict[str, str], other_user: bool
) -> SpawnError:
    number = problem.errno or 0
    stage = "machine" if number in diagnosis.OF_THE_MACHINE else "exec"
    text = diagnosis.refused(program, number, argv, env, other_user=other_user)
    return SpawnError(stage, number, text)


def _candidates(name: str, path: str) -> Iterator[str]:
    """The programs of a name, by the task's PATH and not by ours.

    Raises:
        SpawnError: there is none.
    """
    if "/" in name:
        yield name
        return
    if not name:
        raise SpawnError("program", errno.ENOENT, "the program name is empty")
    found = refused = False
    locked: list[str] = []
    for folder in path.split(":"):
        candidate = f"{folder or '.'}/{name}"
        try:
            mode = os.stat(candidate).st_mode
        except OSError as problem:
            if problem.errno == errno.EACCES:
                locked.append(folder)
            continue
        if stat.S_ISREG(mode):
            if os.access(candidate, os.X_OK):
                found = True
                yield candidate
            else:
                refused = True
    if found:
        return
    if refused:
        text = f"{name}: in PATH, but not executable (chmod +x)"
        raise SpawnError("program", errno.EACCES, text)
    raise SpawnError("program", errno.ENOENT, diagnosis.not_found(name, path, locked))
