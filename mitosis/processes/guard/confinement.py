"""A task that needs more than a spawn: limits of its own, or another user.

posix_spawn can set neither, and setting them from outside comes too late. So a copy of the runner
prepares itself and then becomes the program: about a millisecond more, for these tasks only.
"""

import os
import resource
import signal

from .spawn_error import SpawnError

_FAILED = 127


class User:
    """Whom a task runs as."""

    def __init__(self, uid: int, gid: int, groups: list[int]) -> None:
        self.uid = uid
        self.gid = gid
        self.groups = groups

    def become(self) -> None:
        """Give up this process's user for good.

        Raises:
            OSError: this process may not.
        """
        os.setgroups(self.groups)
        os.setresgid(self.gid, self.gid, self.gid)
        os.setresuid(self.uid, self.uid, self.uid)


class Confinement:
    """What is done between fork and exec."""

    def __init__(
        self, user: User | None, groups: list[bytes], limits: list[tuple[int, int, int]]
    ) -> None:
        """Become `user`, in control groups given by their files, with resource limits."""
        self.user = user
        self._groups = groups
        self._limits = limits

    def start(
        self, program: str, argv: list[str], env: dict[str, str], stdout_fd: int, stderr_fd: int
    ) -> int:
        """Fork and become the program in the present folder; the pid.

        Raises:
            SpawnError: a step failed; nothing is left.
            OSError: the exec failed, or there is no process or descriptor for it.
            ValueError: the arguments cannot be given to any program.
        """
        said, saying = os.pipe2(os.O_CLOEXEC)
        try:
            pid = os.fork()
            if pid == 0:
                self._become(program, argv, env, (stdout_fd, stderr_fd, saying))
            os.close(saying)
            saying = -1
            failure = _read_all(said)
        finally:
            os.close(said)
            if saying >= 0:
                os.close(saying)
        if failure:
            os.waitpid(pid, 0)
            stage, number, text = failure.split(b"\0", 2)
            if stage == b"exec":
                raise OSError(int(number), os.strerror(int(number)))
            if stage == b"arguments":
                raise ValueError(text.decode())
            raise SpawnError(stage.decode(), int(number), text.decode())
        return pid

    def _become(
        self,
        program: str,
        argv: list[str],
        env: dict[str, str],
        descriptors: tuple[int, int, int],
    ) -> None:
        stdout_fd, stderr_fd, saying = descriptors
        stage = b"limits"
        try:
            os.setsid()
            for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
                signal.signal(number, signal.SIG_DFL)
            for file in self._groups:
                _join(file)
            stage = b"user"
            os.dup2(stdout_fd, 1)
            os.dup2(stderr_fd, 2)
            if self.user is not None:
                # Or /dev/stdout and /dev/stderr, which open the pipes anew, would be refused.
                os.fchown(1, self.user.uid, self.user.gid)
                os.fchown(2, self.user.uid, self.user.gid)
                self.user.become()
            stage = b"limits"
            # As the last: below its own size this process can do nothing any more.
            for limit, soft, hard in self._limits:
                resource.setrlimit(limit, (soft, hard))
            stage = b"exec"
            signal.pthread_sigmask(signal.SIG_SETMASK, ())
            os.execve(program, argv, env)  # noqa: S606 - as it was asked for
        except OSError as problem:
            _say(saying, stage, problem.errno or 0, os.strerror(problem.errno or 0))
        except ValueError as problem:
            _say(saying, b"arguments" if stage == b"exec" else stage, 22, str(problem))
        except BaseException as problem:  # noqa: BLE001 - the last frame of a forked process
            _say(saying, stage, 12, repr(problem))
        finally:
            os._exit(_FAILED)


def _join(file: bytes) -> None:
    fd = os.open(file, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, b"0")
    finally:
        os.close(fd)


def _say(fd: int, stage: bytes, number: int, text: str) -> None:
    os.write(fd, b"%b\0%d\0%b" % (stage, number, text.encode("utf-8", "replace")[:500]))


def _read_all(fd: int) -> bytes:
    pieces = []
    while piece := os.read(fd, 4096):
        pieces.append(piece)
    return b"".join(pieces)
