"""The folders that commands write, with their files and pictures, and finished fits opened again.

A fit: config.py has the keys of its configuration; fit.py writes its folder (with fit_features.py, fit_pictures.py,
tensorboard.py, and suggestions.py for the next commands). checkpoints.py saves its state, autosave.py decides when.
finished_fit.py opens it again. report.py (with report_folders.py) shows it on a page.
Results of a fit: edits.py (also removals), refinement.py, saliency.py, inversion.py. Results without a fit: sample.py,
directions.py (of rivals). samples.py chooses the samples, folders.py claims a folder, records.py writes the final
record. catalog/ and compare/ write their own results. No command line is read here.
"""

# Default numbers of samples. They are here since --help lists them and must not import much.
EDIT_STATISTICS = 64  # of the fit, for rules and units of edits
SALIENCY_STATISTICS = 500  # of the generator, for thresholds and ranges, as published
