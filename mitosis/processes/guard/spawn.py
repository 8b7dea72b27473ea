"""Start of one program: argv as given, never through a shell, nothing in front of it.

Each helper binary before the task would cost another exec, 0.7 ms measured.
"""

import errno
import os
import signal
import stat

_ALL_SIGNALS = sorted(signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP})
_OOM_SCORE_OF_TASKS = b"500"


class SpawnError(Exception):
    """The program could not be started.

    Attributes:
        stage: `arguments`, `folder`, `output`, `program` or `exec`.
        number: error number of the operating system.
        text: what was tried on what.
    """

    def __init__(self, stage: str, number: int, text: str) -> None:
        super().__init__(stage, number, text)
        self.stage = stage
        self.number = number
        self.text = text


def spawn(
    argv: list[str], env: dict[str, str], folder: bytes, stdout_fd: int, stderr_fd: int
) -> int:
    """Start a program in an own session with clean signals; its pid.

    The caller has one thread, so its working folder can be changed for the moment of the spawn.

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
    try:
        program = _resolve(argv[0], env.get("PATH", os.defpath))
        return os.posix_spawn(
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
            setsigdef=_ALL_SIGNALS,
        )
    except ValueError as problem:
        # NUL byte, a name with "=", or text that no byte string stands for.
        raise SpawnError("arguments", errno.EINVAL, str(problem)) from problem
    except OSError as problem:
        number = problem.errno or 0
        raise SpawnError("exec", number, _describe(argv[0], number)) from problem
    finally:
        os.chdir("/")


def prefer_for_oom_kill(pid: int) -> None:
    """Let the kernel take a task before its helpers when memory ends. Any user may raise this."""
    try:
        fd = os.open(f"/proc/{pid}/oom_score_adj", os.O_WRONLY | os.O_CLOEXEC)
    except OSError:
        return  # gone already, or a kernel without it: the order of the kill is a preference
    try:
        os.write(fd, _OOM_SCORE_OF_TASKS)
    except OSError:
        return
    finally:
        os.close(fd)


def _resolve(name: str, path: str) -> str:
    """The program as execvp would find it, by the task's PATH and not by ours."""
    if "/" in name:
        return name
    if not name:
        raise SpawnError("program", errno.ENOENT, "the program name is empty")
    refused = False
    for folder in path.split(":"):
        candidate = f"{folder or '.'}/{name}"
        try:
            mode = os.stat(candidate).st_mode
        except OSError as problem:
            refused = refused or problem.errno == errno.EACCES
            continue
        if stat.S_ISREG(mode):
            if os.access(candidate, os.X_OK):
                return candidate
            refused = True
    if refused:
        raise SpawnError("program", errno.EACCES, f"{name}: in PATH, but not executable")
    raise SpawnError("program", errno.ENOENT, f"{name}: not found in PATH ({path})")


def _describe(name: str, number: int) -> str:
    hint = ""
    if number == errno.ENOEXEC:
        hint = " (neither a binary of this machine nor a script with a #! line)"
    elif number == errno.ENOENT and os.path.exists(name):
        hint = " (it exists, so the interpreter of its #! line or its loader does not)"
    elif number == errno.E2BIG:
        return f"{os.strerror(number)}: arguments and environment of {name}"
    return f"{name}: {os.strerror(number)}{hint}"
