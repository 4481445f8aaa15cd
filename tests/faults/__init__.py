"""Faults on purpose, by the hundred: `python -m tests.faults [COUNT] [--seed N]`.

Is a finished run lost, changed or done twice, whatever is killed, filled or spoiled meanwhile?
"""

NOTES = "FAULTS_NOTES"
"""Where a line goes for each state, before it is saved: cell, step, process."""

DIES = "FAULTS_DIES"
"""PATTERN MOMENT NUMBER: "before" or "after" the file with that number, of those whose path matches, has got
its name; or empty."""

DYING = "dies as it was told"
