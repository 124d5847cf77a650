"""The sketch engine's child process: loads a sound bank once, then renders MIDI files until its stdin closes.

Owns this loop (not the start and stop of the process, which are in `engine.py`). Rendering needs a process because
`midirenderer` holds the interpreter lock for seconds, and because a process can be stopped at any time. It imports only
the standard library and `midirenderer`, so that it starts in 50 ms.

Frames in both directions: a 4-byte little-endian length, then that many bytes. Request: a MIDI file. Answer: the byte
`+` and a WAV file (48 kHz, stereo, 16 bit), or the byte `-` and an error message in UTF-8. The process sends one answer
before any request: `+` once the bank is loaded. An SF3 bank is unpacked first, here and not in the parent, because that
takes seconds.
"""

from __future__ import annotations

import signal
import struct
import sys
from pathlib import Path
from typing import BinaryIO

_SILENT_MIDI = b"MThd\0\0\0\6\0\0\0\1\1\xe0MTrk\0\0\0\4\0\xff\x2f\0"
"""An empty MIDI file: rendering it makes `midirenderer` load the whole bank."""


def main(bank_path: str, requests: BinaryIO, answers: BinaryIO, cache: str = "") -> None:
    """cache: the folder of unpacked banks, for an SF3 bank; else empty."""
    import midirenderer  # noqa: PLC0415 - the parent process reports a missing wheel

    # Ctrl-C, and the end of a terminal, reach every process of the terminal, but only the parent may end this one.
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)

    def send(mark: bytes, payload: bytes) -> None:
        answers.write(struct.pack("<I", len(payload) + 1) + mark)
        answers.write(payload)
        answers.flush()

    try:
        bank = (_unpacked(bank_path, cache) if cache else Path(bank_path)).read_bytes()
    except Exception as error:  # noqa: BLE001 - whatever it is, the parent reports it
        send(b"-", str(error).encode())
        return

    def answer(midi: bytes) -> None:
        try:
            mark, payload = b"+", midirenderer.render_wave_from(bank, midi)
        except BaseException as error:  # noqa: BLE001 - a panic in the Rust code is a BaseException
            mark, payload = b"-", f"{type(error).__name__}: {error}".encode()
        send(mark, payload)

    answer(_SILENT_MIDI)
    while len(head := requests.read(4)) == 4:
        answer(requests.read(struct.unpack("<I", head)[0]))


def _unpacked(bank_path: str, cache: str) -> Path:
    from harmonia_lab.audio_engines.sketch.sf3 import unpacked  # noqa: PLC0415 - needed for SF3 banks alone

    return unpacked(Path(bank_path), Path(cache))


if __name__ == "__main__":
    main(sys.argv[1], sys.stdin.buffer, sys.stdout.buffer, *sys.argv[2:])
