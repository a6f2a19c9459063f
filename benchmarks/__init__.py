"""Yardsticks and timings; `python -m benchmarks.solver --help`."""
