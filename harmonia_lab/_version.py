"""The version of the package. Owns that one value, which `pyproject.toml` reads too."""

__version__ = "0.1.0"
