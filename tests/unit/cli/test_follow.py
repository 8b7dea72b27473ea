"""What `follow` prints of what it hears, and its exit status."""

import base64
import errno
import json
import os
import tty
from datetime import UTC, datetime
from typing import Any

import pytest
from msgspec.structs import replace

from mitosis.cli.exit_codes import status_of_task
from mitosis.cli.output.following import (
    MAX_LINE_BYTES,
    JsonPrinter,
    PrefixPrinter,
    StreamPrinter,
    Tap,
    cut_character,
    shown,
)
from mitosis.client.output_source import NoticeKind, OutputChunk, OutputNotice
from mitosis.contract.queries import AttemptEnd, FormerAttempt, TaskView
from mitosis.domain.task import Exit, ExitKind, Outcome, TaskSpec, TaskState

from .conftest import Here

TASK = "e07a2bf2-166d-40b5-8bb6-a78104c072f9"
OTHER = "b168dbe6-5c44-4529-a3b4-51940d6bb3c5"
AT = datetime(2026, 1, 2, tzinfo=UTC)
EURO = "€".encode()


def view(outcome: Outcome | None = None, end: Exit | None = None, task: str = TASK) -> TaskView:
    state = outcome.state if outcome else TaskState.RUNNING
    return TaskView(
        uuid=task, number=1, group="lab", creator="ann", state=state, outcome=outcome,
        reason="because" if outcome is Outcome.LOST else "", spec=TaskSpec(("true",)), labels=(),
        attempt=1, losses=0, worker="w", created_at=AT, updated_at=AT, started_at=AT, ended_at=None,
        cancel_requested=False, steps=[], exit=end, artifacts=[], warnings=[],
    )  # fmt: skip


def ended(outcome: Outcome, end: Exit | None = None) -> OutputNotice:
    return OutputNotice(TASK, NoticeKind.ENDED, view(outcome, end))


def failed_once(end: AttemptEnd, reason: str, **more: Any) -> OutputNotice:
    """The first attempt has ended, and the task waits for its next one."""
    former = FormerAttempt(1, "w", end, reason, ExitKind.CODE, 4, AT, AT)
    now = replace(view(), state=TaskState.PENDING, retry_at=AT, former_attempts=[former])
    return OutputNotice(TASK, NoticeKind.ATTEMPT_ENDED, now, former, **more)


def chunk(data: bytes, offset: int = 0, task: str = TASK, **more: Any) -> OutputChunk:
    return OutputChunk(
        **{"task": task, "attempt": 1, "stream": "stdout", "offset": offset, "data": data, **more}
    )


@pytest.mark.parametrize(
    ("outcome", "kind", "number", "status"),
    [
        (Outcome.SUCCEEDED, ExitKind.CODE, 0, 0),
        (Outcome.FAILED, ExitKind.CODE, 7, 7),
        (Outcome.FAILED, ExitKind.SIGNAL, 9, 137),
        (Outcome.TIMED_OUT, ExitKind.SIGNAL, 15, 124),
        (Outcome.ERROR, ExitKind.NOT_STARTED, errno.ENOENT, 127),
        (Outcome.ERROR, ExitKind.NOT_STARTED, errno.EACCES, 126),
        (Outcome.ERROR, ExitKind.NOT_STARTED, errno.ENOEXEC, 126),
        (Outcome.ERROR, ExitKind.NOT_STARTED, errno.E2BIG, 1),
        (Outcome.CANCELLED, ExitKind.SIGNAL, 15, 1),
        (Outcome.LOST, None, 0, 1),
    ],
)
def test_the_exit_status_is_that_of_the_task(
    outcome: Outcome, kind: ExitKind | None, number: int, status: int
) -> None:
    end = Exit(kind, number) if kind else None
    assert status_of_task(view(outcome, end)) == status


def test_one_task_is_printed_byte_for_byte_with_its_streams_apart(
    capfdbinary: pytest.CaptureFixture[bytes],
) -> None:
    printer = StreamPrinter()
    printer.chunk(chunk(b"\x1b[31ma\xff" + EURO[:2]))
    printer.chunk(chunk(EURO[2:] + b"\r\0", 6))
    printer.chunk(chunk(b"bad", stream="stderr"))
    printer.notice(ended(Outcome.FAILED, Exit(ExitKind.CODE, 7)), 7)
    printer.notice(ended(Outcome.LOST), 1)
    said = capfdbinary.readouterr()
    assert said.out == b"\x1b[31ma\xff" + EURO + b"\r\0"
    assert said.err == f"badmito: task {TASK}: lost: because, exit status 1\n".encode()


def test_an_attempt_that_is_followed_by_another_one_is_told_wherever_its_output_goes(
    capfdbinary: pytest.CaptureFixture[bytes],
) -> None:
    failed = failed_once(AttemptEnd.FAILED, "exit code 4")
    lost = failed_once(AttemptEnd.LOST, "", unseen=True)
    lost.view.retry_at = None
    for printer in (StreamPrinter(), PrefixPrinter({TASK: "lab#1"})):
        printer.notice(failed, None)
        printer.notice(lost, None)
        assert capfdbinary.readouterr().err.decode().splitlines() == [
            f"mito: task {TASK}: attempt 1 has failed (exit code 4); "
            "it runs again at 2026-01-02T00:00:00Z",
            f"mito: task {TASK}: attempt 1 was lost; what it has written was not seen",
        ]
    JsonPrinter().notice(lost, None)
    line = json.loads(capfdbinary.readouterr().out)
    assert (line["kind"], line["attempt"], line["end"], line["reason"], line["unseen"]) == (
        "attempt_ended", 1, "lost", "", True,
    )  # fmt: skip


