"""What is to be run: a suite's YAML, checked and unrolled into single runs."""

from rankbench.bench.suite.blocks import AdapterSpec, ConfigError, Model, Training, make_adapter
from rankbench.bench.suite.files import load_suite, names_suite, suite_names
from rankbench.bench.suite.planned import RunSpec, plan
from rankbench.bench.suite.schema import Experiment, Suite
