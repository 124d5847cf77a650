"""audiocraft's codebook pattern: at which step of the interleaved sequence each frame's codes are written.

Owns the way from frames to steps and back. The pattern itself (delayed codebooks) is audiocraft's.
"""

from __future__ import annotations

from bisect import bisect_right
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor

__all__ = ["CodebookPattern"]


class CodebookPattern:
    """The pattern for a window of `frames` frames. Letters in shapes: as in `forward_pass.py`; T frames.

    first_step[t]: the first step with a code of frame t. complete[s]: how many frames are complete after step s.
    """

    def __init__(self, pattern: Any, frames: int, codebooks: int, device: torch.device) -> None:
        at = [[-1] * frames for _ in range(codebooks)]
        self.first_step: dict[int, int] = {}
        for step, places in enumerate(pattern.layout):
            for t, k in places:
                if t < frames:
                    at[k][t] = step
                    self.first_step.setdefault(t, step)
        self.steps = len(pattern.layout)
        # The step after which a frame and all frames before it are complete never decreases from frame to frame.
        completed_at = list(accumulate((max(column) for column in zip(*at, strict=True)), max))
        self.complete = [bisect_right(completed_at, step) for step in range(self.steps)]
        self._at = torch.tensor(at, device=device)  # [K, T]
        self._codebooks = torch.arange(codebooks, device=device)[:, None]  # [K, 1]

    def known_steps(self, rows: int, prompt: Tensor | None, special: int) -> Tensor:
        """Return the tokens that are fixed before decoding, [S, B, K]; -1 where a token is to be sampled.

        prompt: codes [B, K, T] that the window begins with. special: the token of places without a frame.
        """
        known = self._at.new_full((self.steps, rows, len(self._codebooks)), special)
        start = prompt.shape[-1] if prompt is not None else 0
        known[self._at[:, start:], :, self._codebooks] = -1
        if prompt is not None:
            known[self._at[:, :start], :, self._codebooks] = prompt.permute(1, 2, 0)
        return known

    def codes(self, sequence: Tensor, start: int, stop: int) -> Tensor:
        """Return a copy of the codes of frames start … stop - 1: sequence [S, B, K] → [B, K, stop - start]."""
        return sequence[self._at[:, start:stop], :, self._codebooks].permute(2, 0, 1).contiguous()
