"""Output of a task: a pipe for each stream, kept as a tail in memory or spliced into a file."""

import errno
import fcntl
import os
import struct
import termios

_CHUNK_BYTES = 1 << 16
_SPLICE_BYTES = 1 << 20
_CHUNKS_PER_TURN = 16
#: Kept in memory of a stream that somebody follows, so that a slow reader misses less.
FOLLOWED_BYTES = 1 << 18


class Stream:
    """One of stdout and stderr. Nothing in here waits.

    The own end for writing stays open, so that the pipe never ends: its end would mean nothing, and
    the end of each program would wake the runner three times instead of once.
    """

    __slots__ = ("_cap", "_end_bytes", "_file", "_ring", "_ring_bytes", "_splice", "_tail_bytes",
                 "fault", "head", "kept", "read_fd", "total", "write_fd")  # fmt: skip

    def __init__(
        self, path: bytes | None, cap: int | None, tail_bytes: int, end_bytes: int = 0
    ) -> None:
        """Open the pipe and, if `path` is given, the file.

        Args:
            path: of the file; None to keep the tail in memory only.
            cap: bytes of the stream that the file keeps; None for all.
            tail_bytes: size of the tail that is told at the end.
            end_bytes: how much of the cap is for the end of a stream that is longer.

        Raises:
            OSError: no descriptor or no space; nothing stays open.
        """
        self.read_fd = self.write_fd = self._file = -1
        self.total = 0
        #: Bytes in the file.
        self.kept = 0
        #: Error number of the write that ended the file, or 0.
        self.fault = 0
        #: Bytes at the start of the file that are those of the stream.
        self.head = 0
        self._cap = cap
        self._tail_bytes = tail_bytes
        self._end_bytes = 0 if cap is None else min(end_bytes, cap // 2)
        self._ring_bytes = max(tail_bytes, self._end_bytes)
        self._ring = bytearray()
        self._splice = True
        try:
            self.read_fd, self.write_fd = os.pipe2(os.O_CLOEXEC)
            os.set_blocking(self.read_fd, False)
            if path is not None:
                # Without O_APPEND, which splice refuses.
                flags = os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
                self._file = os.open(path, flags, 0o600)
        except OSError:
            self.close()
            raise

    def close(self) -> None:
        """Close everything."""
        for fd in (self.read_fd, self.write_fd, self._file):
            if fd >= 0:
                os.close(fd)
        self.read_fd = self.write_fd = self._file = -1

    def pump(self) -> None:
        """Move what is there, a bounded amount."""
        for _ in range(_CHUNKS_PER_TURN):
            if not self._move():
                return

    def drain(self) -> None:
        """Move what was in the pipe when the tree had died.

        A process outside of the tree that holds the other end can neither delay nor prolong this.
        """
        left = self._waiting_bytes()
        while left > 0:
            moved = self._move()
            if not moved:
                break
            left -= moved

    def tail(self, count: int) -> bytes:
        """The last bytes of the stream, at most `count` and as many as are kept."""
        if self._in_file():
            start = max(0, self.kept - count)
            return os.pread(self._file, self.kept - start, start)
        return bytes(self._ring[-count:]) if count > 0 else b""

    def read(self, offset: int, count: int) -> tuple[int, bytes] | None:
        """What is kept of the stream from an offset on, and where it begins; None if nothing yet.

        From now on more is kept in memory.
        """
        self._ring_bytes = max(self._ring_bytes, FOLLOWED_BYTES)
        if offset < self.kept:
            data = os.pread(self._file, min(count, self.kept - offset), offset)
            if data:
                return offset, data
            offset = self.kept  # the task cut its own log short
        start = max(offset, self.total - len(self._ring))
        if start >= self.total:
            return None
        at = len(self._ring) - (self.total - start)
        return start, bytes(self._ring[at : at + count])

    def finish(self) -> tuple[int, int, int, bytes, int]:
        """Put the end behind the head of a file that could not take all; what is then told.

        Returns:
            Bytes kept, bytes dropped, error number of the file, the tail (longer than asked for if
            somebody followed), and the bytes of the head.
        """
        tail = self.tail(self._ring_bytes if self._followed() else self._tail_bytes)
        if self._file < 0:
            return len(tail), self.total - len(tail), self.fault, tail, 0
        self.head = self.kept
        if self.total > self.kept and not self.fault:
            self._write_end()
        return self.kept, self.total - self.kept, self.fault, tail, self.head

    def _followed(self) -> bool:
        return self._ring_bytes >= FOLLOWED_BYTES and self._file < 0

    def _write_end(self) -> None:
        """Replace the last bytes of the file by a mark and the last bytes of the stream."""
        end = bytes(self._ring[len(self._ring) - self._end_bytes :]) if self._end_bytes else b""
        self.head = self.kept - len(end)
        missing = self.total - self.kept
        data = b"\n[mito: %d bytes of the output are left out here]\n" % missing + end
        try:
            os.ftruncate(self._file, self.head)
            done = 0
            while done < len(data):
                done += os.pwrite(self._file, data[done:], self.head + done)
        except OSError as problem:
            self.fault = problem.errno or errno.EIO
            self.kept = self.head

    def _in_file(self) -> bool:
        """Whether the file holds all that came so far."""
        return self._file >= 0 and self.total == self.kept

    def _waiting_bytes(self) -> int:
        answer = fcntl.ioctl(self.read_fd, termios.FIONREAD, bytes(4))
        count: int = struct.unpack("i", answer)[0]
        return count

    def _move(self) -> int | None:
        """Bytes moved, None when nothing is there."""
        try:
            if self._file >= 0 and not self.fault and (self._cap is None or self.kept < self._cap):
                return self._into_file()
            return self._into_ring()
        except (BlockingIOError, InterruptedError):
            return None

    def _into_file(self) -> int | None:
        room = _SPLICE_BYTES if self._cap is None else min(_SPLICE_BYTES, self._cap - self.kept)
        if self._splice:
            try:
                moved = os.splice(self.read_fd, self._file, room)
            except BlockingIOError:
                return None
            except OSError as problem:
                if problem.errno in {errno.EINVAL, errno.ENOSYS}:
                    self._splice = False  # a file system without splice
                else:
                    self.fault = problem.errno or errno.EIO
                return self._move()
        else:
            data = os.read(self.read_fd, min(room, _CHUNK_BYTES))
            self._write(data)
            moved = len(data)
            if self.fault:
                return moved
        self.total += moved
        self.kept += moved
        return moved

    def _write(self, data: bytes) -> None:
        """Write without splice; at a fault the bytes that did not fit go to the ring."""
        done = 0
        while done < len(data):
            try:
                done += os.write(self._file, memoryview(data)[done:])
            except OSError as problem:
                self.fault = problem.errno or errno.EIO
                self.kept += done
                self.total += done
                self._keep(data[done:])
                return

    def _into_ring(self) -> int:
        data = os.read(self.read_fd, _CHUNK_BYTES)
        if data:
            self._keep(data)
        return len(data)

    def _keep(self, data: bytes) -> None:
        if self._in_file():
            # From here on the file does not have the tail any more.
            self._ring += self.tail(self._ring_bytes)
        self.total += len(data)
        self._ring += data
        if len(self._ring) > 2 * self._ring_bytes:
            del self._ring[: len(self._ring) - self._ring_bytes]
