"""Random seeds for the parts of a song. Owns how they are derived from the song's own seed and from its narrative."""

from __future__ import annotations

import hashlib
import random

__all__ = ["derive_rng", "derive_seed", "narrative_digest"]


def narrative_digest(narrative: str) -> str:
    """Return what stands for the narrative in seeds: the first 16 hex digits of SHA-256 over its UTF-8 text."""
    return hashlib.sha256(narrative.encode()).hexdigest()[:16]


def derive_seed(seed: int, *names: str) -> int:
    """Return a 32-bit seed for the purpose that `names` identify: the first four bytes of SHA-256 over seed and names.

    Seeds for different purposes are independent of each other and of the order in which they are derived.
    """
    text = "/".join([str(seed), *names])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big")


def derive_rng(seed: int, *names: str) -> random.Random:
    """Return a random generator for the purpose that `names` identify."""
    return random.Random(derive_seed(seed, *names))  # noqa: S311 - music needs no cryptographic randomness
