"""What requests for lists and for the past have in common."""

from datetime import datetime

DEFAULT_PAGE = 50

AsOf = datetime | int | None
"""A moment of the past: a time, or a position of the stream; None: now.

The answer is the one that the same request would have had then. Who may ask is decided by now.
"""
