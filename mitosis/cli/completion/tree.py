"""The tree of all commands, made from the apps themselves: slow, so it is kept in a file."""

from enum import Enum, IntEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from cyclopts import App

from mitosis.cli.client import client_flags
from mitosis.cli.commands import NAMED
from mitosis.domain.roles import Role
from mitosis.domain.task import TaskState

if TYPE_CHECKING:
    from cyclopts.argument import Argument

# What a parameter is about, by its name.
KINDS = {
    "task": "task", "tasks": "task", "watch": "task", "worker": "worker", "workers": "worker",
    "group": "group", "groups": "grant", "tags": "tag", "labels": "label", "roles": "grant",
}  # fmt: skip


# Words that are read by a function of their own, which cannot be asked what it takes.
FIXED = {
    "state": [*(state.value for state in TaskState), "unknown"],
    "kind": ["task", "worker", "group", "user", "attachment", "platform"],
    "role": [role.name.lower() for role in Role],
}


def make_tree(root: App) -> dict[str, Any]:
    """Return the tree of an app (see engine.py for its form)."""
    root["client"].default(client_flags)  # its options, which no command has
    return _node(root, "")


def _node(app: App, path: str) -> dict[str, Any]:
    commands = {
        name: _node(app[name], f"{path} {name}".strip())
        for name in app
        if not name.startswith("-") and name != "help"
    }
    group = path.removeprefix("client ")
    node: dict[str, Any] = {"help": app.help.partition("\n")[0]}
    node |= {"commands": commands} if commands else {}
    node |= {"named": NAMED[group].lower()} if group in NAMED else {}
    if app.default_command is not None:
        _add_parameters(node, app)
    if group in NAMED:
        for command in commands.values():  # the name has been given before the verb
            command["arguments"] = command.get("arguments", [])[1:]
    return node


def _add_parameters(node: dict[str, Any], app: App) -> None:
    assert app.default_command is not None  # noqa: S101  asked before
    options: dict[str, Any] = {}
    lists: list[str] = []
    arguments: list[Any] = []
    for argument in app.assemble_argument_collection():
        kind = _kind(argument, app.default_command.__name__)
        names = [name for name in argument.names if name.startswith("-")]
        if argument.index is not None and argument.field_info.is_positional:
            arguments.append(kind)
            if argument.field_info.kind is argument.field_info.VAR_POSITIONAL:
                node["more"] = True
        options |= dict.fromkeys(names, kind)
        if argument.parameter.consume_multiple:
            lists += names
    node |= {"options": options} if options else {}
    node |= {"lists": lists} if lists else {}
    node |= {"arguments": arguments} if arguments else {}


def _kind(argument: "Argument", function: str) -> Any:
    hint = argument.hint
    types = {hint, *get_args(hint)}
    if hint is bool or (bool in types and type(None) in types):
        return ""
    for enum in types:
        if isinstance(enum, type) and issubclass(enum, Enum):
            return [m.name.lower() if issubclass(enum, IntEnum) else str(m.value) for m in enum]
    if argument.field_info.name in FIXED:
        return FIXED[argument.field_info.name]
    if Path in types:
        return "file"
    if argument.field_info.name == "name" and function in {"get_group", "history_group"}:
        return "group"
    return KINDS.get(argument.field_info.name, "any")
