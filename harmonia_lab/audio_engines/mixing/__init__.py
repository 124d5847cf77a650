"""From stems to a mastered song. `mix` is the way in; each module owns a step: balance, spectra, room, level, peak."""

from harmonia_lab.audio_engines.mixing.mixdown import Measurements, Mix, StemLevel, mix

__all__ = ["Measurements", "Mix", "StemLevel", "mix"]
