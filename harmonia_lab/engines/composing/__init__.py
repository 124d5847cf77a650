"""Composing: from `SongMetadata` to a `Plan`. `compose` is all that others use."""

from harmonia_lab.engines.composing.compose import compose

__all__ = ["compose"]
