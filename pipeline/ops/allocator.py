"""Memory management: large blocks that are freed are returned to the system."""

from __future__ import annotations

import ctypes
from typing import Final

_M_MMAP_THRESHOLD: Final = -3
_LARGE_BYTES: Final = 256 * 1024


def give_back_large_blocks() -> bool:
    """Tell glibc to map blocks above 256 KiB separately. Returns whether the C library is glibc.

    By default, glibc raises that limit to the size of the largest block that was ever freed, and then keeps such blocks. With
    bodies of 5 MB, this lowers the peak memory of the roles by a fifth (tests/bench/bounds.py --only large).
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # not Linux, or another C library
        return False
    return bool(mallopt(_M_MMAP_THRESHOLD, _LARGE_BYTES))
