"""Which trials a suite's `tune` blocks ask for, and what they choose (docs/tuning.md).

Trials are ordinary runs: whoever does a suite's runs does these too, and finds them here.
"""

from rankbench.bench.tune.settle import settled
from rankbench.bench.tune.trials import next_trials, trial_rounds

__all__ = ["next_trials", "settled", "trial_rounds"]
