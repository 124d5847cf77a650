"""Reads the bundled sound bank, and writes it as SF3, with Ogg Vorbis samples."""

import importlib.util
import io
import struct
from pathlib import Path

import numpy as np
import soundfile

BANK = Path(importlib.util.find_spec("pretty_midi").origin).parent / "TimGM6mb.sf2"
RECORD = struct.Struct("<20s5IBbHH")


def chunk(name, content):
    return name + struct.pack("<I", len(content)) + content + bytes(len(content) % 2)


def contents(bank=BANK):
    """The contents of a bank's chunks, by name; of a list, by its kind."""
    data, found, at = bank.read_bytes(), {}, 12
    while at + 8 <= len(data):
        name, size = struct.unpack_from("<4sI", data, at)
        if name == b"LIST":
            found[data[at + 8 : at + 12]] = data[at + 12 : at + 8 + size]
            at += 12
        else:
            found[name] = data[at + 8 : at + 8 + size]
            at += 8 + size + size % 2
    return found


def compressed(sound, rate):
    """Ogg Vorbis of int16 samples, at libsndfile's best quality."""
    file = io.BytesIO()
    with soundfile.SoundFile(file, "w", rate, 1, "VORBIS", format="OGG", compression_level=0.0) as out:
        for start in range(0, len(sound), 4096):
            out.write(sound[start : start + 4096])
    return file.getvalue()


def write_sf3(path, first=60):
    """Write the bundled bank as SF3: the first samples (flute, piano, some drums) as Vorbis, the others as they are."""
    parts = contents()
    pcm = np.frombuffer(parts[b"smpl"], "<i2")
    sounds, records = b"", b""
    for number, record in enumerate(RECORD.iter_unpack(parts[b"shdr"])):
        name, start, end, loop_start, loop_end, rate, *rest, kind = record
        begin = len(sounds)
        if end > start and number < first:
            sounds += compressed(pcm[start:end], rate)
            moved, kind = (begin, len(sounds), loop_start - start, loop_end - start), kind | 0x10
            sounds += bytes(len(sounds) % 2)
        elif end > start:
            sounds += pcm[start:end].tobytes()
            moved = tuple(begin // 2 + at - start for at in (start, end, loop_start, loop_end))
        else:
            moved = start, end, loop_start, loop_end
        records += RECORD.pack(name, *moved, rate, *rest, kind)
    info = parts[b"INFO"].replace(parts[b"ifil"], struct.pack("<HH", 3, 0), 1)
    pdta = parts[b"pdta"].replace(parts[b"shdr"], records)
    lists = [b"INFO" + info, b"sdta" + chunk(b"smpl", sounds), b"pdta" + pdta]
    path.write_bytes(chunk(b"RIFF", b"sfbk" + b"".join(chunk(b"LIST", part) for part in lists)))
    return path