def test_what_is_missing_is_said(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    StreamPrinter().chunk(chunk(b"x", 9, skipped_bytes=9))
    said = capfdbinary.readouterr()
    assert said.out == b"x"
    assert said.err == b"mito: 9 bytes of stdout were not kept and are missing here\n"


def test_a_terminal_is_not_driven_by_a_task() -> None:
    assert shown("a\t\rb\n€") == "a\t\rb\n€".encode()
    assert shown("\x1b]0;title\x07\x9b\u202e") == b"\\x1b]0;title\\x07\\x9b\\u202e"


def test_on_a_terminal_what_is_said_begins_a_line_and_no_character_is_cut() -> None:
    master, slave = os.openpty()
    with os.fdopen(master, "rb", buffering=0) as seen, os.fdopen(slave, "wb", buffering=0) as out:
        tty.setraw(out)
        tap = Tap(out)
        for piece in (b"a\n", b"\x07" + EURO[:1], EURO[1:]):
            tap.write(piece)
        tap.finish()
        tap.finish()
        tap.write(b"b" + EURO[:2])
        tap.finish()
        tap.write(b"c\n")
        tap.finish()
        wanted, got = b"a\n\\x07" + EURO + b"\nb\xef\xbf\xbd\nc\n", b""
        while len(got) < len(wanted):  # a terminal hands over what it has, in parts
            got += seen.read(100)
        assert got == wanted


def test_lines_of_several_tasks_have_a_name_and_are_whole(
    capfdbinary: pytest.CaptureFixture[bytes],
) -> None:
    printer = PrefixPrinter({TASK: "lab#1", OTHER: "lab#2"})
    printer.chunk(chunk(b"one\ntw"))
    printer.chunk(chunk(b"x\n", task=OTHER))
    printer.chunk(chunk(b"o\nend", 6))
    printer.notice(ended(Outcome.SUCCEEDED), 0)
    printer.chunk(chunk(b"y" * (MAX_LINE_BYTES + 1), 2, OTHER))
    assert capfdbinary.readouterr().out.split(b"\n") == [
        b"[lab#1] one", b"[lab#2] x", b"[lab#1] two", b"[lab#1] end",
        b"[lab#2] " + b"y" * MAX_LINE_BYTES, b"",
    ]  # fmt: skip


def test_json_cuts_no_character_and_keeps_every_byte(
    capfdbinary: pytest.CaptureFixture[bytes],
) -> None:
    printer = JsonPrinter()
    pieces = [b"a" + EURO[:1], EURO[1:2], EURO[2:] + b"b", b"\xff" + EURO[:2]]
    for index, piece in enumerate(pieces):
        printer.chunk(chunk(piece, sum(map(len, pieces[:index]))))
    printer.notice(ended(Outcome.SUCCEEDED), 0)
    lines = [json.loads(line) for line in capfdbinary.readouterr().out.splitlines()]
    exact = [None, None, base64.b64encode(b"\xff").decode(), base64.b64encode(EURO[:2]).decode()]
    told = [(line["offset"], line["text"], line["base64"]) for line in lines[:-1]]
    assert told == [
        (0, "a", exact[0]), (1, "€b", exact[1]), (5, "\ufffd", exact[2]), (6, "\ufffd", exact[3]),
    ]  # fmt: skip
    end = lines[-1]
    assert (end["kind"], end["outcome"], end["exit_status"]) == ("ended", "succeeded", 0)


def test_json_tells_what_is_missing_where_it_is(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    printer = JsonPrinter()
    printer.chunk(chunk(b"a" + EURO[:2]))
    printer.chunk(chunk(b"z", 10, skipped_bytes=7))
    lines = [json.loads(line) for line in capfdbinary.readouterr().out.splitlines()]
    told = [(line["offset"], line["skipped_bytes"], line["text"]) for line in lines]
    assert told == [(0, 0, "a"), (1, 0, "\ufffd"), (10, 7, "z")]


@pytest.mark.parametrize(
    ("data", "rest"),
    [
        (b"", b""), (b"a", b""), (EURO, b""), (EURO[:1], EURO[:1]), (b"a" + EURO[:2], EURO[:2]),
        ("𝄞".encode()[:3], "𝄞".encode()[:3]), (b"\xff", b""), (b"\x80\x80\x80\x80", b""),
        (b"\xf8\x80", b""), (b"\xc3", b"\xc3"), ("é".encode(), b""),
    ],
)  # fmt: skip
def test_the_beginning_of_a_character_is_found(data: bytes, rest: bytes) -> None:
    assert cut_character(data) == rest


@pytest.mark.parametrize(
    "tokens", [(), ("last", "--tail", "2", "--from-start")], ids=["no task", "both begins"]
)
def test_usage_is_checked_before_anybody_is_asked(here: Here, tokens: tuple[str, ...]) -> None:
    done = here("client", "follow", *tokens)
    assert (done.returncode, done.stdout) == (2, "")


def test_bounds_are_checked_before_anybody_is_asked(here: Here) -> None:
    done = here("client", "follow", "last", "--tail", "-1")
    assert (done.returncode, done.stdout) == (1, "")
    assert "tail is -1" in done.stderr
    many = here("client", "follow", *(f"lab#{n}" for n in range(65)))
    assert "at most 64 can be followed" in many.stderr
