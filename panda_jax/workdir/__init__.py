"""The folders that commands write, and a fit opened again: from what was asked for to files and pictures.

A fit: config.py has the keys of its configuration, fit.py writes its folder (with fit_features.py, fit_pictures.py,
tensorboard.py, and suggestions.py, what to type next), checkpoints.py its state and autosave.py when; finished_fit.py
opens it again. report.py (with report_folders.py) lays it out on a page.
What is made with it: edits.py (also removals), refinement.py, saliency.py, inversion.py. Without: sample.py,
directions.py (of rivals). samples.py chooses the samples, folders.py claims a folder, records.py writes the record
that comes last. catalog/ and compare/ write their own results. No command line is read here.
"""

# How many samples, where the caller does not say it. Here, since --help tells them before much is imported.
EDIT_STATISTICS = 64  # of the fit, that rules and units of edits are taken from
SALIENCY_STATISTICS = 500  # of the generator, that thresholds and ranges are taken from, as published
