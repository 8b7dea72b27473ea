"""Why a program could not be started, in words that lead to the cure.

The kernel has one number for many causes: "no such file" also stands for a missing interpreter,
and that for the carriage return of a file that was edited on Windows. Looked at after the failure
only, in the task's folder.
"""

import errno
import os
import stat
from collections.abc import Sequence

#: Longest argument or variable that Linux takes: 32 pages, with its end.
_MAX_STRING_BYTES = 131_072
#: Errors of a start that say something of the machine and nothing of the program.
OF_THE_MACHINE = frozenset({errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE})
_HEAD_BYTES = 256
# fmt: off
_SHELL_WORDS = frozenset({
    "alias", "bg", "break", "case", "cd", "command", "continue", "declare", "do", "done", "eval",
    "exec", "exit", "export", "fg", "fi", "for", "function", "hash", "if", "jobs", "let", "local",
    "popd", "pushd", "read", "readonly", "return", "set", "shift", "shopt", "source", "then",
    "times", "trap", "type", "typeset", "ulimit", "umask", "unalias", "unset", "until", "wait",
    "while", ".", ":", "[[", "{", "(",
})
# fmt: on
_MACHINES = {
    3: "x86",
    40: "arm",
    62: "x86_64",
    183: "aarch64",
    243: "riscv",
    21: "ppc64",
    22: "s390",
}
_ELF, _SCRIPT = b"\x7fELF", b"#!"
_BOMS = {b"\xef\xbb\xbf": "UTF-8", b"\xff\xfe": "UTF-16", b"\xfe\xff": "UTF-16"}


def not_found(name: str, path: str, locked: Sequence[str]) -> str:
    """Of a name without a slash that is in no folder of PATH.

    Args:
        name: the program.
        path: the task's PATH.
        locked: folders of it that the task's user may not enter.
    """
    unseen = f", of which this user may not enter {', '.join(locked)}" if locked else ""
    return f"{_shown(name)}: {_hint_of_name(name) or f'not found in PATH ({path}){unseen}'}"


def refused(
    name: str, number: int, argv: list[str], env: dict[str, str], *, other_user: bool
) -> str:
    """Of a program that the kernel did not start.

    Args:
        name: the program as it was given, or as it was found in PATH.
        number: error number of the start.
        argv: all arguments.
        env: the whole environment.
        other_user: the task is not of this process's user.
    """
    if number == errno.E2BIG:
        return _too_big(argv, env)
    if number in OF_THE_MACHINE:
        return f"{os.strerror(number)} on the worker's machine"
    cause = ""
    if number == errno.ENOENT:
        cause = _of_missing(name)
    elif number == errno.EACCES:
        cause = _of_no_access(name)
        if other_user and os.access(name, os.X_OK) and not os.path.isdir(name):
            cause = "the task's user may not execute it, or not enter a folder on the way to it"
    elif number == errno.ENOEXEC:
        cause = _of_format(_head(name))
    elif number == errno.ETXTBSY:
        cause = "a program has it open for writing"
    return f"{_shown(name)}: {cause or os.strerror(number)}"


def _shown(name: str) -> str:
    # A carriage return or newline in a name would hide what is wrong with it.
    return name.encode("unicode_escape", "backslashreplace").decode() if _odd(name) else name


def _odd(name: str) -> bool:
    return any(ord(letter) < 0x20 or letter == "\x7f" for letter in name)


def _hint_of_name(name: str) -> str:
    variable = name.partition("=")[0]
    if name != variable and variable.isidentifier():
        return f"an assignment of a shell: give it with -e {variable}=..., or put env in front"
    if name.startswith("~"):
        return "~ is not replaced, as no shell is in between: give the full path, or use sh -c"
    if name.startswith("$"):
        return "$ is not replaced, as no shell is in between: give the value, or use sh -c"
    if any(blank in name for blank in " \t\n"):
        return (
            "no such program; the name has blanks: give each argument apart, or use sh -c 'COMMAND'"
        )
    if name in _SHELL_WORDS:
        return "a word of the shell and no program: use sh -c 'COMMAND'"
    return ""


