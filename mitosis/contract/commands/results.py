"""What several commands answer."""

import msgspec


class Done(msgspec.Struct):
    """The command is stored; `changed` is False when nothing had to be done."""

    changed: bool = True
