"""Mixing and mastering: `mix` turns stems into a song. Each other module has one step of it."""

from harmonia_lab.audio_engines.mixing.mixdown import Measurements, Mix, StemLevel, mix

__all__ = ["Measurements", "Mix", "StemLevel", "mix"]
