"""The GPU benchmark: packages for a machine without an index, the measurements, and the tables.

Run it from the repository's root: `python -m benchmarks.gpu`.
"""
