"""What every worker needs, imported by the process that they are forked from.

Importing leaves little garbage: looking for it meanwhile takes a quarter of the time. Later, too, what is
imported is left out, and stays in memory that all share.
"""

import gc
from importlib import import_module

gc.disable()
for module in ("rankbench.bench.backends.workers.worker", "rankbench.tasks.text.measure"):
    import_module(module)
gc.freeze()
gc.enable()
