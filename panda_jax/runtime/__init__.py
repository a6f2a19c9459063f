"""This process, the others that fit with it, and what differs between machines and versions.

environment.py: versions, precision of small matrices, threads. compatibility.py: names of older jax.
signals.py: Ctrl-C and SIGTERM. progress.py, notebook.py and clock.py: what is shown of a running fit, where, and where
its time went. memory.py: how much it took at most. invocation.py: how the program was called.
processes.py joins several processes, shares samples out and lets them agree; supervision.py watches over one of them
and passes signals on.
"""
