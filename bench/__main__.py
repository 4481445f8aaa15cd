"""`python -m bench` is `rankbench`."""

import sys

from bench.cli import main

sys.exit(main())
