"""The faults: each strikes a campaign if it finds something to strike."""

from __future__ import annotations

import math
import os
import signal
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import psutil

from tests.faults.campaign import Campaign
from tests.faults.driver import CLOCK

Strike = Callable[[Campaign], bool]
"""Whether there was something to strike."""


@dataclass(frozen=True)
class Fault:
    name: str
    share: int
    """Of two hundred."""
    strike: Strike
    ends: bool = False
    """The driver."""
    possible: bool = True
    """Here."""


def end_workers(signals: tuple[signal.Signals, ...], most: int, campaign: Campaign) -> bool:
    there = [worker for driver in campaign.drivers for worker in driver.workers()]
    struck = campaign.random.sample(there, min(most, len(there)))
    for number in signals:
        for worker in struck:
            try:
                worker.send_signal(number)
            except psutil.NoSuchProcess:
                continue
        campaign.watch(campaign.random.uniform(0, 1))
    return len(struck) == most


def end_driver(number: signal.Signals, campaign: Campaign, *, group: bool = False) -> bool:
    """Once it has workers: before, it is Python that is stopped."""
    at_work = [driver for driver in campaign.drivers if driver.workers()]
    if not at_work:
        return False
    driver = campaign.random.choice(at_work)
    (os.killpg if group else os.kill)(driver.process.pid, number)
    return True


def kill_nursery(campaign: Campaign) -> bool:
    there = [nursery for driver in campaign.drivers for nursery in driver.nurseries() if driver.workers()]
    for nursery in there:
        nursery.kill()
    return bool(there)


def kill_one_of_two(campaign: Campaign) -> bool:
    campaign.start("--workers", "1")
    campaign.watch(campaign.random.uniform(3, 15))
    if len(campaign.drivers) < 2:
        return False
    campaign.random.choice(campaign.drivers).process.kill()
    return True


def fill_disk(campaign: Campaign) -> bool:
    """But for a few KiB, in which something may fit; free again when the driver has given up."""
    disk = campaign.root.parent
    if not any(driver.workers() for driver in campaign.drivers):
        return False
    ballast = disk / "ballast"
    with ballast.open("wb", buffering=0) as file, suppress(OSError):
        while file.write(bytes(4096)):
            pass
    os.truncate(ballast, max(0, ballast.stat().st_size - campaign.random.choice((0, 0, 8192, 20480, 40960))))
    while campaign.watch(1):
        pass
    ballast.unlink()
    return True


def shift_clock(campaign: Campaign) -> bool:
    campaign.set_clock(campaign.random.choice(("-5h", "-300d", "+5h", "-1h", "+0")))
    return True


def shift_times(campaign: Campaign) -> bool:
    """Of all files, to the last century or the next."""
    files = campaign.files("**/*.*")
    for path in files:
        moment = campaign.random.choice((0, 4_000_000_000))
        os.utime(path, (moment, moment))
    return bool(files)


def spoil_lock(campaign: Campaign) -> bool:
    cell = campaign.random.choice(sorted(campaign.reference))
    path = campaign.root / f"checkpoints/{cell}.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(campaign.random.choice((b"", b"4194304\nanother-machine\n", b"\xff\x00")))
    return True


def spoil_checkpoint(campaign: Campaign) -> bool:
    campaign.settle()
    if not (there := campaign.files("checkpoints/*.pt")):
        return False
    path = campaign.random.choice(there)
    _spoil(campaign, path, in_the_middle=True)
    campaign.spoil(path.stem)
    return True


def spoil_record(campaign: Campaign) -> bool:
    if not (there := campaign.files("runs/*.json")):
        return False
    path = campaign.random.choice(there)
    _spoil(campaign, path)
    campaign.spoil(path.stem)
    return True


def lose_predictions(campaign: Campaign) -> bool:
    if not (there := campaign.files("runs/*.json")):
        return False
    path = campaign.random.choice(there)
    campaign.spoil(path.stem)
    path.with_suffix(".parquet").unlink(missing_ok=True)
    return True


def _spoil(campaign: Campaign, path: Path, *, in_the_middle: bool = False) -> None:
    """Empty, cut off, noise instead, or noise in a part of it."""
    content, noise = path.read_bytes(), campaign.random.randbytes(64)
    kinds = [b"", content[: len(content) // 2], noise]
    if in_the_middle:
        at = campaign.random.randint(len(content) // 4, len(content) // 2)
        kinds.append(content[:at] + noise + content[at + len(noise) :])
    path.write_bytes(campaign.random.choice(kinds))


def deaths(campaign: Campaign) -> str:
    """When a driver is to die: at one of the files that say how a run ended."""
    kind, moment = campaign.random.choice(("json", "parquet")), campaign.random.choice(("before", "after"))
    return f"*/runs/*.{kind} {moment} {campaign.random.randint(1, 2)}"


KILL, STOP, SEGV = signal.SIGKILL, signal.SIGSTOP, signal.SIGSEGV
DIES_WRITING = "driver killed while it writes how a run ended"
KILLED_DRIVER = Fault("driver killed (SIGKILL)", 7, partial(end_driver, KILL), ends=True)

AT_WORK = [
    Fault("worker killed (SIGKILL)", 36, partial(end_workers, (KILL,), 1)),
    Fault("worker crashed (SIGSEGV)", 14, partial(end_workers, (SEGV,), 1)),
    Fault("worker stopped, then killed", 10, partial(end_workers, (STOP, KILL), 1)),
    Fault("both workers killed at once", 6, partial(end_workers, (KILL,), 2)),
    Fault("process that workers are forked from killed", 6, kill_nursery),
    KILLED_DRIVER,
    Fault("driver terminated (SIGTERM)", 4, partial(end_driver, signal.SIGTERM), ends=True),
    Fault("Ctrl-C to all", 4, partial(end_driver, signal.SIGINT, group=True), ends=True),
    Fault("one of two drivers on a folder killed", 4, kill_one_of_two),
    Fault("disk full", 4, fill_disk, ends=True, possible=os.getuid() == 0),
    Fault("clock set back or forward by hours or months", 25, shift_clock, possible=CLOCK is not None),
]
BEFORE_START = [
    Fault("files' times of another century", 30, shift_times),
    Fault("lock file of nobody: empty, or noise", 30, spoil_lock),
    Fault("checkpoint unreadable: cut off, noise", 10, spoil_checkpoint),
    Fault("record unreadable: cut off, noise", 10, spoil_record),
    Fault("predictions gone", 6, lose_predictions),
]


def deck(faults: list[Fault], count: int) -> list[Fault]:
    """As many of each that is possible as its share of `count` faults is."""
    can = [fault for fault in faults if fault.possible]
    return [fault for fault in can for _ in range(math.ceil(fault.share * count / 200))]
