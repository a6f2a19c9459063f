"""Timings and comparisons with yardsticks; `python -m benchmarks.solver --help`."""
