"""Freed memory stays with the process."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

FAULTS = """
import resource, sys
import torch
from rankbench.bench.cpu.allocator import keep_freed_memory
if sys.argv[1] == "kept":
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
        for mode in ("kept", "given back")
    }
    # The heap may still grow once after the first rounds; a block has 12288 pages.
    assert counts["kept"] < 3 * 12288
    assert counts["given back"] > 15 * 12288
