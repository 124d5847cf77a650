"""The sketch engine: renders a plan offline with a General MIDI sound bank, one instrument after another.

Owns the choice of the sound bank, and the child process that renders (`renderer.py` says why it is a process). The
notes come from the plan (`music/plan.py`); `sf3.py` unpacks compressed banks; mixing is in `audio_engines/mixing/`.
"""

from __future__ import annotations

import importlib.util
import io
import os
import struct
import threading
import wave
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from harmonia_lab.audio_engines.sketch.renderers import find_renderer
from harmonia_lab.audio_engines.sketch.sf3 import BankFormatError, is_compressed
from harmonia_lab.child_process import ChildProcess, python_command
from harmonia_lab.engines.base import AudioProgress, CancelToken, Remedy, Stem
from harmonia_lab.errors import AudioError, ErrorCode, HarmoniaError
from harmonia_lab.music.midi import part_to_midi
from harmonia_lab.music.plan import Part, Plan
from harmonia_lab.protocol.sound import Followed
from harmonia_lab.storage import absolute, cached_digest, home_folder

__all__ = ["SAMPLE_RATE", "SketchEngine"]

SAMPLE_RATE = 48_000
"""Hz. The renderer has no other rate."""

_BUNDLED = ("TimGM6mb.sf2", "GPL-2.0 (TimGM6mb by Tim Brechbill, as shipped inside pretty_midi)")


class SketchEngine:
    """An `AudioEngine` that plays the plan's notes with a sound bank.

    soundfont: an SF2 or SF3 file; by default the one that HARMONIA_SOUNDFONT names, or else TimGM6mb. An SF3 file is
    unpacked when it is first used, into the folder `sound-banks` of `HARMONIA_HOME`. Raises AudioError
    (AUDIO_UNAVAILABLE) where the renderer or the sound bank is missing, or the bank is no such file. One thread renders
    at a time; `close` and a cancel may come from any thread.
    """

    name = "sketch"
    uses_gpu = False
    follows: frozenset[Followed] = frozenset({"notes"})

    def __init__(self, soundfont: Path | None = None) -> None:
        self._renderer = find_renderer()
        self._soundfont = soundfont
        self._bank, self._licence, compressed = _find_bank(soundfont)
        self._cache = home_folder() / "sound-banks" if compressed else None
        self._child: _Renderer | None = None
        self._lock = threading.Lock()

    def prepare(self) -> None:
        """Start the child, which loads the bank while stage 1 runs. Return at once."""
        self._started()

    def render(
        self,
        parts: Sequence[Part],
        plan: Plan,
        seeds: Mapping[str, int],  # noqa: ARG002 - the notes are chosen; rendering them draws no random numbers
        progress: Callable[[AudioProgress], None],
        cancel: CancelToken,
        finished: Mapping[str, Stem],  # noqa: ARG002 - a part takes 0.2 s, so none is kept for another attempt
    ) -> list[Stem]:
        """Return one stem per part, float32 [2, round(plan.seconds * 48000)].

        Raises AudioError (AUDIO_UNAVAILABLE where the bank can't be read, else AUDIO_ERROR), or Cancelled.
        """
        samples = round(plan.seconds * SAMPLE_RATE)
        stems: list[Stem] = []
        with cancel.on_cancel(self._stop):
            progress(AudioProgress(0.0, "Loading the sound bank"))
            cancel.raise_if_cancelled()
            child = self._started()
            try:
                child.wait_until_loaded()
                for index, part in enumerate(parts):
                    cancel.raise_if_cancelled()
                    progress(AudioProgress(index / len(parts), f"Rendering {part.name}", part.name, index))
                    wav = child.render(part_to_midi(plan, part))
                    stems.append(Stem(part.name, part.instrument.role, _decode(wav, samples), SAMPLE_RATE))
            except (OSError, EOFError, wave.Error, _RendererError) as error:
                self._stop()
                child.kill()
                cancel.raise_if_cancelled()
                raise self._failure(error) from error
        cancel.raise_if_cancelled()
        progress(AudioProgress(1.0, "Rendered", None, len(parts)))
        return stems

    def identity(self) -> dict[str, Any]:
        """Return engine, renderer and its version, and the bank: name, size in bytes, SHA-256, licence."""
        return {
            "engine": self.name,
            "renderer": self._renderer.name,
            "model": self._bank.name,
            "bytes": self._bank.stat().st_size,
            "sha256": cached_digest(self._bank),
            "licence": self._licence,
        }

    def record(self) -> dict[str, Any]:
        """Return `identity`: a sound bank leaves nothing to a song."""
        return self.identity()

    def process_ids(self) -> Sequence[int]:
        """Return the id of the renderer's process, if it runs."""
        child = self._child
        return [child.pid] if child is not None and child.running else []

    def recover(self, error: HarmoniaError, attempt: int, cancel: CancelToken) -> Remedy | None:
        """End the renderer after a failure of stage 2, whatever failed; the next rendering starts another."""
        del attempt, cancel
        if error.code != ErrorCode.AUDIO_ERROR:
            return None
        self._stop()
        return Remedy("restart", "Starting the renderer again...")

    def fresh(self) -> SketchEngine:
        """Return an engine with the same bank. This one's renderer is ended, which frees a thread that waits for it."""
        threading.Thread(target=self._stop, name="harmonia-end-renderer", daemon=True).start()
        return SketchEngine(self._soundfont)

    def close(self) -> None:
        self._stop()

    def _started(self) -> _Renderer:
        """Return the child, after starting it if it does not run."""
        with self._lock:
            if self._child is None or not self._child.running:
                if self._child is not None:
                    self._child.kill()
                self._child = _Renderer(self._bank, self._cache, self._renderer.program)
            return self._child

    def _stop(self) -> None:
        with self._lock:
            child, self._child = self._child, None
        if child is not None:
            child.kill()

    def _failure(self, error: Exception) -> AudioError:
        if isinstance(error, _BankError):
            return _unavailable(f"The sound bank {self._bank} cannot be read: {error}.", _CHOOSE_BANK)
        return AudioError(f"The renderer failed: {error}.", hint="Try again; `harmonia doctor` checks the engine.")


