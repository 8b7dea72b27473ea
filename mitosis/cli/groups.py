"""`create group`, `get group`, `get groups`."""

from mitosis.cli.output.screen import show
from mitosis.cli.running import with_client


def create_group(name: str, /) -> None:
    """Create a new group.

    Args:
        name: The name of the group.
    """
    with_client(lambda client: client.create_group(name))
    show({"name": name}, lambda: [f"Created group {name}"])


def get_group(name: str, /) -> None:
    """Get the information of a group.

    Args:
        name: The name of the group.
    """
    from mitosis.cli.output.texts import group_lines

    group = with_client(lambda client: client.get_group(name))
    show(group, lambda: group_lines(group))


def get_groups() -> None:
    """Get all groups the user has access to."""
    groups = with_client(lambda client: client.get_groups())
    show(
        {"groups": groups},
        lambda: [f"{name} = {role.label}" for name, role in sorted(groups.items())],
    )
