"""SF3 sound banks: unpacks the Ogg Vorbis samples of a bank, once, into an SF2 file that the renderer can read.

Owns the format and the cache of unpacked banks (not the choice of the bank, which is in `engine.py`). At import it
needs the standard library alone, because the renderer's process imports it only for an SF3 bank.

SF3 is SF2 but for its samples (W. Schweer's format, as FluidSynth and MuseScore read it): where a sample's type has the
bit 16, its start and end count bytes of the chunk `smpl`, an Ogg file lies between them, and its loop counts from zero.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import mmap
import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

__all__ = ["BankFormatError", "is_compressed", "unpacked"]

_COMPRESSED = 0x10  # in a sample's type
_RECORD = struct.Struct("<20s5IBbHH")  # of `shdr`; see _Sample

_PADDING = 46  # samples of silence after each one (SF2 2.04, section 6.1)


class BankFormatError(Exception):
    """A bank that isn't as the format says. The message says what is wrong, without the file's name."""


class _Sample(NamedTuple):
    """A record of the chunk `shdr`. start, end, loop_start, loop_end: see the head of this file."""

    name: bytes
    start: int
    end: int
    loop_start: int
    loop_end: int
    rate: int
    key: int
    cents: int
    linked: int
    kind: int

    @property
    def compressed(self) -> bool:
        return bool(self.kind & _COMPRESSED) and self.end > self.start


def is_compressed(path: Path) -> bool:
    """Return whether any sample of the bank is compressed; this reads only the heads of its chunks and samples.

    Raises OSError, and BankFormatError for a file that isn't a sound bank, or is cut off.
    """
    with _mapped(path) as data:
        return any(sample.compressed for sample in _samples(data, _chunks(data)))


def unpacked(path: Path, cache: Path) -> Path:
    """Return the SF2 file of the SF3 bank in the folder `cache`, after making it if it isn't there.

    Its name is the bank's SHA-256. One process unpacks at a time, and others wait for it. Raises OSError, and
    BankFormatError for a bank that is damaged.
    """
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    bank = cache / f"{digest}.sf2"
    if _is_whole(bank):
        return bank
    cache.mkdir(parents=True, exist_ok=True)
    from harmonia_lab.locks import held  # noqa: PLC0415 - see the head of this file
    from harmonia_lab.storage import replace  # noqa: PLC0415

    with held(cache / f"{digest}.lock"):
        if not _is_whole(bank):
            part = bank.with_suffix(".part")
            try:
                with _mapped(path) as source, part.open("wb") as target:
                    _write_sf2(source, target)
                    target.flush()
                    os.fsync(target.fileno())
            except BaseException:
                part.unlink(missing_ok=True)
                raise
            replace(part, bank)
    return bank


def _is_whole(bank: Path) -> bool:
    """Return whether the file is there, and as long as its head says."""
    with contextlib.suppress(OSError, struct.error), bank.open("rb") as file:
        return struct.unpack("<4sI", file.read(8)) == (b"RIFF", bank.stat().st_size - 8)
    return False


@contextlib.contextmanager
def _mapped(path: Path) -> Iterator[mmap.mmap]:
    """Map the file into memory: what isn't looked at isn't read."""
    with path.open("rb") as file:
        try:
            data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except ValueError as error:
            raise BankFormatError("it is empty") from error
        with data:
            yield data


def _chunks(data: mmap.mmap) -> dict[bytes, slice]:
    """Return where the content of each chunk lies, by the chunk's name; of a list, by its kind (b"INFO")."""
    if data[:4] != b"RIFF" or data[8:12] != b"sfbk":
        raise BankFormatError("it is no sound bank")
    size = struct.unpack_from("<I", data, 4)[0] + 8
    if size > len(data):
        raise BankFormatError(f"it is cut off: it has {len(data):,} of {size:,} bytes")
    found: dict[bytes, slice] = {}
    for name, part in _walk(data, slice(12, size)):
        if name == b"LIST":
            inside = slice(part.start + 4, part.stop)
            found[data[part.start : part.start + 4]] = inside
            found.update(_walk(data, inside))
    for name in (b"INFO", b"ifil", b"smpl", b"pdta", b"shdr"):
        if name not in found:
            raise BankFormatError(f"it has no chunk {name.decode()}")
    return found


