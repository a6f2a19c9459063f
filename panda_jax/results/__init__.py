"""What commands write: one module per kind of result, from what was asked for to the files and pictures in a folder.

fit.py, sample.py, edits.py (also removals), explanations.py (refinement and saliency), directions.py (of rivals), and
report.py. It imports all that computes and draws; it knows nothing of flags.
"""
