"""Feature maps: where they come from and where a fit keeps them.

sources.py has the kinds of sources, checks.py the checks of what users pass, scan.py the first pass over a source
(finite values, energies, hash), throughput.py measures how fast a source is, store.py chooses where features are kept
and makes the later passes, sharding.py distributes them over devices. intake.py does these steps for a fit. A generator
as a source is in generators/source.py.
"""
