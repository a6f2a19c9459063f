"""Several processes that fit together.

processes.py joins them, shares samples out and lets them agree; supervision.py watches over one of them and passes
signals on. Nothing is computed here.
"""
