"""`make_checkpoint` moved to `harmonia_lab.audio_engines.musicgen.random_checkpoint` in version 0.1.0."""

import importlib
import warnings

__all__ = ["make_checkpoint"]

NEW_NAME = "harmonia_lab.audio_engines.musicgen.random_checkpoint"

# Imported by name, since no other module of `engines` may depend on `audio_engines`.
make_checkpoint = importlib.import_module(NEW_NAME).make_checkpoint

warnings.warn(f"Import make_checkpoint from {NEW_NAME}: {__name__} will be removed.", DeprecationWarning, stacklevel=2)
