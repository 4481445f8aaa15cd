"""A folder of results under fire: drivers that are started, watched and started again, and what is wrong at
the end."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from random import Random

import psutil

from rankbench.bench.records import FailureRecord, read_record
from tests.faults import DYING
from tests.faults.driver import CLOCK, Driver, start
from tests.faults.evidence import Found, done_again, results

NAME = "mine"
LONGEST_SECONDS = 300.0
"""A driver that is not disturbed ends in that time."""

KNOWN_ENDS = {0, 1, 2, 130, -signal.SIGKILL}
DONE = re.compile(r"\] (\S+): accuracy [\d.]+ in \d+ s")
KNOWN_REASONS = ("is corrupt", "No space left", "out of disk", "SIGKILL, 3 times")
FAILED = re.compile(r"\] (\S+): FAILED, (.*)")
WAY_OUT = re.compile(r"(\S+) is corrupt .*; delete it")


@dataclass
class Campaign:
    folder: Path
    """Its own. The results lie on a small disk in it, where this user may mount one."""
    suite: Path
    reference: Found
    random: Random
    words: tuple[str, ...] = ("--workers", "2", "--threads", "1")
    faked_clock: bool = CLOCK is not None
    drivers: list[Driver] = field(default_factory=list)
    """Alive."""
    count: Counter[str] = field(default_factory=Counter)
    """Drivers, finished runs."""
    wrong: list[str] = field(default_factory=list)
    complete: bool = False
    """A driver ended that had nothing left to do."""
    _seen: dict[str, str] = field(default_factory=dict)
    """Cell -> hash of its record, when last seen."""
    _spoilt: set[tuple[str, str]] = field(default_factory=set)
    """The same of those that were spoilt."""
    _anew: Counter[str] = field(default_factory=Counter)
    """How often each finished run has to be done again for that."""
    _told: Counter[str] = field(default_factory=Counter)
    _processes: dict[int, psutil.Process] = field(default_factory=dict)
    _retry: bool = False

    def __post_init__(self) -> None:
        self.root.mkdir(parents=True)
        mount = ["mount", "-t", "tmpfs", "-o", "size=32m", "none", str(self.root.parent)]
        if os.getuid() == 0:
            subprocess.run(mount, check=True)
        self.set_clock("+0")

    @property
    def root(self) -> Path:
        """The suite's folder."""
        return self.folder / "results" / NAME

    def set_clock(self, offset: str) -> None:
        """Of all processes that are started here, from now on: "-5h"."""
        (self.folder / "clock").write_text(offset + "\n")

    def start(self, *words: str, dies: str = "") -> None:
        """The command, with a state saved at each step."""
        self.count["drivers"] += 1
        log = self.folder / f"{self.count['drivers']}.log"
        retry, self._retry = ["--retry-failed"] if self._retry else [], False
        command = ["run", str(self.suite), "--results", str(self.root.parent)]
        command += ["--checkpoint-every", "0", *retry]
        clock = self.folder / "clock" if self.faked_clock else None
        driver = start([*command, *(words or self.words)], log, self.folder / "notes", dies, clock)
        self.drivers.append(driver)
        self.complete = False

    def watch(self, seconds: float) -> bool:
        """Look on; whether a driver is still at work then."""
        until = time.monotonic() + seconds
        while self.drivers and time.monotonic() < until:
            for driver in list(self.drivers):
                self._processes |= {one.pid: one for one in driver.workers()}
                if driver.process.poll() is not None:
                    self.drivers.remove(driver)
                    self._ended(driver)
                elif time.monotonic() - driver.started > LONGEST_SECONDS:
                    self.wrong.append(f"{driver.log} hangs")
                    os.killpg(driver.process.pid, signal.SIGKILL)
            self._look()
            time.sleep(0.05)
        return bool(self.drivers)

    def died_writing(self) -> bool:
        """Whether the last driver did as it was told."""
        return DYING in (self.folder / f"{self.count['drivers']}.log").read_text()

    def settle(self) -> None:
        """Wait for those who have outlived their driver."""
        alive = psutil.wait_procs(list(self._processes.values()), timeout=45)[1]
        self.wrong += [f"process {one.pid} has not ended" for one in alive]
        self._processes.clear()

    def files(self, pattern: str) -> list[Path]:
        return sorted(self.root.glob(pattern))

    def spoil(self, cell: str) -> None:
        """Its record, as it is now, or its state is spoilt on purpose: it begins anew."""
        with (self.folder / "notes").open("a") as file:
            file.write(f"{cell} 0 spoilt\n")
        self._anew[cell] += self._seen.pop(cell, None) is not None
        self._spoilt.add((cell, self._records().get(cell, "")))

    def _records(self) -> dict[str, str]:
        """Cell -> hash of its record."""
        found = {}
        for path in self.files("runs/*.json"):
            with suppress(FileNotFoundError):  # it was spoilt, and is being replaced
                found[path.stem] = sha256(path.read_bytes()).hexdigest()
        return found

    def _look(self) -> None:
        """No record goes or changes once it is there, but for those that were spoilt."""
        now = dict(self._records().items() - self._spoilt)
        for cell, seen in self._seen.items():
            if now.get(cell) != seen:
                self.wrong.append(
                    f"the record of {cell} was there and {'changed' if cell in now else 'went'}"
                )
        self._seen = now

    def _ended(self, driver: Driver) -> None:
        """What it said; the way out is followed where it names one."""
        code, text = driver.process.returncode, driver.log.read_text(errors="replace")
        self._told.update(DONE.findall(text))
        if code not in KNOWN_ENDS or "Traceback (most" in text:
            self.wrong.append(f"{driver.log} ended with {code}: {text[-2000:]}")
        lines = [line for line in text.splitlines() if line.startswith("rankbench: ")]
        if code == 2 and len(lines) != 1:
            self.wrong.append(f"{driver.log} has no one line: {lines}")
        for named in WAY_OUT.findall(text):
            Path(named).unlink(missing_ok=True)
        for cell, reason in FAILED.findall(text):
            if "SIGSEGV, 3 times" in reason:
                self.spoil(cell)
            elif not any(known in reason for known in KNOWN_REASONS):
                self.wrong.append(f"{cell} failed: {reason}")
        failures = [read_record(path, FailureRecord) for path in self.files("failed/*.json")]
        self._retry = any("SIGSEGV" in failure.reason for failure in failures)
        self.complete = code == 0 and not self.drivers

    def again(self) -> list[int]:
        """Steps that were done again, for each process that went on with another's run."""
        return done_again(self.folder / "notes")

    def finish(self) -> None:
        """Undisturbed now, until all is done; then everything is checked."""
        for _ in range(8):
            if self.complete:
                break
            self.start()
            while self.watch(1):
                pass
        self.settle()
        found, here = results(self.root), {str(path.relative_to(self.root)) for path in self.files("**/*.*")}
        self.count["finished runs"] += len(found) + self._anew.total()
        self.wrong += [f"{cell} is lost" for cell in self.reference.keys() - found.keys()]
        self.wrong += [f"{cell} differs" for cell in found if found[cell] != self.reference[cell]]
        due = {f"runs/{cell}.{kind}" for cell in self.reference for kind in ("json", "parquet")}
        self.wrong += [f"{name} is left" for name in sorted(here - due)]
        twice = [cell for cell, times in self._told.items() if times > 1 + self._anew[cell]]
        self.wrong += [f"{cell} was done twice" for cell in twice]
        if any(steps > 1 for steps in self.again()):
            self.wrong.append(f"more than one step was done again: {self.again()}")

    def close(self) -> None:
        for driver in self.drivers:
            os.killpg(driver.process.pid, signal.SIGKILL)
        if os.path.ismount(self.root.parent):
            subprocess.run(["umount", str(self.root.parent)], check=True)