def _of_missing(name: str) -> str:
    head = _head(name)
    if head.startswith(_SCRIPT):
        return _of_interpreter(head)
    if head.startswith(_ELF):
        loader = _loader(name)
        return f"its loader {loader} is not on this machine" if loader else ""
    if not os.path.lexists(name):
        hint = _hint_of_name(name)
        if not hint and not name.startswith("/"):
            hint = "no such file; relative to the task's own folder, which is empty at the start"
        return hint
    return "a link to nothing" if os.path.islink(name) else ""


def _of_interpreter(head: bytes) -> str:
    line = head[len(_SCRIPT) :].split(b"\n", 1)[0].strip(b" \t")
    interpreter = line.split(b" ", 1)[0].split(b"\t", 1)[0]
    shown = _shown(os.fsdecode(interpreter))
    if b"\r" in line:
        return f"interpreter '{shown}' not found (Windows line ends?)"
    if not interpreter:
        return "its #! line names no interpreter"
    return f"interpreter '{shown}' of its #! line not found"


def _of_no_access(name: str) -> str:
    try:
        mode = os.stat(name).st_mode
    except OSError:
        return "a folder on the way to it may not be entered"
    if stat.S_ISDIR(mode):
        return "a folder, not a program"
    if not stat.S_ISREG(mode):
        return "not a regular file"
    if os.statvfs(name).f_flag & os.ST_NOEXEC:
        return "on a file system from which nothing may be started (noexec)"
    if not os.access(name, os.X_OK):
        return "not executable (chmod +x)"
    head = _head(name)
    if head.startswith(_SCRIPT):
        shown = _shown(os.fsdecode(head[2:].split(b"\n", 1)[0].split()[0]))
        return f"interpreter '{shown}' of its #! line may not be executed"
    return ""


def _of_format(head: bytes) -> str:
    if not head:
        return "the file is empty, or may not be read"
    for mark, encoding in _BOMS.items():
        if head.startswith(mark):
            return f"begins with a byte order mark ({encoding}), so its #! line is not seen"
    if head.startswith(_ELF):
        machine = int.from_bytes(head[18:20], "little" if head[5] == 1 else "big")
        return f"a program for another machine ({_MACHINES.get(machine, machine)})"
    if head.startswith(_SCRIPT):
        return _of_interpreter(head)
    if b"\0" in head:
        return "neither a program of this machine nor a script"
    return "no #! line: name the interpreter in its first line, or give it as sh FILE"


def _head(name: str) -> bytes:
    try:
        fd = os.open(name, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        return b""
    try:
        return os.read(fd, _HEAD_BYTES)
    except OSError:
        return b""
    finally:
        os.close(fd)


def _loader(name: str) -> str:
    """The loader that an ELF program names; empty when that cannot be read."""
    try:
        with open(name, "rb") as file:
            head = file.read(64)
            wide, order = head[4] == 2, "little" if head[5] == 1 else "big"

            def number(data: bytes, at: int, size: int) -> int:
                return int.from_bytes(data[at : at + size], order)  # type: ignore[arg-type]

            table = number(head, 32, 8) if wide else number(head, 28, 4)
            size, count = (54, 56) if wide else (42, 44)
            size, count = number(head, size, 2), min(64, number(head, count, 2))
            file.seek(table)
            data = file.read(size * count)
            for start in range(0, len(data), size or 1):
                if number(data, start, 4) == 3:  # PT_INTERP
                    place, length = (8, 32) if wide else (4, 16)
                    width = 8 if wide else 4
                    file.seek(number(data, start + place, width))
                    text = file.read(min(4096, number(data, start + length, width)))
                    return os.fsdecode(text.rstrip(b"\0"))
    except (OSError, IndexError, OverflowError, ValueError):
        return ""
    return ""


def _too_big(argv: list[str], env: dict[str, str]) -> str:
    strings = [(f"argument {at}", value) for at, value in enumerate(argv)]
    strings += [(f"variable {name}", f"{name}={value}") for name, value in env.items()]
    sizes = [(len(os.fsencode(value)) + 1, what) for what, value in strings]
    largest, what = max(sizes, default=(0, ""))
    if largest > _MAX_STRING_BYTES:
        return (
            f"argument list too long: {what} has {largest - 1} bytes, "
            f"one may have {_MAX_STRING_BYTES - 1}"
        )
    total = sum(size for size, _ in sizes)
    return (
        f"argument list too long: {len(argv)} arguments and {len(env)} variables have {total} "
        f"bytes together, which is more than this machine takes"
    )
