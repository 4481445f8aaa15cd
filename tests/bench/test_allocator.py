"""Freed memory stays with the process."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

FAULTS = """
import ctypes, resource, sys, types
import torch
from rankbench.bench.cpu.allocator import keep_freed_memory
libc = ctypes.CDLL(None)
def older(option, value):  # glibc's `do_set_mmap_threshold` as it was in RHEL 9's 2.34
    return 0 if option == -3 and value > 32 << 20 else libc.mallopt(option, value)
if sys.argv[1] == "kept by an older one":
    ctypes.CDLL = lambda _: types.SimpleNamespace(mallopt=older)
if sys.argv[1] != "given back":
    keep_freed_memory()
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.ones(12 << 20)  # 48 MiB: above what glibc keeps of its own accord
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
for _ in range(9):
    faults()
print(sum(faults() for _ in range(20)))
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the setting is glibc's")
def test_blocks_that_are_used_again_cause_no_page_faults() -> None:
    counts = {
        mode: int(subprocess.check_output([sys.executable, "-c", FAULTS, mode], text=True))
        for mode in ("kept", "kept by an older one", "given back")
    }
    # The heap may still grow once after the first rounds; a block has 12288 pages.
    assert counts["kept"] < 3 * 12288
    assert counts["kept by an older one"] < 3 * 12288
    assert counts["given back"] > 15 * 12288
