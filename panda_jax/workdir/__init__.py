"""The folder of a fit: its configuration (config.py), the forms of its records (records.py), its checkpoints
(checkpoints.py) and when they are written (autosave.py), and a finished fit opened again (finished_fit.py).
"""
