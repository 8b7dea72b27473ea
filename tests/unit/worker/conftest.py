"""A core on recording effects."""

from pathlib import Path

import pytest

from .recording import Bench


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)
