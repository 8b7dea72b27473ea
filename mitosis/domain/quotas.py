"""How a quota is changed: set anew, or by a difference to what it is when the change arrives."""

from collections.abc import Callable

import msgspec

from mitosis.errors import InvalidInput


class QuotaChange(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """`relative`: `amount` is added to what there is, and the result is never below 0."""

    amount: int
    relative: bool = False

    def applied_to(self, quota: int) -> int:
        """Return the new quota."""
        return max(0, quota + self.amount) if self.relative else self.amount


def parse_quota(text: str, read: Callable[[str], int]) -> QuotaChange:
    """Read `=n` or `n` (the new value), `+n` or `-n` (the difference).

    Args:
        text: As typed.
        read: Reads the amount, such as `parse_size` or `parse_count`.

    Raises:
        InvalidInput: Of `read`, for what follows the sign.
    """
    sign, amount = text[:1], text[1:]
    if sign not in {"+", "-", "="}:
        return QuotaChange(read(text))
    number = read(amount)
    return QuotaChange(-number if sign == "-" else number, relative=sign != "=")


def parse_count(text: str) -> int:
    """Read a whole number that is not negative.

    Raises:
        InvalidInput: Anything else.
    """
    if not (text.isascii() and text.isdigit() and len(text) <= 18):
        raise InvalidInput(f"{text[:40]!r} is no count: write it like 8, +2, -1 or =5", value=text)
    return int(text)
