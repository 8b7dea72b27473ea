"""The library under the name that the original's documents use: `netmito` is `mitosis`."""

from typing import Any

import mitosis
from mitosis import __all__ as __all__  # the same names, loaded when they are used


def __getattr__(name: str) -> Any:
    return getattr(mitosis, name)
