"""Keeping freed memory between steps.

glibc hands large blocks back to the kernel as soon as they are freed; the next step's activations
then arrive as fresh pages, each zeroed in a page fault. A step allocates the same blocks over and
over: keeping them saves all of these faults and leaves the peak where it was.
"""

from __future__ import annotations

import ctypes
import platform

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_MMAP_MAX = -1, -3, -4
"""mallopt(3)'s parameters, from glibc's malloc.h."""

_NEVER = 2**31 - 1


def keep_freed_memory() -> None:
    """Let this process's C allocator reuse large blocks. Does nothing where it is not glibc's."""
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        # Older ones (RHEL 9's 2.34) refuse more than 32 MiB, and after the second setting would map every
        # block above 128 KiB anew: more faults than without either.
        if not libc.mallopt(_M_MMAP_THRESHOLD, _NEVER):
            libc.mallopt(_M_MMAP_MAX, 0)
        libc.mallopt(_M_TRIM_THRESHOLD, _NEVER)


def give_back_freed_memory() -> None:
    """Return what is kept to the kernel, so that what comes next shows its own peak."""
    if platform.libc_ver()[0] == "glibc":
        ctypes.CDLL(None).malloc_trim(0)
