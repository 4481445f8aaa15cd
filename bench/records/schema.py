"""For the time of the move: `rankbench.bench.records` has these names now."""

from rankbench.bench.records import *  # noqa: F403
