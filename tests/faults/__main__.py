"""`python -m tests.faults [COUNT] [--seed N]`: strikes a suite of short runs as often as that, and prints how
often by what, and what was lost. Exit code 1 if anything was."""

from __future__ import annotations

import argparse
import math
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import closing
from pathlib import Path
from random import Random

import yaml

from tests.bench.tiny_suite import with_changes
from tests.faults.campaign import NAME, Campaign
from tests.faults.evidence import Found, results
from tests.faults.kinds import AT_WORK, BEFORE_START, DIES_WRITING, KILLED_DRIVER, Fault, deaths, deck

TRAINING = {"steps": 60, "batch_size": 4, "learning_rate": 1e-3, "observe": 2, "select": "best"}
SEEDS = [0, 1, 2, 3]


def reference(folder: Path) -> tuple[Path, Found]:
    """The suite, and what its runs give one after the other, undisturbed."""
    suite = folder / f"{NAME}.yaml"
    suite.write_text(yaml.safe_dump(with_changes(training=TRAINING) | {"seeds": SEEDS}))
    command = [sys.executable, "-m", "rankbench.bench", "run", str(suite)]
    command += ["--results", str(folder / "serial"), "--workers", "1", "--threads", "1"]
    subprocess.run(command, check=True, capture_output=True)
    return suite, results(folder / "serial" / NAME)


class Fire:
    """What is left to be tried, and what has been."""

    def __init__(self, count: int, random: Random) -> None:
        self.random = random
        self.at_work, self.before = deck(AT_WORK, count), deck(BEFORE_START, count)
        self.deadly = math.ceil(4 * count / 200)
        random.shuffle(self.at_work)
        random.shuffle(self.before)
        self.tried: Counter[str] = Counter()

    @property
    def over(self) -> bool:
        return not (self.at_work or self.before or self.deadly)

    def rage(self, campaign: Campaign) -> None:
        """Until the campaign's runs are all done, or no fault is left."""
        while not (campaign.complete or self.over):
            self._prepare(campaign)
            deadly = self.deadly > 0 and (not self.at_work or self.random.random() < 0.3)
            campaign.start(dies=deaths(campaign) if deadly else "")
            while campaign.watch(self.random.uniform(0.5, 3)):
                self._strike(campaign)
            if deadly and campaign.died_writing():
                self.deadly -= 1
                self.tried[DIES_WRITING] += 1
            print(f"{self.tried.total()} faults, wrong: {campaign.wrong}", file=sys.stderr, flush=True)

    def _prepare(self, campaign: Campaign) -> None:
        ends = sum(fault.ends for fault in self.at_work) + self.deadly
        for fault in self.before[: math.ceil(len(self.before) / (1 + ends))]:
            self._try(fault, self.before, campaign)

    def _strike(self, campaign: Campaign) -> None:
        something = campaign.files("runs/*.json") and campaign.files("checkpoints/*.pt")
        if self.before and not self.at_work and something:  # to be spoilt, once the driver is dead
            self.at_work.append(KILLED_DRIVER)
        if self.at_work:
            self._try(self.at_work[0], self.at_work, campaign)

    def _try(self, fault: Fault, left: list[Fault], campaign: Campaign) -> None:
        left.remove(fault)
        if fault.strike(campaign):
            self.tried[fault.name] += 1
        else:
            left.append(fault)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("count", nargs="?", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--nodes", type=int, default=3, help="of a Ray cluster that are lost, besides")
    asked = parser.parse_args()
    random, started = Random(asked.seed), time.monotonic()
    fire, total, again, wrong = Fire(asked.count, random), Counter[str](), list[int](), list[str]()
    folder = Path(tempfile.mkdtemp(prefix="faults-"))
    suite, serial = reference(folder)

    def account(campaign: Campaign) -> None:
        total.update(campaign.count, campaigns=1)
        again.extend(campaign.again())
        wrong.extend(campaign.wrong)

    while not fire.over:
        campaign = Campaign(folder / str(total["campaigns"]), suite, serial, random)
        with closing(campaign):
            fire.rage(campaign)
            campaign.finish()
        account(campaign)
    if asked.nodes:
        from tests.faults.nodes import LOST_NODE, lose_nodes  # Ray need not be there

        campaign = Campaign(folder / "nodes", suite, serial, random, faked_clock=False)
        fire.tried[LOST_NODE] += lose_nodes(asked.nodes, campaign, random)
        account(campaign)

    print("| fault | times |\n| --- | --- |")
    for name, times in sorted(fire.tried.items(), key=lambda item: -item[1]):
        print(f"| {name} | {times} |")
    print(f"| **all** | **{fire.tried.total()}** |\n")
    minutes = (time.monotonic() - started) / 60
    print(
        f"{total['campaigns']} folders, {total['drivers']} drivers, {total['finished runs']} finished runs, "
        f"{minutes:.0f} minutes, seed {asked.seed}. {len(again)} times another process went on with a run: "
        f"{sum(again)} steps were done again, at most {max(again, default=0)} each time."
    )
    if impossible := [fault.name for fault in AT_WORK if not fault.possible]:
        print(f"Not tried, for want of root or libfaketime: {', '.join(impossible)}.")
    if wrong:
        print("\n".join(["", f"What drivers said is in {folder}.", *wrong]))
        return 1
    print("Lost, changed, differing or done twice: none.")
    shutil.rmtree(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