def _walk(data: mmap.mmap, where: slice) -> Iterator[tuple[bytes, slice]]:
    """Yield the chunks in a part of the file: name and place of the content."""
    start = where.start
    while start + 8 <= where.stop:
        name, size = struct.unpack_from("<4sI", data, start)
        if start + 8 + size > where.stop:
            raise BankFormatError(f"its chunk {name.decode('latin-1')!r} is longer than the list that contains it")
        yield name, slice(start + 8, start + 8 + size)
        start += 8 + size
        start += size % 2 and data[start : start + 1] == b"\0"  # not all programs write the byte after an odd chunk


def _samples(data: mmap.mmap, chunks: dict[bytes, slice]) -> list[_Sample]:
    """Return the samples' records, with the terminal one."""
    content = data[chunks[b"shdr"]]
    return [_Sample(*fields) for fields in _RECORD.iter_unpack(content[: len(content) // _RECORD.size * _RECORD.size])]


def _write_sf2(data: mmap.mmap, target: BinaryIO) -> None:
    """Write the bank with samples of 16 bits. All else stays, but for the version and the samples' records."""
    chunks = _chunks(data)
    target.write(b"RIFF\0\0\0\0sfbk")
    _write_list(target, b"INFO", data, chunks, {b"ifil": struct.pack("<HH", 2, 4)})
    target.write(b"LIST\0\0\0\0sdtasmpl\0\0\0\0")
    begin = target.tell()
    records = b""
    for number, sample in enumerate(_samples(data, chunks)):
        sound = _sound(data, chunks[b"smpl"], number, sample)
        records += _RECORD.pack(*_moved(sample, (target.tell() - begin) // 2, len(sound) // 2))
        target.write(sound + bytes(2 * _PADDING) * bool(sound))
    length = target.tell() - begin
    _write_list(target, b"pdta", data, chunks, {b"shdr": records})
    for at, size in ((4, target.tell() - 8), (begin - 16, length + 12), (begin - 4, length)):
        target.seek(at)
        target.write(struct.pack("<I", size))


def _write_list(
    target: BinaryIO, kind: bytes, data: mmap.mmap, chunks: dict[bytes, slice], changed: dict[bytes, bytes]
) -> None:
    """Write a list with all its chunks; `changed` has new content by name. Texts get an even length."""
    content = kind
    for name, where in _walk(data, chunks[kind]):
        part = changed.get(name, data[where])
        part += bytes(len(part) % 2)
        content += name + struct.pack("<I", len(part)) + part
    target.write(b"LIST" + struct.pack("<I", len(content)) + content)


def _moved(sample: _Sample, start: int, length: int) -> _Sample:
    """Return the record for a sound that begins at sample `start` of the new bank; a loop beyond its end is cut."""
    if not length:
        return sample._replace(start=0, end=0, loop_start=0, loop_end=0, kind=sample.kind & ~_COMPRESSED)
    base = 0 if sample.compressed else sample.start
    loop_start, loop_end = (start + min(max(loop - base, 0), length) for loop in (sample.loop_start, sample.loop_end))
    return sample._replace(
        start=start, end=start + length, loop_start=loop_start, loop_end=loop_end, kind=sample.kind & ~_COMPRESSED
    )


def _sound(data: mmap.mmap, smpl: slice, number: int, sample: _Sample) -> bytes:
    """Return the sample's sound as 16-bit little-endian PCM. Raises BankFormatError."""
    import numpy as np  # noqa: PLC0415 - see the head of this file
    import soundfile  # noqa: PLC0415

    if sample.end <= sample.start:
        return b""
    width = 1 if sample.compressed else 2  # bytes that start and end count
    start, end = smpl.start + width * sample.start, smpl.start + width * sample.end
    name = sample.name.split(b"\0")[0].decode("latin-1")
    if end > smpl.stop:
        raise BankFormatError(f"its sample {name!r} (number {number}) lies beyond the end of the samples")
    if not sample.compressed:
        return data[start:end]
    try:
        with soundfile.SoundFile(io.BytesIO(data[start:end])) as file:
            promised, sound = file.frames, file.read(dtype="float32", always_2d=True)
    except soundfile.LibsndfileError as error:
        raise BankFormatError(f"its sample {name!r} (number {number}) is damaged: {error.error_string}") from error
    if len(sound) != promised or sound.shape[1] != 1:
        found = f"{len(sound)} of {promised} values in {sound.shape[1]} channels"
        raise BankFormatError(f"its sample {name!r} (number {number}) is damaged: it has {found}")
    return bytes(np.rint(np.clip(sound[:, 0] * 32768, -32768, 32767)).astype("<i2"))
