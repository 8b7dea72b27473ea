"""What the C library does with memory that was freed."""

import ctypes

_M_MMAP_THRESHOLD = -3  # of glibc's malloc.h
LARGE_BYTES = 1 << 20


def give_back_large_blocks() -> bool:
    """Have blocks of a mebibyte and more given back to the system when they are freed.

    glibc keeps them for later once one was freed, up to 32 MiB each: after the check of a password,
    which takes 19 MiB for a moment, a process would have 19 MiB more for as long as it lives.

    Returns:
        Whether the C library knows such a setting; one other than glibc gives them back anyway.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return mallopt is not None and mallopt(_M_MMAP_THRESHOLD, LARGE_BYTES) == 1
