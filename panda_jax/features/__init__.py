"""Feature maps: where they come from and where they live.

sources.py has the kinds of sources, checks.py what they may be, scan.py the first pass over one (finite values,
energies, its hash), throughput.py how fast it gives samples, store.py the choice of where they live and the passes that
follow, sharding.py how they lie on devices. intake.py goes this way for a fit. A generator as a source is in
generators/source.py.
"""
