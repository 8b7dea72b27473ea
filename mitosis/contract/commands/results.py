"""What several commands answer."""

import msgspec


class Done(msgspec.Struct):
    """The command is stored; `changed` is False when nothing had to be done."""

    changed: bool = True


class NewQuota(msgspec.Struct):
    """What the quota is now: a count of groups, or bytes."""

    quota: int
