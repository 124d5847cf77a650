"""Renders one song with MusicGen, one batch of prompts after another: tokens, sound, progress.

Owns the order of the steps of a rendering, and its progress reports. `engine.py` decides which attempts are made.
Tokens come from `decoder.py` by way of `windows.py` or `section_windows.py`, sound from `encodec_stream.py` by way of
`stem_sound.py`; what a window is given is in `song_conditions.py`.

A mix is reported as one stem of one. The stems of a batch are made together, and reported under their joined names:
half a second of tokens at a time, then its sound, which is a preview. Each stem is counted and reported as finished
when its last piece is decoded. With several candidates of a stem there are no previews, since most of them would not be
of the song.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from harmonia_lab.audio_engines.musicgen.candidates import Selection
from harmonia_lab.audio_engines.musicgen.memory import Effort, available_bytes, out_of_memory
from harmonia_lab.audio_engines.musicgen.models import LoadedModel
from harmonia_lab.audio_engines.musicgen.plan_sections import PromptedSection
from harmonia_lab.audio_engines.musicgen.settings import Settings
from harmonia_lab.audio_engines.musicgen.song_conditions import (
    SongGuidance,
    continued_codes,
    guidance_of,
    sections_of,
    window_conditions,
)
from harmonia_lab.audio_engines.musicgen.stem_sound import PIECE, StemSound
from harmonia_lab.audio_engines.musicgen.takes import Take, asked_of, candidate_rows
from harmonia_lab.engines.base import AudioProgress, CancelToken, Preview, Stem
from harmonia_lab.errors import HarmoniaError
from harmonia_lab.music.plan import Plan

if TYPE_CHECKING:
    from torch import Tensor

    from harmonia_lab.audio_engines.musicgen.decoder import StepView
    from harmonia_lab.audio_engines.musicgen.seams import Seams

__all__ = ["NO_COMMON_BEAT", "WINDOW_S", "Rendering"]

WINDOW_S = 30.0
"""Seconds of audio that the released models were trained on, and the most that they generate at once."""

FADE_S = 3.0
"""Length of the fade-out of a song made by sections that doesn't end by itself; at most half of its ending."""

CANDIDATES_AT_ONCE = 4
"""Most candidates of a mix that are generated together: four take about 1.6 times as long as one."""

NO_COMMON_BEAT = (
    "Each stem is generated alone, from words: without the plan's chroma, which a melody model follows, stems share no "
    "beat. arrangement=full makes one mix."
)

DECODING_COST = 0.2
"""Cost of decoding a frame to sound, in steps of the decode loop (musicgen-small on 2 cores). For progress only."""

REPORT_S = 0.05
"""Least seconds between two progress reports. A small model takes thousands of steps a second."""


