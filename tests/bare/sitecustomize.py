"""On PYTHONPATH this makes any Python one of a machine for training: nothing but PyTorch, transformers,
accelerate and PEFT, what comes with them, and pydantic. What else is installed is not found."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from importlib.machinery import ModuleSpec, PathFinder
from importlib.metadata import Distribution, DistributionFinder

MODULES = {
    "datasets", "evaluate", "gguf", "joblib", "lm_eval", "markdown_it", "matplotlib", "nox", "pandas",
    "platformdirs", "plotly", "pyarrow", "pytest", "ray", "scipy", "sklearn", "submitit", "tabulate",
    "threadpoolctl",
}  # fmt: skip
NAMES = {name.replace("_", "-") for name in MODULES} | {"scikit-learn", "markdown-it-py"}


class Bare(PathFinder):
    """Finds what is there, but for these."""

    @classmethod
    def find_spec(cls, fullname: str, path=None, target=None) -> ModuleSpec | None:
        if fullname.partition(".")[0] in MODULES:
            return None
        return PathFinder.find_spec(fullname, path, target)

    @staticmethod
    def find_distributions(context: DistributionFinder.Context) -> Iterable[Distribution]:
        return () if context.name in NAMES else PathFinder.find_distributions(context)


sys.meta_path[sys.meta_path.index(PathFinder)] = Bare
