"""Who does a suite's missing runs, and where: `driver` decides and writes, a backend has them done.

A backend is a function (`seam.Backend`); another than `seam.here` has a file of its own.
"""
