"""Tags in WAV files: a `LIST` chunk of kind `INFO`, which old programs read, and an `id3 ` chunk, which has everything.

Owns the chunks (Microsoft and IBM, "Multimedia Programming Interface and Data Specifications 1.0", 1991). Text is in
UTF-8.
"""

from __future__ import annotations

import struct

from harmonia_lab.errors import AudioError
from harmonia_lab.export.id3 import id3_tag
from harmonia_lab.export.tags import SongTags

__all__ = ["tagged_wav"]


def tagged_wav(wav: bytes, tags: SongTags) -> bytes:
    """Return the WAV file with the tags after its sound."""
    if wav[:4] != b"RIFF" or wav[8:12] != b"WAVE":
        raise AudioError("The encoder made no WAV file.")
    texts = {
        "INAM": tags.title,
        "IART": tags.artist,
        "IPRD": tags.album,
        "IGNR": tags.genre,
        "ICRD": tags.date,
        "ISFT": tags.software,
        "ICMT": tags.comment,
        "IKEY": "; ".join(f"{name}={text}" for name, text in tags.origin.items()),
    }
    info = b"".join(_chunk(name, _ended(text)) for name, text in texts.items() if text)
    body = wav[8:] + (b"\0" if len(wav) % 2 else b"") + _chunk("LIST", b"INFO" + info) + _chunk("id3 ", id3_tag(tags))
    return b"RIFF" + struct.pack("<I", len(body)) + body


def _ended(text: str) -> bytes:
    return text.replace("\0", " ").encode("utf-8", "replace") + b"\0"


def _chunk(name: str, data: bytes) -> bytes:
    return name.encode() + struct.pack("<I", len(data)) + data + (b"\0" if len(data) % 2 else b"")
