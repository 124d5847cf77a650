"""Composition: `compose` turns `SongMetadata` into a `Plan`. The other modules are internal to this package."""

from harmonia_lab.music.composing.compose import compose

__all__ = ["compose"]
