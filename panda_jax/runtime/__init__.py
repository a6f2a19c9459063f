"""This process: what it runs on (environment.py), how it is stopped (signals.py), what it says meanwhile (progress.py,
and notebook.py where that is a notebook) and what took its time (clock.py). It knows nothing of what is computed.
"""
