"""Commands about groups."""

import msgspec


class CreateGroup(msgspec.Struct):
    """The one who creates it becomes Admin."""

    name: str
