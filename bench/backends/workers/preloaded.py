"""What every worker needs, imported by the process that they are forked from.

Importing leaves little garbage: looking for it meanwhile takes a quarter of the time. Later, too, what is
imported is left out, and stays in memory that all share.
"""

import gc

gc.disable()

import rankbench.bench.backends.workers.worker  # noqa: E402
import rankbench.tasks.text.measure  # noqa: E402, F401

gc.freeze()
gc.enable()
