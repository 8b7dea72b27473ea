"""The environment that every task gets: a small clean base, and nothing else of the worker's own.

The written rule (docs/decisions/0010-execution-limits.md): who and where from the user that tasks
run as, language and time zone of the worker, and what the worker was told to pass on. What a task
brings itself beats all of this.
"""

from collections.abc import Mapping, Sequence

from mitosis.processes.runs import Part
from mitosis.processes.user import TaskUser

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
#: Where nothing else is said: programs take text for UTF-8, as everything here is.
DEFAULT_LANG = "C.UTF-8"
#: The private folder for temporary files, emptied after the task with the rest.
TEMPORARY: tuple[Part, str] = ("tmp", "TMPDIR")
#: Prefix of the platform's own variables, some of which are secrets: never passed on.
RESERVED_PREFIX = "MITO_"

_KEPT = ("PATH", "LANG", "LANGUAGE", "TZ")
_OF_THE_USER = ("HOME", "USER", "LOGNAME")
_CHARACTERS = ("LC_ALL", "LC_CTYPE", "LANG")


def check_inherited(names: Sequence[str]) -> None:
    """Refuse names of variables that no task may get.

    Raises:
        ValueError: a name is empty, no name of a variable, or reserved.
    """
    for name in names:
        if not name or "=" in name or "\0" in name:
            raise ValueError(f"{name!r} is no name of a variable")
        if name.startswith(RESERVED_PREFIX):
            raise ValueError(
                f"{name} is not passed on: variables that begin with {RESERVED_PREFIX} are the "
                "platform's own, and may be secrets"
            )


def clean_environment(
    environ: Mapping[str, str],
    user: TaskUser,
    *,
    is_other_user: bool = False,
    inherited: Sequence[str] = (),
) -> dict[str, str]:
    """The base for all tasks of a worker.

    PYTHONUNBUFFERED is set, so that what a Python program printed before a timeout or a crash is
    there to be read; a task may set it to the empty string.

    Args:
        environ: the worker's environment.
        user: whom the tasks run as.
        is_other_user: the worker is somebody else, whose HOME is not that of the tasks.
        inherited: names of variables that are passed on when they are set.

    Raises:
        ValueError: a name may not be passed on.
    """
    check_inherited(inherited)
    base = user.environment()
    for name, value in environ.items():
        own = name in _OF_THE_USER and not is_other_user
        if own or name in _KEPT or name.startswith("LC_") or name in inherited:
            base[name] = value
    base.setdefault("PATH", DEFAULT_PATH)
    if not any(base.get(name) for name in _CHARACTERS):
        base["LANG"] = DEFAULT_LANG
    base["PYTHONUNBUFFERED"] = "1"
    return base
