"""What others add to rankbench: packages by entry points, single Python files by `plugins: [mine.py]`.

Knows nothing of adapters, tasks or runs.
"""

from rankbench.bench.plugins.others import Others
from rankbench.bench.plugins.source import Plugin, PluginError, read

__all__ = ["Others", "Plugin", "PluginError", "read"]
