"""From features to canonical factors.

factors.py defines the factors and their files, fit.py the function `fit`. multilevel.py goes from subsets to all
samples. starts.py and block.py (the steps for A or P, with line_search.py and secant.py) search with W = I; joint.py
and appearances.py alternate; valley.py takes the last steps where the error is nearly flat. moments.py and passes.py
compute the sums over samples, gauge.py the canonical form; state.py is the state that they share, precision.py the
dtype of small matrices, effort.py the compiler's options. estimator.py is an estimator in the style of scikit-learn. No
other files are written here, and no pictures drawn.
"""
