"""Benchmarks that need more than the package: their programs, and the rows that they measured."""
