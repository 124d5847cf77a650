"""The sound of one stem, decoded piece by piece from its codes, with crossfades between sections and an ending.

Owns what is decoded, what may be heard already, and the finished stem. Where a crossfade is, `seams.py` decides.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from harmonia_lab.audio_engines.musicgen.joins import crossfade, ends_by_itself, fade_out

if TYPE_CHECKING:
    from torch import Tensor

    from harmonia_lab.audio_engines.musicgen.models import LoadedModel

__all__ = ["PIECE", "StemSound"]

PIECE = 25
"""Frames (0.5 s) that are decoded to sound at once. It is a preview's length, and a cancel waits for one piece."""

Audio: TypeAlias = NDArray[np.float32]  # [channels, samples]


class _Crossfade(NamedTuple):
    """old: what goes on, from sample `first` of the piece. begin, end: samples of the crossfade."""

    old: Audio
    first: int
    begin: int
    end: int


class StemSound:
    """frames: decoded so far. on_piece(start, audio) gets each piece of sound that is settled, `start` in samples.

    seconds: of the piece. fade_s: of its end, which is faded out unless the sound ends by itself; 0: it stays as it is.
    """

    def __init__(
        self, model: LoadedModel, seconds: float, on_piece: Callable[[int, Audio], None], *, fade_s: float = 0.0
    ) -> None:
        from harmonia_lab.audio_engines.musicgen.encodec_stream import CodecStream  # noqa: PLC0415

        self._stream = CodecStream(model.musicgen.compression_model)
        self.sample_rate, self._device = self._stream.sample_rate, model.codec_device
        self._per_frame = round(self.sample_rate / model.frame_rate)
        self._on_piece = on_piece
        self._length = round(seconds * self.sample_rate)
        self._fade = round(fade_s * self.sample_rate)
        self._pieces: list[Audio] = []
        self._waiting: list[Audio] = []
        """Decoded, and not settled yet."""
        self._settled = self._decoded = 0  # samples
        self._crossfade: _Crossfade | None = None
        self.frames = 0
        self.ending = ""
        """How the piece ends, if `fade_s` was given; known with the last frames."""

    def push(self, codes: Tensor, *, last: bool) -> None:
        """Decode the next frames, codes [1, K, T]."""
        audio = self._stream.push(codes.to(self._device), last=last)[0].float().cpu().numpy()
        self.frames += codes.shape[-1]
        self._decoded += audio.shape[1]
        self._waiting.append(audio)
        if self._crossfade is not None and (last or self._decoded >= self._crossfade.end):
            self._waiting = [self._mixed(np.concatenate(self._waiting, axis=1), self._crossfade)]
            self._crossfade = None
        if self._crossfade is None:
            self._settle(last=last)

    def preview_of(self, codes: Tensor, poll: Callable[[], None]) -> Audio:
        """Return how it would go on with the next frames, codes [1, K, T], which it doesn't take. poll: may raise."""
        ahead = self._stream.fork()
        pieces = []
        for first in range(0, codes.shape[-1], PIECE):
            poll()
            piece = codes[..., first : first + PIECE].to(self._device)
            pieces.append(ahead.push(piece, last=first + PIECE >= codes.shape[-1])[0].float().cpu().numpy())
        return np.concatenate(pieces, axis=1)

    def recent(self, seconds: float) -> tuple[float, Audio]:
        """Return the last seconds of what is decoded, and the second at which they begin."""
        nothing = np.zeros((self._stream.channels, 0), np.float32)
        audio = np.concatenate([nothing, *self._pieces, *self._waiting], axis=1)
        audio = audio[:, -round(seconds * self.sample_rate) :]
        return (self._decoded - audio.shape[1]) / self.sample_rate, audio

    def begin_crossfade(self, old: Audio, until: int) -> None:
        """Let the frames that come now begin under `old`, the sound of the other frames that were to come.

        until: the frame from which on the coming ones are alone. `old` begins where the decoded samples end.
        """
        # What the decoder's look-ahead holds back lies before the next frame, and stays the old sound.
        self._crossfade = _Crossfade(old, self._decoded, self.frames * self._per_frame, until * self._per_frame)

    def audio(self) -> Audio:
        """Return the piece, when all its frames are decoded."""
        return np.ascontiguousarray(np.concatenate(self._pieces, axis=1)[:, : self._length])

    def _mixed(self, new: Audio, fade: _Crossfade) -> Audio:
        """Return the sound from sample `fade.first` on: the old one, the crossfade, the new one."""
        begin, end = (min(new.shape[1], fade.old.shape[1], at - fade.first) for at in (fade.begin, fade.end))
        between = crossfade(fade.old[:, begin:end], new[:, begin:end])
        return np.concatenate([fade.old[:, :begin], between, new[:, end:]], axis=1)

    def _settle(self, *, last: bool) -> None:
        """Hand out what waits, but for the end, whose fade depends on how it sounds."""
        audio = np.concatenate(self._waiting, axis=1)
        if last and self._fade:
            audio = self._ended(audio)
        ready = audio.shape[1]
        if self._fade and not last:
            ready = max(0, min(ready, self._length - self._fade - self._settled))
        self._waiting = [audio[:, ready:]] if ready < audio.shape[1] else []
        self._pieces.append(audio[:, :ready])
        self._on_piece(self._settled, audio[:, :ready])
        self._settled += ready

    def _ended(self, audio: Audio) -> Audio:
        """Return the last samples of the piece, faded out if the sound doesn't end by itself."""
        end = self._length - self._settled
        if ends_by_itself(np.concatenate([*self._pieces, audio[:, :end]], axis=1), self.sample_rate):
            self.ending = "by itself"
            return audio
        self.ending = f"faded out over {self._fade / self.sample_rate:g} s"
        start = max(0, end - self._fade)
        return np.concatenate([audio[:, :start], fade_out(audio[:, start:end]), audio[:, end:] * 0], axis=1)
