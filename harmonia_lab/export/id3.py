"""ID3v2.4 tags, for MP3 files and for the `id3 ` chunk of WAV files.

Owns the layout, after the informal standards "ID3 tag version 2.4.0 – Main Structure" and "… – Native Frames"
(M. Nilsson, 2000): text in UTF-8, sizes of 7 bits a byte, no unsynchronisation, no padding.
"""

from __future__ import annotations

import struct

from harmonia_lab.export.tags import SongTags

__all__ = ["id3_tag"]

_UTF_8 = b"\x03"
_FRONT_COVER = b"\x03"

_ISO_639_2 = {
    "ar": "ara", "bg": "bul", "ca": "cat", "cs": "ces", "cy": "cym", "da": "dan", "de": "deu", "el": "ell", "en": "eng",
    "es": "spa", "et": "est", "fa": "fas", "fi": "fin", "fr": "fra", "ga": "gle", "gl": "glg", "he": "heb", "hi": "hin",
    "hr": "hrv", "hu": "hun", "id": "ind", "is": "isl", "it": "ita", "ja": "jpn", "ko": "kor", "la": "lat", "lt": "lit",
    "lv": "lav", "nb": "nob", "nl": "nld", "nn": "nno", "no": "nor", "pl": "pol", "pt": "por", "ro": "ron", "ru": "rus",
    "sk": "slk", "sl": "slv", "sr": "srp", "sv": "swe", "sw": "swa", "th": "tha", "tr": "tur", "uk": "ukr", "vi": "vie",
    "zh": "zho",
}  # fmt: skip
"""ID3 names languages by three letters; of the others it says that they are unknown, XXX (native frames, 4.8)."""


def id3_tag(tags: SongTags) -> bytes:
    """Return the whole tag, to stand before the first MPEG frame."""
    language = _ISO_639_2.get((tags.language or "").partition("-")[0], "XXX").encode()
    frames = [
        _text("TIT2", tags.title),
        _text("TPE1", tags.artist),
        _text("TALB", tags.album),
        _text("TCON", tags.genre),
        _text("TMOO", tags.mood),
        _text("TBPM", str(tags.bpm or "")),
        _text("TKEY", tags.short_key),
        _text("TLAN", language.decode() if language != b"XXX" else None),
        _text("TDRC", tags.date),
        _text("TSSE", tags.software),
    ]
    frames += [_frame("TXXX", _UTF_8 + _plain(name) + b"\0" + _plain(text)) for name, text in tags.origin.items()]
    frames.append(_frame("COMM", _UTF_8 + b"eng" + b"\0" + _plain(tags.comment)))
    if tags.lyrics:
        frames.append(_frame("USLT", _UTF_8 + language + b"\0" + _plain(tags.lyrics)))
    if tags.picture is not None:
        head = _UTF_8 + tags.picture.mime.encode() + b"\0" + _FRONT_COVER + b"\0"
        frames.append(_frame("APIC", head + tags.picture.data))
    body = b"".join(frames)
    return b"ID3\x04\x00\x00" + _synchsafe(len(body)) + body


def _text(name: str, text: str | None) -> bytes:
    return _frame(name, _UTF_8 + _plain(text)) if text else b""


def _frame(name: str, body: bytes) -> bytes:
    return name.encode() + _synchsafe(len(body)) + b"\0\0" + body


def _plain(text: str) -> bytes:
    """Return the text in UTF-8, without the zero byte that ends a text, and without halves of surrogate pairs."""
    return text.replace("\0", " ").encode("utf-8", "replace")


def _synchsafe(number: int) -> bytes:
    return struct.pack(">4B", *((number >> shift) & 0x7F for shift in (21, 14, 7, 0)))
