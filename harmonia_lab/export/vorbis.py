"""Vorbis comments, with a picture, in FLAC and in Ogg Vorbis files that were encoded without.

Owns both containers as far as tags need it: FLAC's metadata blocks (RFC 9639, 8) and Ogg's pages (RFC 3533, 6; the
order of Vorbis's three headers is in the Vorbis I specification, 4.2 and A.2). The sound's own bytes stay as they are.
"""

from __future__ import annotations

import base64
import struct
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from harmonia_lab.errors import AudioError
from harmonia_lab.export.tags import Picture, SongTags

__all__ = ["tagged_flac", "tagged_ogg"]

_COMMENT, _PICTURE, _PADDING = 4, 6, 1
_FRONT_COVER = 3
_REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


def tagged_flac(flac: bytes, tags: SongTags) -> bytes:
    """Return the FLAC file with these tags instead of its own; the encoder's name in it stays."""
    kept, vendor, sound = [], b"", 0
    for kind, block, end in _blocks(flac):
        if kind == _COMMENT:
            vendor = _vendor(block)
        elif kind not in (_PICTURE, _PADDING):
            kept.append((kind, block))
        sound = end
    kept.append((_COMMENT, _comments(tags, vendor)))
    if tags.picture is not None:
        kept.append((_PICTURE, _picture_block(tags.picture)))
    heads = [(kind | (0x80 if at == len(kept) - 1 else 0)) << 24 | len(block) for at, (kind, block) in enumerate(kept)]
    blocks = (struct.pack(">I", head) + block for head, (_, block) in zip(heads, kept, strict=True))
    return b"".join([b"fLaC", *blocks, flac[sound:]])


def _blocks(flac: bytes) -> Iterator[tuple[int, bytes, int]]:
    """Yield each metadata block: its kind, content, and the place after it."""
    at, last = 4, False
    if flac[:4] != b"fLaC":
        raise AudioError("The song's file is no FLAC file.")
    while not last:
        (head,) = struct.unpack_from(">I", flac, at)
        last, kind, length = bool(head >> 31), head >> 24 & 0x7F, head & 0xFFFFFF
        yield kind, flac[at + 4 : at + 4 + length], at + 4 + length
        at += 4 + length


def tagged_ogg(ogg: bytes, tags: SongTags, serial: int) -> bytes:
    """Return the Ogg Vorbis file with these tags instead of its own.

    serial: the stream's number, of 32 bits; the encoder draws one by chance, and equal songs should be equal files.
    """
    pages = list(_pages(ogg))
    headers, rest = _header_packets(pages)
    if len(headers) != 3 or not headers[1].startswith(b"\x03vorbis"):
        raise AudioError("The encoder made no Ogg Vorbis file.")
    picture = [] if tags.picture is None else [_picture_field(tags.picture)]
    comment = b"\x03vorbis" + _comments(tags, _vendor(headers[1][7:]), picture) + b"\x01"
    new = [_Page(2, 0, _lacing([headers[0]]), headers[0]), *_paged([comment, headers[2]])]
    return b"".join(page.packed(serial, number) for number, page in enumerate([*new, *rest]))


@dataclass(frozen=True)
class _Page:
    """kind: flags, 1 continued, 2 first, 4 last. granule: position, −1 where no packet ends. segments: lengths."""

    kind: int
    granule: int
    segments: bytes
    body: bytes

    def packed(self, serial: int, number: int) -> bytes:
        head = struct.pack("<4sBBqII", b"OggS", 0, self.kind, self.granule, serial, number)
        tail = bytes([len(self.segments)]) + self.segments + self.body
        return head + struct.pack("<I", _checksum(head + b"\0\0\0\0" + tail)) + tail


def _pages(ogg: bytes) -> Iterator[_Page]:
    at = 0
    while at < len(ogg):
        magic, _, kind, granule, _, _, _, count = struct.unpack_from("<4sBBqIIIB", ogg, at)
        if magic != b"OggS":
            raise AudioError("The encoder made no Ogg file.")
        segments = ogg[at + 27 : at + 27 + count]
        start = at + 27 + count
        at = start + sum(segments)
        yield _Page(kind, granule, segments, ogg[start:at])


def _header_packets(pages: Sequence[_Page]) -> tuple[list[bytes], Sequence[_Page]]:
    """Return the first three packets, and the pages after them: sound begins on a page of its own."""
    packets, packet = [], b""
    for index, page in enumerate(pages):
        at = 0
        for length in page.segments:
            packet += page.body[at : at + length]
            at += length
            if length < 255:
                packets.append(packet)
                packet = b""
        if len(packets) >= 3:
            return packets, pages[index + 1 :]
    return packets, []


def _lacing(packets: Sequence[bytes]) -> bytes:
    """Return the segment lengths of packets: 255 as often as it fits, then the rest, which may be 0."""
    return b"".join(b"\xff" * (len(packet) // 255) + bytes([len(packet) % 255]) for packet in packets)


def _paged(packets: Sequence[bytes]) -> Iterator[_Page]:
    """Yield pages of up to 255 segments that hold the packets."""
    lacing, body = _lacing(packets), b"".join(packets)
    at = continued = 0
    for first in range(0, len(lacing), 255):
        segments = lacing[first : first + 255]
        length = sum(segments)
        ends = any(segment < 255 for segment in segments)
        yield _Page(continued, 0 if ends else -1, segments, body[at : at + length])
        at, continued = at + length, int(segments[-1] == 255)


def _checksum(page: bytes) -> int:
    """Return Ogg's CRC (polynomial 0x04c11db7, start 0, bits as they are) by zlib's, which reverses them."""
    reversed_crc = zlib.crc32(page.translate(_REVERSED), 0xFFFFFFFF) ^ 0xFFFFFFFF
    return int(f"{reversed_crc:032b}"[::-1], 2)


def _vendor(block: bytes) -> bytes:
    (length,) = struct.unpack_from("<I", block)
    return block[4 : 4 + length]


def _comments(tags: SongTags, vendor: bytes, more: Sequence[tuple[str, str]] = ()) -> bytes:
    """Return the comments without framing. Names beyond the standard's are those that players read."""
    fields = [
        ("TITLE", tags.title),
        ("ARTIST", tags.artist),
        ("ALBUM", tags.album),
        ("GENRE", tags.genre),
        ("MOOD", tags.mood),
        ("BPM", str(tags.bpm or "")),
        ("INITIALKEY", tags.short_key),
        ("KEY", tags.key),
        ("LANGUAGE", tags.language),
        ("DATE", tags.date),
        ("ENCODED-BY", tags.software),
        ("COMMENT", tags.comment),
        ("LYRICS", tags.lyrics),
        *tags.origin.items(),
        *more,
    ]
    texts = [f"{name}={text}".replace("\0", " ").encode("utf-8", "replace") for name, text in fields if text]
    packed = b"".join(struct.pack("<I", len(text)) + text for text in texts)
    return struct.pack("<I", len(vendor)) + vendor + struct.pack("<I", len(texts)) + packed


def _picture_block(picture: Picture) -> bytes:
    """Return FLAC's picture block (RFC 9639, 8.8)."""
    mime = picture.mime.encode()
    sizes = struct.pack(">IIIII", picture.width, picture.height, picture.depth, 0, len(picture.data))
    return struct.pack(">II", _FRONT_COVER, len(mime)) + mime + struct.pack(">I", 0) + sizes + picture.data


def _picture_field(picture: Picture) -> tuple[str, str]:
    return "METADATA_BLOCK_PICTURE", base64.b64encode(_picture_block(picture)).decode()
