"""Who does a suite's missing runs, and where: `driver` decides and writes, a backend has them done.

A backend is a function (`seam.Backend`) in a file of its own; today there is `here`, in this process.
"""
