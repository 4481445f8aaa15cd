"""What is to be run: a suite's YAML, checked and unrolled into single runs."""

from rankbench.bench.suite.blocks import AdapterSpec, ConfigError, Model, Training, make_adapter
from rankbench.bench.suite.files import load_suite, names_suite, results_folder, suite_names
from rankbench.bench.suite.plan import RunSpec, plan
from rankbench.bench.suite.schema import Experiment, Suite

__all__ = [
    "AdapterSpec",
    "ConfigError",
    "Experiment",
    "Model",
    "RunSpec",
    "Suite",
    "Training",
    "load_suite",
    "make_adapter",
    "names_suite",
    "plan",
    "results_folder",
    "suite_names",
]
