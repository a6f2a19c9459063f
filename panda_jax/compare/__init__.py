"""The benchmark: every method on one generator, with the same samples, regions and strengths.

run.py is the whole comparison into a folder, with the configuration of settings.py: methods.py finds candidates by
each method (in discovery.py, in processes of their own), protocol.py edits the samples, cells.py measures, latency.py
times, pages.py writes tables and pictures. It imports the methods and never the other way round.
"""
