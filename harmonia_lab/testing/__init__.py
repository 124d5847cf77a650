"""Stand-ins for what a test can't have: shipped with the package, for our tests and for yours.

`FakeOllama` is a real HTTP server that speaks Ollama's API; `FakeMetadataEngine` and `FakeAudioEngine` are engines
without a model. They fail in the ways that the real ones do, when they are told to.
"""

from harmonia_lab.testing.engines import SONG_METADATA, FakeAudioEngine, FakeMetadataEngine
from harmonia_lab.testing.ollama import FakeModel, FakeOllama, Fault, Refusal, Reply

__all__ = [
    "SONG_METADATA",
    "FakeAudioEngine",
    "FakeMetadataEngine",
    "FakeModel",
    "FakeOllama",
    "Fault",
    "Refusal",
    "Reply",
]
