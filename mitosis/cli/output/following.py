"""Printing the output of tasks that are followed: as it is, with prefixes, or as JSON.

Where standard output is no terminal, the bytes of one task go out exactly as they came. On a
terminal a task must not be able to drive it: text, line ends, tabs and carriage returns are
printed, every other control character is shown as an escape.
"""

import base64
import codecs
import sys
from typing import BinaryIO, Protocol

import msgspec

from mitosis.cli.output.screen import complain, write
from mitosis.cli.output.texts import moment
from mitosis.cli.output.values import to_json
from mitosis.client.output_source import NoticeKind, OutputChunk, OutputNotice
from mitosis.contract.queries import AttemptEnd
from mitosis.domain.task import Outcome

MAX_LINE_BYTES = 64 * 1024
"""What is kept of an unfinished line of one of several tasks; a longer one is parted."""


class FollowedLine(msgspec.Struct, frozen=True):
    """One line of what `follow` prints as JSON.

    Attributes:
        kind: `output`, or that the task `waits`, that an attempt has `begun`, that one has ended
            and the task goes on (`attempt_ended`), that the task has `ended`.
        task, attempt: Which.
        stream, offset: `stdout` or `stderr`, and where in it these bytes begin.
        text: The bytes as text of whole characters.
        base64: The bytes, where they are no text; else null.
        skipped_bytes: Missing before these.
        outcome, exit_status: How the task has ended, and the exit status of `follow` for it.
        end, reason: How the attempt has ended.
        unseen: It came and went too fast: what it has written is not shown.
    """

    kind: str
    task: str
    attempt: int
    stream: str | None = None
    offset: int = 0
    text: str = ""
    base64: str | None = None
    skipped_bytes: int = 0
    outcome: Outcome | None = None
    exit_status: int | None = None
    end: AttemptEnd | None = None
    reason: str = ""
    unseen: bool = False


class Printer(Protocol):
    """Prints what is followed. May block."""

    def chunk(self, chunk: OutputChunk) -> None:
        """Print a piece of output."""

    def notice(self, notice: OutputNotice, exit_status: int | None) -> None:
        """Print what happened to a task; after its end nothing more comes of it."""


class StreamPrinter:
    """One task: its stdout to ours, its stderr to ours."""

    def __init__(self) -> None:
        self._taps = {"stdout": Tap(sys.stdout.buffer), "stderr": Tap(sys.stderr.buffer)}

    def chunk(self, chunk: OutputChunk) -> None:
        """Print a piece of output."""
        if chunk.skipped_bytes:
            self._taps[chunk.stream].finish()
            complain(skipped_text(chunk))
        self._taps[chunk.stream].write(chunk.data)

    def notice(self, notice: OutputNotice, exit_status: int | None) -> None:
        """Say it to a person, and how a task ended whose exit status does not tell."""
        for tap in self._taps.values():
            tap.finish()
        told = notice_text(notice, exit_status)
        if told:
            complain(told)


class PrefixPrinter:
    """Several tasks: whole lines, each after the name of its task."""

    def __init__(self, names: dict[str, str]) -> None:
        self._names = names
        self._taps = {"stdout": Tap(sys.stdout.buffer), "stderr": Tap(sys.stderr.buffer)}
        self._unfinished: dict[tuple[str, str], bytes] = {}

    def chunk(self, chunk: OutputChunk) -> None:
        """Print the lines that are finished."""
        if chunk.skipped_bytes:
            self._finish(chunk.task, chunk.stream)
            complain(f"{self._names[chunk.task]}: {skipped_text(chunk)}")
        key = (chunk.task, chunk.stream)
        *lines, rest = (self._unfinished.pop(key, b"") + chunk.data).split(b"\n")
        while len(rest) > MAX_LINE_BYTES:
            lines.append(rest[:MAX_LINE_BYTES])
            rest = rest[MAX_LINE_BYTES:]
        self._write(chunk.task, chunk.stream, lines)
        if rest:
            self._unfinished[key] = rest

    def notice(self, notice: OutputNotice, exit_status: int | None) -> None:
        """Print what was left of lines, and say what happened."""
        for stream in self._taps:
            self._finish(notice.task, stream)
        told = notice_text(notice, exit_status)
        if told:
            complain(told)

    def _finish(self, task: str, stream: str) -> None:
        rest = self._unfinished.pop((task, stream), None)
        if rest is not None:
            self._write(task, stream, [rest])

    def _write(self, task: str, stream: str, lines: list[bytes]) -> None:
        if lines:
            prefix = f"[{self._names[task]}] ".encode()
            self._taps[stream].write(b"".join(prefix + line + b"\n" for line in lines))


