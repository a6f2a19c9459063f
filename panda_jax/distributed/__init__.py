"""Several processes that fit together: processes.py joins them, shares samples out and lets them agree; supervision.py
watches over one and passes signals on. It knows nothing of features or fits.
"""
