"""Composing: from `SongMetadata` to a `Plan`. `compose` is all that others use."""

from harmonia_lab.music.composing.compose import compose

__all__ = ["compose"]
