"""The former place of `harmonia_lab.audio_engines.musicgen`. Only `random_checkpoint.py` can still be imported here."""
