"""The cost of previews: decoding a song's sound in pieces while it is generated, compared with once at the end.

Owns that comparison. The engine decodes each frame once, in pieces that serve both the preview and the song. So
previews cost the time by which the pieces take longer than the whole.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from harmonia_lab.audio_engines.musicgen.encodec_stream import CodecStream
from harmonia_lab.audio_engines.musicgen.stem_sound import PIECE
from harmonia_lab.bench.decode_loops import random_codes

__all__ = ["PreviewCost"]

PIECES = 6


class PreviewCost:
    """Decodes the sound of one prompt, PIECES pieces of PIECE frames, both ways in each round."""

    def __init__(self, musicgen: Any) -> None:
        self._codec, self._lm = musicgen.compression_model, musicgen.lm
        self._rate = float(musicgen.frame_rate)
        self._codes = random_codes(self._lm, 1, PIECES * PIECE, seed=3)  # [1, K, T]
        self._whole: list[float] = []
        self._pieces: list[float] = []

    def round(self, *, counts: bool) -> None:
        for decode, seconds in ((self._decode_whole, self._whole), (self._decode_pieces, self._pieces)):
            taken = self._timed(decode)
            if counts:
                seconds.append(taken)

    def figures(self, step_s: list[float], prompts: int) -> dict[str, float]:
        """Return the figures. step_s: the decode loop's seconds per step for `prompts` prompts, round by round.

        whole_s, pieces_s: seconds per second of audio. cost: the pieces' extra time relative to the time of the loop
        and the whole. first_s: seconds of audio generated before the first preview. relative_error: RMS, of the pieces'
        sound.
        """
        frames = PIECES * PIECE
        audio_s = frames / self._rate
        costs = [
            prompts * (pieces - whole) / (prompts * whole + frames * step)
            for whole, pieces, step in zip(self._whole, self._pieces, step_s, strict=True)
        ]
        whole, pieces = self._decode_whole(), self._decode_pieces()
        delay = max(self._lm.pattern_provider.delays)
        return {
            "whole_s": statistics.median(self._whole) / audio_s,
            "pieces_s": statistics.median(self._pieces) / audio_s,
            "cost": statistics.median(costs),
            "first_s": (PIECE + delay) / self._rate,
            "relative_error": float((pieces - whole).square().mean().sqrt() / whole.square().mean().sqrt()),
        }

    def _decode_whole(self) -> Tensor:
        with torch.inference_mode():
            sound: Tensor = self._codec.decode(self._codes)
        return sound

    def _decode_pieces(self) -> Tensor:
        stream, frames = CodecStream(self._codec), self._codes.shape[-1]
        starts = range(0, frames, PIECE)
        return torch.cat([stream.push(self._codes[..., a : a + PIECE], last=a + PIECE == frames) for a in starts], -1)

    def _timed(self, decode: Callable[[], Tensor]) -> float:
        begin = time.perf_counter()
        decode().cpu()  # waits for a GPU
        return time.perf_counter() - begin
