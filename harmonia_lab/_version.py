"""The version of the package. Owns that one value; `pyproject.toml` reads it, and no module below `__init__` needs more."""

__version__ = "0.1.0"
