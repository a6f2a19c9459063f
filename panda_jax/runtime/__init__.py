"""This process, the other processes of a fit, and differences between machines and versions.

environment.py: versions, precision of small matrices, threads. compatibility.py: names of older jax.
signals.py: Ctrl-C and SIGTERM. progress.py and notebook.py: progress of a running fit. clock.py: times of its phases.
memory.py: peak memory. invocation.py: how the program was called.
processes.py joins several processes, distributes samples and lets them agree; supervision.py runs one of them as a
child, reports how it ended and passes signals on.
"""
