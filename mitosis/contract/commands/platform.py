"""Commands about the platform as a whole."""

import msgspec


class Shutdown(msgspec.Struct, omit_defaults=True, forbid_unknown_fields=True):
    """Needs a platform administrator. `secret` None: being one is enough; given, it must fit."""

    secret: str | None = None

    def __repr__(self) -> str:
        return "Shutdown(...)"
