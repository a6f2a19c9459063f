"""From features to canonical factors.

fit.py is the front door. multilevel.py goes from subsets to all samples; starts.py and block.py (one step for A or P,
with line_search.py and secant.py) search with W = I; joint.py and appearances.py alternate; valley.py follows flat
ends. moments.py and passes.py are the sums over samples, gauge.py the canonical form, state.py what all of them hand
on. Files and pictures are not made here.
"""
