"""`python -m rankbench.bench` is `rankbench`."""

import sys

from rankbench.bench.cli import main

sys.exit(main())
