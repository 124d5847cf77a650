"""Benchmarks: what the machine can do, measured the same way everywhere. One module per subject."""
