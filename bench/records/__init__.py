"""What is kept of runs and measurements: the records, what identifies them, and the files they lie in.

Reports know nothing else of `bench`, so nothing here loads torch, an adapter or a task.
"""

from rankbench.bench.records.block import DEFAULT_BASELINE, LOOP_VERSION, SCHEMA_VERSION
from rankbench.bench.records.costs import GrowthPoint, OverheadRecord
from rankbench.bench.records.files import RecordError, write_atomically
from rankbench.bench.records.fingerprint import Identity, differences, fingerprint, is_this
from rankbench.bench.records.run import (
    Curve,
    FailureKind,
    FailureRecord,
    Memory,
    Observation,
    Parameters,
    RunRecord,
    Saved,
    Timings,
    is_trial,
)
from rankbench.bench.records.scores import Forgetting, MergeParity, Metrics, Scale
from rankbench.bench.records.store import Folders, read_record, read_runs, write_record