class JsonPrinter:
    """One JSON value a line; characters are never cut."""

    def __init__(self) -> None:
        self._unfinished: dict[tuple[str, str], OutputChunk] = {}

    def chunk(self, chunk: OutputChunk) -> None:
        """Print the whole characters of a piece."""
        key = (chunk.task, chunk.stream)
        before = self._unfinished.pop(key, None)
        if before is not None and (chunk.skipped_bytes or before.attempt != chunk.attempt):
            self._print(before)
        elif before is not None:
            data = before.data + chunk.data
            skipped = before.skipped_bytes
            chunk = OutputChunk(
                chunk.task, chunk.attempt, chunk.stream, before.offset, data, skipped
            )
        rest = cut_character(chunk.data)
        if rest:
            size = len(chunk.data) - len(rest)
            self._unfinished[key] = OutputChunk(
                chunk.task, chunk.attempt, chunk.stream, chunk.offset + size, rest
            )
            chunk = OutputChunk(
                chunk.task, chunk.attempt, chunk.stream, chunk.offset, chunk.data[:size],
                chunk.skipped_bytes,
            )  # fmt: skip
        if chunk.data or chunk.skipped_bytes:
            self._print(chunk)

    def notice(self, notice: OutputNotice, exit_status: int | None) -> None:
        """Print what was left, and what happened."""
        for key in [key for key in self._unfinished if key[0] == notice.task]:
            self._print(self._unfinished.pop(key))
        kind, view, former = notice.kind.value, notice.view, notice.former
        if former is None:
            line = FollowedLine(
                kind, notice.task, view.attempt, outcome=view.outcome, exit_status=exit_status
            )
        else:
            line = FollowedLine(
                kind, notice.task, former.attempt, end=former.end, reason=former.reason,
                unseen=notice.unseen,
            )  # fmt: skip
        write(to_json(line))
        sys.stdout.flush()

    def _print(self, chunk: OutputChunk) -> None:
        try:
            text, exact = chunk.data.decode(), None
        except UnicodeDecodeError:
            text = chunk.data.decode(errors="replace")
            exact = base64.b64encode(chunk.data).decode()
        write(
            to_json(
                FollowedLine(
                    "output", chunk.task, chunk.attempt, chunk.stream, chunk.offset, text, exact,
                    chunk.skipped_bytes,
                )
            )
        )  # fmt: skip
        sys.stdout.flush()


class Tap:
    """Where one stream goes to: bytes as they are, or what a terminal may be shown of them."""

    def __init__(self, out: BinaryIO) -> None:
        self._out = out
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace") if out.isatty() else None
        self._in_line = False

    def write(self, data: bytes) -> None:
        """Print, and send out at once."""
        if self._decoder is not None:
            data = shown(self._decoder.decode(data))
        self._out.write(data)
        self._out.flush()
        self._in_line = not data.endswith(b"\n") if data else self._in_line

    def finish(self) -> None:
        """Something else comes: on a terminal end the character and the line that are begun."""
        if self._decoder is None:
            return
        self._out.write(shown(self._decoder.decode(b"", final=True)))
        self._out.write(b"\n" if self._in_line else b"")
        self._out.flush()
        self._in_line = False


def shown(text: str) -> bytes:
    """Return what a terminal may be given: no control characters but of lines and tabs."""
    if not text.isprintable():
        text = "".join(
            c if c.isprintable() or c in "\n\t\r" else c.encode("unicode_escape").decode()
            for c in text
        )
    return text.encode(errors="backslashreplace")


def cut_character(data: bytes) -> bytes:
    """Return the beginning of a UTF-8 character at the end that lacks its rest, at most 3 bytes."""
    for size in range(1, min(3, len(data)) + 1):
        lead = data[-size]
        if lead < 0x80:
            return b""
        if lead >= 0xC0:
            length = 2 if lead < 0xE0 else 3 if lead < 0xF0 else 4
            return data[-size:] if size < length and lead < 0xF8 else b""
    return b""


def skipped_text(chunk: OutputChunk) -> str:
    """Say that something is missing."""
    return f"{chunk.skipped_bytes} bytes of {chunk.stream} were not kept and are missing here"


_ENDS = {
    AttemptEnd.FAILED: "has failed",
    AttemptEnd.TIMED_OUT: "has timed out",
    AttemptEnd.LOST: "was lost",
    AttemptEnd.HANDED_BACK: "was handed back",
}


def notice_text(notice: OutputNotice, exit_status: int | None) -> str:
    """Return what to say on standard error; empty: nothing, since no person reads it."""
    if notice.former is not None:
        return _attempt_text(notice)
    kind, view = notice.kind, notice.view
    name = f"task {view.uuid}"
    because = f": {view.reason}" if view.reason else ""
    plain = view.outcome in {Outcome.SUCCEEDED, Outcome.FAILED}
    if kind is NoticeKind.ENDED:
        if plain and not sys.stderr.isatty():
            return ""
        outcome = view.outcome.value.replace("_", " ") if view.outcome else "ended"
        status = "" if view.reason == f"exit code {exit_status}" else f", exit status {exit_status}"
        return f"{name}: {outcome}{because}{status}"
    if not sys.stderr.isatty() and not (kind is NoticeKind.BEGUN and view.attempt > 1):
        return ""
    if kind is NoticeKind.BEGUN:
        return f"{name}: attempt {view.attempt} on worker {view.worker}"
    return f"{name} is {view.state.value}{because}" + (
        ", its start is waited for" if view.state.value != "running" else ""
    )


def _attempt_text(notice: OutputNotice) -> str:
    """Say how an attempt has ended, also where nobody reads it now: more output follows it."""
    view, former = notice.view, notice.former
    assert former is not None  # noqa: S101  asked before
    because = f" ({former.reason})" if former.reason else ""
    unseen = "; what it has written was not seen" if notice.unseen else ""
    waits = view.retry_at is not None and view.attempt == former.attempt
    again = f"; it runs again at {moment(view.retry_at)}" if waits and view.retry_at else ""
    return f"task {view.uuid}: attempt {former.attempt} {_ENDS[former.end]}{because}{unseen}{again}"
