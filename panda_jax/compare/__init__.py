"""The benchmark: every method on one generator, with the same samples, regions and strengths.

run.py runs the whole comparison into a folder, with the configuration of settings.py. methods.py finds candidates by
each method (discovery.py runs it in its own process), protocol.py edits the samples, cells.py measures, differences.py
compares with the best, latency.py times, pages.py writes tables and pictures, cases.py runs several comparisons.
"""
