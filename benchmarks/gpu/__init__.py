"""A quarter of an hour on a GPU: what a bare machine lacks, what is measured there, and the table made of it.

`python -m benchmarks.gpu` runs it, from the repository's root.
"""
