"""One seed for each purpose, drawn from the song's own. Owns that derivation."""

from __future__ import annotations

import hashlib

__all__ = ["derive_seed"]


def derive_seed(seed: int, *names: str) -> int:
    """Return a 32-bit seed for the purpose that `names` names: the first four bytes of the SHA-256 of both.

    Seeds for different purposes are independent, and don't depend on the order in which they are drawn.
    """
    text = "/".join([str(seed), *names])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big")
