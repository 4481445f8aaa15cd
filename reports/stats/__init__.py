"""Statistics: pure functions of scores, curves and costs, and the levels at which they decide."""
