"""The sketch engine's child process: loads a sound bank once, then renders MIDI files until its stdin closes.

Owns this loop (not the start and stop of the process, which are in `engine.py`). Rendering needs a process because
`midirenderer` holds the interpreter lock for seconds, and because a process can be stopped at any time. It imports only
the standard library and `midirenderer`, so that it starts in 50 ms. FluidSynth is a program that it runs for each part.

Frames in both directions: a 4-byte little-endian length, then that many bytes. Request: a MIDI file. Answer: the byte
`+` and a WAV file (48 kHz, stereo, 16 bit), or the byte `-` and an error message in UTF-8. The process sends one answer
before any request: `+` once the bank is loaded. An SF3 bank is unpacked first, here and not in the parent, because that
takes seconds.
"""

from __future__ import annotations

import signal
import struct
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import BinaryIO

_SILENT_MIDI = b"MThd\0\0\0\6\0\0\0\1\1\xe0MTrk\0\0\0\4\0\xff\x2f\0"
"""An empty MIDI file: rendering it makes `midirenderer` load the whole bank."""


GAIN = "0.5"
"""FluidSynth's gain, with which its sound is as loud as midirenderer's within a decibel or two."""


def main(bank_path: str, requests: BinaryIO, answers: BinaryIO, cache: str = "", fluidsynth: str = "") -> None:
    """cache: the folder of unpacked banks, for an SF3 bank; else "". fluidsynth: the program; "" for midirenderer."""
    # Ctrl-C, and the end of a terminal, reach every process of the terminal, but only the parent may end this one.
    for name in ("SIGINT", "SIGHUP", "SIGBREAK"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)

    def send(mark: bytes, payload: bytes) -> None:
        answers.write(struct.pack("<I", len(payload) + 1) + mark)
        answers.write(payload)
        answers.flush()

    try:
        bank = _unpacked(bank_path, cache) if cache else Path(bank_path)
        render = partial(_by_fluidsynth, fluidsynth, bank) if fluidsynth else _by_midirenderer(bank.read_bytes())
    except Exception as error:  # noqa: BLE001 - whatever it is, the parent reports it
        send(b"-", str(error).encode())
        return

    def answer(midi: bytes) -> None:
        try:
            mark, payload = b"+", render(midi)
        except BaseException as error:  # noqa: BLE001 - a panic in the Rust code is a BaseException
            mark, payload = b"-", f"{type(error).__name__}: {error}".encode()
        send(mark, payload)

    answer(_SILENT_MIDI)
    while len(head := requests.read(4)) == 4:
        answer(requests.read(struct.unpack("<I", head)[0]))


def _by_midirenderer(bank: bytes) -> Callable[[bytes], bytes]:
    import midirenderer  # noqa: PLC0415 - the parent process reports a missing wheel

    return partial(midirenderer.render_wave_from, bank)


def _by_fluidsynth(program: str, bank: Path, midi: bytes) -> bytes:
    """Return the sound as `midirenderer` does: 48 kHz, stereo, 16 bit, without reverb and chorus."""
    if midi[:4] != b"MThd":
        raise ValueError("no MIDI file")  # which FluidSynth would play as silence
    with tempfile.TemporaryDirectory(prefix="harmonia-part-") as folder:
        notes, sound = Path(folder, "part.mid"), Path(folder, "part.wav")
        notes.write_bytes(midi)
        form = ["-r", "48000", "-T", "wav", "-O", "s16", "-F", str(sound)]
        command = [program, "-n", "-i", "-q", "-R", "0", "-C", "0", "-g", GAIN, *form, str(bank), str(notes)]
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False)
        said = done.stderr.decode(errors="replace").strip().splitlines()
        faults = [line for line in said if "error" in line.lower()]
        if done.returncode or faults or not sound.is_file():
            raise RuntimeError((faults or said or [f"it ended with status {done.returncode}"])[0])
        return sound.read_bytes()


def _unpacked(bank_path: str, cache: str) -> Path:
    from harmonia_lab.audio_engines.sketch.sf3 import unpacked  # noqa: PLC0415 - needed for SF3 banks alone

    return unpacked(Path(bank_path), Path(cache))


if __name__ == "__main__":
    main(sys.argv[1], sys.stdin.buffer, sys.stdout.buffer, *sys.argv[2:])