_CHOOSE_BANK = (
    "Set HARMONIA_SOUNDFONT to a General MIDI sound bank (an .sf2 or .sf3 file), or unset it to use the bundled one."
)


def _unavailable(message: str, hint: str) -> AudioError:
    return AudioError(message, code=ErrorCode.AUDIO_UNAVAILABLE, hint=hint)


def _find_bank(soundfont: Path | None) -> tuple[Path, str, bool]:
    """Return the bank, its licence, and whether it is compressed (SF3). Only the heads of its chunks are read.

    Raises AudioError (AUDIO_UNAVAILABLE).
    """
    chosen = soundfont or (Path(os.environ["HARMONIA_SOUNDFONT"]) if os.environ.get("HARMONIA_SOUNDFONT") else None)
    if chosen is None:
        name, licence = _BUNDLED
        spec = importlib.util.find_spec("pretty_midi")
        bank = Path(spec.origin).parent / name if spec and spec.origin else None
        if bank is None or not bank.is_file():
            raise _unavailable(
                f"The sound bank {name} is missing; it comes with pretty_midi.",
                "Install the package pretty_midi: `harmonia doctor` has the command.",
            )
        return bank, licence, False
    bank = absolute(chosen)
    try:
        compressed = is_compressed(bank)
    except OSError as error:
        message = f"The sound bank {bank} cannot be opened: {error.strerror or error}."
        raise _unavailable(message, _CHOOSE_BANK) from error
    except BankFormatError as error:
        raise _unavailable(f"{bank} is no SF2 or SF3 sound bank that can be used: {error}.", _CHOOSE_BANK) from error
    return bank, "the user's own sound bank, licence not known", compressed


class _RendererError(Exception):
    """The child answered with an error, or ended."""


class _BankError(_RendererError):
    """The child could not load the bank."""


class _Renderer:
    """The child process. `renderer.py` describes the frames that it reads and writes."""

    def __init__(self, bank: Path, cache: Path | None, fluidsynth: str) -> None:
        arguments = [str(bank), str(cache or ""), fluidsynth]
        command = python_command("harmonia_lab.audio_engines.sketch.renderer", *arguments)
        self._process = ChildProcess(command, new_session=bool(fluidsynth))  # which is a process that it starts
        self._pipes_lock = threading.Lock()
        self._loaded = False

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process.running

    def wait_until_loaded(self) -> None:
        with self._pipes_lock:
            if not self._loaded:
                try:
                    self._answer()
                except _RendererError as error:
                    raise _BankError(str(error)) from error
                self._loaded = True

    def render(self, midi: bytes) -> bytes:
        """Return WAV bytes: 48 kHz, stereo, 16 bit. Raises OSError, _RendererError."""
        with self._pipes_lock:
            requests = _open(self._process.stdin)
            requests.write(struct.pack("<I", len(midi)) + midi)
            requests.flush()
            return self._answer()

    def _answer(self) -> bytes:
        answers = _open(self._process.stdout)
        head = answers.read(5)
        length = struct.unpack("<I", head[:4])[0] - 1 if len(head) == 5 else -1
        payload = answers.read(length) if length >= 0 else b""
        if len(payload) != length:
            raise _RendererError(self._exit_reason())
        if head[4:] != b"+":
            raise _RendererError(payload.decode(errors="replace"))
        return payload

    def _exit_reason(self) -> str:
        self._process.kill()
        return self._process.last_lines(1) or f"it ended with status {self._process.wait()}"

    def kill(self) -> None:
        """Kill the process, from any thread, any number of times. A thread that waits for an answer gets an error.

        The last thread closes the pipes: to close one that another thread reads would block or raise.
        """
        self._process.kill()
        if self._pipes_lock.acquire(blocking=False):
            try:
                self._process.close()
            finally:
                self._pipes_lock.release()


def _open(pipe: IO[bytes]) -> IO[bytes]:
    if pipe.closed:
        raise _RendererError("it was stopped")
    return pipe


def _decode(wav: bytes, samples: int) -> NDArray[np.float32]:
    """Return 16-bit stereo WAV bytes as float32 [2, samples]: padded with silence if shorter, cut if longer.

    Raises EOFError, wave.Error, and _RendererError for another format.
    """
    with wave.open(io.BytesIO(wav)) as file:
        if file.getparams()[:3] != (2, 2, SAMPLE_RATE):
            raise _RendererError("it sent another sample format than 16-bit stereo at 48 kHz")
        pcm = np.frombuffer(file.readframes(samples), np.int16).reshape(-1, 2)
    audio = np.zeros((2, samples), np.float32)
    for channel in range(2):  # one channel at a time is eight times as fast as a transposed copy
        audio[channel, : len(pcm)] = pcm[:, channel]
    audio *= np.float32(1 / 32768)
    return audio
