"""Mixing and mastering: `mix` turns stems into a song. Each other module has one step of it."""

from harmonia_lab.audio_engines.mixing.mixdown import Measurements, Mix, StemLevel, mix, mixed_stems
from harmonia_lab.audio_engines.mixing.presets import MIX_PRESETS, SINGLE_MIX, MixPreset, mix_preset

__all__ = [
    "MIX_PRESETS",
    "SINGLE_MIX",
    "Measurements",
    "Mix",
    "MixPreset",
    "StemLevel",
    "mix",
    "mix_preset",
    "mixed_stems",
]
