"""Where a learning rate of each of PEFT's methods is looked for, which is all that tuning draws for them.

Rates are not alike: what a step of Adam's does to the weights depends on what is trained. Vectors that scale
rows, or fixed random matrices, want ten times LoRA's rate and more; a factor that begins at the size of the
weights, or is multiplied by 15, wants less. About two decades, for encoders and decoders of a few ten million
weights: around the rate whose first steps move the merged weights of MiniLM as far as LoRA's do at 1e-3 (at
the sizes of the suite leaderboard), moved towards what papers and PEFT's examples use where that is
another, in proportion to LoRA's rate there. None ends above 0.1: a new head is trained at the same rate.
"""

from __future__ import annotations

from collections.abc import Mapping

from rankbench.adapters.base import Range
from rankbench.adapters.lora import Lora


def rate(low: float, high: float) -> Mapping[str, Range]:
    """What tuning draws: the learning rate alone, evenly on the logarithm."""
    return {"learning_rate": (low, high, "log")}


LARGE_FACTORS = rate(3e-5, 3e-3)
"""Of LoRA from factors that begin large: of the frozen weight, its gradient, or what the layer is given."""

RATES: Mapping[str, Mapping[str, Range]] = {"LORA": Lora.space} | {
    method: rate(low, high)
    for (low, high), methods in {
        (1e-5, 1e-3): "MISS WAVEFT",
        (3e-5, 3e-3): "BOFT DELORA OFT PSOFT RANDLORA",
        (1e-4, 1e-2): "ADAMSS DEFT FROD GRALORA HRA LOKR OSF PEANUT SHIRA SUPERTUNING TINYLORA",
        (3e-4, 3e-2): "BEFT GLORA IA3 LOHA ROAD UNILORA VBLORA",
        (1e-3, 3e-2): "ADALORA",  # a product of three factors: 4e-3 and 1.6e-2 did alike on SST-2
        (2e-3, 5e-2): "HIRA",  # multiplied by a weight: 1e-3 learnt nothing on SST-2, 1.6e-2 did
        (1e-3, 1e-1): "C3A FOURIERFT PVERA VERA",
    }.items()
    for method in methods.split()
}
"""Method -> that, for every method that runs here."""
