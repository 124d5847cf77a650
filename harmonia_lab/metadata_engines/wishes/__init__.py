"""Wishes in the narrative ("a slow waltz in D minor, no drums"): found, taken out of the story, and followed.

Owns the way from a text to metadata that obey it, for every engine of stage 1.
"""

from harmonia_lab.metadata_engines.wishes.following import Understanding, understand, with_wished_length

__all__ = ["Understanding", "understand", "with_wished_length"]
