"""This process, and what differs between machines and versions.

environment.py: versions, precision of small matrices, threads. compatibility.py: names of older jax.
signals.py: Ctrl-C and SIGTERM. progress.py, notebook.py and clock.py: what is shown of a running fit, where, and where
its time went. invocation.py: how the program was called.
"""
