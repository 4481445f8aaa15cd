"""Nodes of a Ray cluster of this machine that are lost without grace, one after the other."""

from __future__ import annotations

from random import Random
from typing import Any

import psutil
from ray.cluster_utils import Cluster

from tests.bench.test_ray import SETTINGS, runs_on
from tests.faults.campaign import Campaign

LOST_NODE = "node of a Ray cluster killed"
NODE: dict[str, Any] = {"num_cpus": 1, "object_store_memory": 80 * 1024**2}


def lose_nodes(times: int, campaign: Campaign, random: Random) -> int:
    """Each once it is at a run that has saved a state; how many were lost when all runs were done."""
    cluster = Cluster(True, head_node_args={**NODE, "include_dashboard": False, "_system_config": SETTINGS})
    cluster.add_node(**NODE)
    campaign.words = ("--backend", "ray", "--address", cluster.address, "--threads", "1")
    lost = 0
    try:
        campaign.start()
        while campaign.watch(random.uniform(0, 2)):
            node = cluster.list_all_nodes()[-1]
            if lost < times and _at_work(node, campaign):
                cluster.remove_node(node, allow_graceful=False)
                cluster.add_node(**NODE)
                lost += 1
        campaign.finish()
    finally:
        campaign.close()
        cluster.shutdown()
    return lost


def _at_work(node: Any, campaign: Campaign) -> bool:
    try:
        cells = runs_on(node)
    except psutil.NoSuchProcess:
        return False
    return any((campaign.root / f"checkpoints/{cell}.pt").exists() for cell in cells)
