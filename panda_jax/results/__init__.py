"""What commands write: one module per kind of result, from what was asked for to the files and pictures in a folder.

fit.py (with fit_pictures.py and suggestions.py, what to type next), sample.py, edits.py (also removals), refinement.py,
saliency.py, directions.py (of rivals), report.py (with report_folders.py). samples.py chooses the samples, records.py
writes the records. catalog/ and compare/ write their own results. No command line is read here.
"""

# How many samples, where the caller does not say it. Here, since --help tells them before much is imported.
EDIT_STATISTICS = 64  # of the fit, that rules and units of edits are taken from
SALIENCY_STATISTICS = 500  # of the generator, that thresholds and ranges are taken from, as published