class Rendering:
    """One song while it is rendered.

    rows: what is generated, each candidate of each take; done: the keys of those that are. stems: the finished ones, by
    name. record: its part of `run.json`.
    """

    def __init__(
        self,
        takes: list[Take],
        plan: Plan,
        settings: Settings,
        *,
        progress: Callable[[AudioProgress], None],
        cancel: CancelToken,
        finished: Mapping[str, Stem],
    ) -> None:
        self.takes, self.plan, self.settings, self.cancel = takes, plan, settings, cancel
        self.rows = candidate_rows(takes, settings.best_of)
        self.done: set[str] = set()
        self.stems: dict[str, Stem] = {}
        self.record: dict[str, Any] = {"prompts": {take.name: take.prompt for take in takes}, "recovered": []}
        self._selections = {take.name: Selection(take.name, asked_of(take, plan, settings)) for take in takes}
        self._progress = progress
        self._fraction = 0.0
        self._started = time.perf_counter()
        self._first_audio_s: float | None = None
        self._steps, self._steps_s = 0, 0.0
        self._sections: list[PromptedSection] = []
        self._guidance = SongGuidance({}, "none")
        self._reported_at = 0.0
        self._rendered, self._rendering_s = 0, 0.0
        for row in self.rows:
            if row.key in finished:
                self._keep(row, finished[row.key], {})

    def report(
        self,
        status: str,
        *,
        instrument: str | None = None,
        failure: HarmoniaError | None = None,
        figures: Mapping[str, float] | None = None,
        preview: Preview | None = None,
        finished: Stem | None = None,
    ) -> None:
        if finished is None:  # what is finished is kept, after a cancel too
            self.cancel.raise_if_cancelled()
        self._reported_at = time.perf_counter()
        completed = sum(all(row.key in self.done for row in self.rows if row.name == take.name) for take in self.takes)
        fraction, counts = 1.0 if figures else self._fraction, (completed, len(self.takes))
        self._progress(AudioProgress(fraction, status, instrument, *counts, failure, figures or {}, preview, finished))

    def try_again(self, effort: Effort, failure: HarmoniaError) -> None:
        """Record and report an attempt that follows `failure`."""
        self.record["recovered"].append(effort.action)
        self.report(effort.action, failure=failure)

    def figures(self) -> dict[str, float]:
        """Return columns of the run log."""
        figures = {"steps_per_second": round(self._steps / self._steps_s, 3)} if self._steps_s else {}
        if self._first_audio_s is not None:
            figures["time_to_first_audio_s"] = round(self._first_audio_s, 6)
        return figures

    def loaded(self, model: LoadedModel, effort: Effort) -> None:
        """Check the settings against the model, prepare what guides it, and record the attempt."""
        from harmonia_lab.audio_engines.musicgen.sampling import Sampling  # noqa: PLC0415

        settings = self.settings
        Sampling(settings.use_sampling, settings.temperature, settings.top_k, settings.top_p).check(
            model.musicgen.lm.card
        )
        frames, window = self._frames(model, effort)
        self._sections = sections_of(self.plan, settings, min(WINDOW_S, float(model.musicgen.max_duration)))
        self._guidance = guidance_of(
            model, self.takes, self.plan, settings, frames=frames, window=window, by_section=bool(self._sections)
        )
        self.record |= {"windowSeconds": effort.window_s, "batch": effort.batch, "ranOn": str(model.device)}
        self.record["guidance"] = self._guidance.source
        if self._guidance.of_the_plan:
            self.record["chroma"] = self._guidance.of_the_plan
        if self._sections:
            self.record |= {"prompts": {}, "sections": [section.to_json() for section in self._sections]}
        if len(self.takes) > 1 and not self._guidance.guides and "warnings" not in self.record:
            self.record["warnings"] = [NO_COMMON_BEAT]
            self.report(NO_COMMON_BEAT)

    @property
    def most_at_once(self) -> int:
        """The rows that one batch may have, where memory allows it."""
        return min(len(self.rows), max(len(self.takes), CANDIDATES_AT_ONCE))

    def batch(self, model: LoadedModel, effort: Effort) -> int:
        """Return how many rows to generate at once. There are more than takes, candidates too, only if they fit."""
        # audiocraft's own loop draws all rows from one stream and pads them to the longest; and where the sections of
        # one candidate meet, those of another don't.
        if model.decoder.running == "reference" or self._sections:
            return 1
        if effort.batch <= len(self.takes):
            return effort.batch
        frames, window = self._frames(model, effort)
        room = available_bytes(model.device) + model.decoder.cached_bytes
        fitting = int(room // model.cache_bytes(1, min(frames, window)))
        return max(len(self.takes), min(effort.batch, fitting))

    def generate(self, model: LoadedModel, takes: list[Take], effort: Effort) -> None:
        """Make tokens and sound for one batch of rows."""
        frames, window = self._frames(model, effort)
        self._require_memory(model, len(takes), min(frames, window))
        names = ", ".join(dict.fromkeys(take.name for take in takes))
        fade_s = min(FADE_S, self._sections[-1].seconds / 2) if self._sections else 0.0
        sounds = [StemSound(model, self.plan.seconds, self._previews(model, take), fade_s=fade_s) for take in takes]
        seams = self._seams(model, sounds[0], frames, window) if self._sections else None
        share = len(takes) / len(self.rows)
        before = len(self.done) / len(self.rows)
        decoding = DECODING_COST * len(takes) * frames
        status = self._status(takes)

        def advance(steps: int, of: int) -> None:
            done = steps + DECODING_COST * sum(sound.frames for sound in sounds)
            self._fraction = max(self._fraction, min(1.0, before + share * done / (of + decoding)))

        from torch.cuda import current_stream  # noqa: PLC0415

        total, decoding_s = 1, 0.0

        def on_step(view: StepView) -> None:
            nonlocal total, decoding_s
            self.cancel.raise_if_cancelled()
            total = view.total
            known = view.frames if seams is None else min(view.frames, seams.settled)
            # audiocraft's own loop exposes no codes before its end.
            while model.decoder.running != "reference" and known - sounds[0].frames >= PIECE:
                codes = view.codes(sounds[0].frames, sounds[0].frames + PIECE)
                if codes.is_cuda:  # wait for the launched steps, whose time is not that of decoding the sound
                    current_stream(codes.device).synchronize()
                begun = time.perf_counter()
                for row, sound in enumerate(sounds):
                    self.cancel.raise_if_cancelled()
                    sound.push(codes[row : row + 1], last=sound.frames + PIECE >= frames)
                decoding_s += time.perf_counter() - begun
            advance(view.done, view.total)
            if time.perf_counter() - self._reported_at >= REPORT_S:
                self.report(status, instrument=names)

        self.report(status, instrument=names)
        begun = time.perf_counter()
        codes = self._tokens(model, takes, frames, window, seams, on_step)
        decoding_s += seams.listened_s if seams is not None else 0.0
        self._steps, self._steps_s = self._steps + total, self._steps_s + time.perf_counter() - begun - decoding_s
        for row, (take, sound) in enumerate(zip(takes, sounds, strict=True)):
            while sound.frames < frames:
                self.cancel.raise_if_cancelled()
                piece = codes[row : row + 1, :, sound.frames : sound.frames + PIECE]
                sound.push(piece, last=sound.frames + PIECE >= frames)
                advance(total, total)
                self.report("Decoding...", instrument=take.name)
            stem = Stem(take.key, take.role, sound.audio(), sound.sample_rate)
            heard = {} if seams is None else {"joins": [join.to_json() for join in seams.joins], "ending": sound.ending}
            self._keep(take, stem, heard)
            self.report("Rendered", finished=stem)
        self._rendered, self._rendering_s = self._rendered + len(takes), self._rendering_s + time.perf_counter() - begun

    def choose(self, model: LoadedModel) -> None:
        """Choose among the candidates, when all are done. Raise AudioError if no candidate of a take can be heard."""
        if self.settings.best_of == 1:
            return
        each_s = round(self._rendering_s / self._rendered, 3) if self._rendered else None
        chosen = {name: selection.record() for name, selection in self._selections.items()}
        self.record |= {"candidates": chosen, "secondsPerCandidate": each_s}
        precision = model.decoder.precision
        self.stems = {name: selection.best(precision) for name, selection in self._selections.items()}

    def _keep(self, row: Take, stem: Stem, heard: Mapping[str, Any]) -> None:
        """Take a row as done. heard: what the record says of its sound, if it is the song's."""
        if not row.candidate:
            self.stems[row.name] = stem
            self.record |= heard
        elif self._selections[row.name].add(row.candidate, row.seed, stem, self.cancel):
            self.record |= heard
        self.done.add(row.key)

    def _status(self, rows: list[Take]) -> str:
        """Return what is being generated: of several candidates which ones, and how long all that are left take."""
        of = self.settings.best_of
        if of == 1:
            return "Generating..."
        first, last = rows[0].candidate, rows[-1].candidate
        which = f"candidate {first}" if first == last else f"candidates {first} to {last}"
        left_s = self._rendering_s / self._rendered * (len(self.rows) - len(self.done)) if self._rendered else 0.0
        return f"Generating {which} of {of}{f', about {left_s:.0f} s left' if left_s else ''}..."

    def _tokens(
        self,
        model: LoadedModel,
        takes: list[Take],
        frames: int,
        window: int,
        seams: Seams | None,
        on_step: Callable[[StepView], None],
    ) -> Tensor:
        """Return the batch's codes, [B, K, frames]."""
        import torch  # noqa: PLC0415

        from harmonia_lab.audio_engines.musicgen.conditions import guided_by  # noqa: PLC0415
        from harmonia_lab.audio_engines.musicgen.section_windows import generate_sections  # noqa: PLC0415
        from harmonia_lab.audio_engines.musicgen.windows import generate_windows  # noqa: PLC0415

        settings = self.settings
        prompt = continued_codes(model, self.plan, settings, frames=frames, window=window)
        if prompt is not None:
            self.record["continuedSeconds"] = prompt.shape[-1] / model.frame_rate
        how: dict[str, Any] = {
            "window": window,
            "stride": max(1, min(window - 1, round(window * settings.extend_stride / WINDOW_S))),
            "prompt": prompt,
            "on_step": on_step,
            "generators": [torch.Generator(model.device).manual_seed(take.seed) for take in takes],
            "use_sampling": settings.use_sampling,
            "temp": settings.temperature,
            "top_k": settings.top_k,
            "top_p": settings.top_p,
            "cfg_coef": settings.cfg_coef,
            "two_step_cfg": settings.two_step_cfg,
        }
        # Our own loop sets its precision itself.
        autocast = model.musicgen.autocast if model.decoder.running == "reference" else nullcontext()
        conditions = window_conditions(model, takes, self._guidance, settings.negative_prompt)
        coefficient = guided_by(model.musicgen.lm, settings.cfg_coef)
        with conditions as conditions_at, coefficient, autocast, torch.no_grad():
            if seams is None:
                return generate_windows(model.decoder, lambda start: conditions_at(start, None), frames=frames, **how)
            ends = [round(section.end * model.frame_rate) for section in self._sections[:-1]]
            return generate_sections(
                model.decoder,
                [*ends, frames],
                lambda start, section: conditions_at(start, self._sections[section]),
                seams,
                **how,
            )

    def _seams(self, model: LoadedModel, sound: StemSound, frames: int, window: int) -> Seams:
        from harmonia_lab.audio_engines.musicgen.seams import Seams  # noqa: PLC0415
        from harmonia_lab.audio_engines.musicgen.section_windows import margins_of  # noqa: PLC0415

        return Seams(sound, margins_of(window, model.frame_rate), model.frame_rate, frames, self.cancel)

    def _frames(self, model: LoadedModel, effort: Effort) -> tuple[int, int]:
        """Return the frames of the song, and those of the model's window."""
        rate = model.frame_rate
        window = min(round(effort.window_s * rate), round(model.musicgen.max_duration * rate))
        return math.ceil(self.plan.seconds * rate), window

    def _require_memory(self, model: LoadedModel, prompts: int, frames: int) -> None:
        # Checked before anything is allocated: a system that overcommits memory kills the process instead of refusing.
        needed = model.cache_bytes(prompts, frames)
        available = available_bytes(model.device) + model.decoder.cached_bytes
        if needed > available:
            raise out_of_memory(
                f"{prompts} prompts at once need {needed / 2**30:.1f} GiB, and {available / 2**30:.1f} GiB are free.",
                needed_bytes=needed,
                available_bytes=available,
            )

    def _previews(self, model: LoadedModel, row: Take) -> Callable[[int, NDArray[np.float32]], None]:
        """Return what reports a row's sound: the sound of a candidate is none of the song's until it is chosen."""

        def report(start: int, audio: NDArray[np.float32]) -> None:
            if row.candidate or not audio.shape[1]:
                return
            if self._first_audio_s is None:
                self._first_audio_s = time.perf_counter() - self._started
            preview = Preview(row.name, start, audio, model.sample_rate)
            self.report("Generating...", instrument=row.name, preview=preview)

        return report
