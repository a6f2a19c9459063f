"""From features to canonical factors.

factors.py has what is found and its files, fit.py is the front door. multilevel.py goes from subsets to all samples.
starts.py and block.py (the steps for A or P, with line_search.py and secant.py) search with W = I; joint.py and
appearances.py alternate; valley.py takes the last steps where the error is nearly flat. moments.py and passes.py are
the sums over samples, gauge.py the canonical form, state.py the state that they pass on, precision.py the dtype of
small matrices, effort.py what the compiler does with them. estimator.py is a fit in the manner of scikit-learn. No
other files are written here, and no pictures drawn.
"""
