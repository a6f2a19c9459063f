"""What commands write: one module per kind of result, from what was asked for to the files and pictures in a folder.

fit.py, sample.py, edits.py (also removals), refinement.py, saliency.py, directions.py (of rivals) and report.py;
samples.py is what they are of, records.py how they are written. It imports all that computes and draws; it knows
nothing of flags.
"""
