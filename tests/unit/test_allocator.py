"""Memory that was freed goes back to the system."""

import subprocess
import sys

import pytest

from mitosis.allocator import give_back_large_blocks

CHECKS = """
import re, sys
if sys.argv[1] == "given back":
    from mitosis.allocator import give_back_large_blocks
    give_back_large_blocks()
def resident():
    return int(re.search(r"VmRSS:\\s+(\\d+)", open("/proc/self/status").read())[1])
before = resident()
for _ in range(3):
    block = bytearray(b"x") * (19 << 20)
    below = bytearray(1000)  # so that the block is not the last one of the heap
    del block
print(resident() - before)
"""


def kept_kb(how: str) -> int:
    done = subprocess.run([sys.executable, "-c", CHECKS, how], capture_output=True, check=True)
    return int(done.stdout)


@pytest.mark.skipif(not give_back_large_blocks(), reason="not glibc: it keeps no large blocks")
def test_the_memory_of_a_password_check_is_given_back_which_glibc_alone_would_keep() -> None:
    assert kept_kb("given back") < 5_000 < kept_kb("kept")
