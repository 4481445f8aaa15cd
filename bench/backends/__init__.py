"""Who does a suite's missing runs, and where: `driver` decides what, `sharing` who, a backend has them done.

A backend is a function (`seam.Backend`): `seam.here`, and one in each of the folders `workers`, `ray` and
`slurm`; `choose` says which. `standing` is a run on the disk, `leftovers` what a killed driver left there,
`lost` a run whose process died, `far` a run on another machine.
"""
