"""Renders one song with MusicGen, one batch of prompts after another: tokens, sound, progress.

Owns the order of the steps of a rendering, and its progress reports. `engine.py` decides which attempts are made.
Tokens come from `decoder.py` by way of `windows.py`, sound from `encodec_stream.py`.

A mix is reported as one stem of one. The stems of a batch are made together, and reported under their joined names:
half a second of tokens at a time, then its sound, which is a preview. Each stem is counted and reported as finished
when its last piece is decoded.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from harmonia_lab.audio_engines.musicgen.audiocraft_standins import replaced
from harmonia_lab.audio_engines.musicgen.memory import Effort, available_bytes, out_of_memory
from harmonia_lab.audio_engines.musicgen.models import LoadedModel
from harmonia_lab.audio_engines.musicgen.plan_chroma import plan_chroma
from harmonia_lab.audio_engines.musicgen.recordings import convert_channels, read_recording
from harmonia_lab.audio_engines.musicgen.settings import Settings
from harmonia_lab.engines.base import AudioProgress, CancelToken, Preview, Stem
from harmonia_lab.errors import HarmoniaError, InvalidRequest
from harmonia_lab.music.plan import Plan
from harmonia_lab.protocol.vocabulary import Role

if TYPE_CHECKING:
    from torch import Tensor

    from harmonia_lab.audio_engines.musicgen.decoder import StepView

__all__ = ["WINDOW_S", "Rendering", "Take"]

WINDOW_S = 30.0
"""Seconds of audio that the released models were trained on, and the most that they generate at once."""

CONTINUED_S = 12.0
"""Seconds of a recording's end that a song continues: as much as two windows overlap (30 s − extend_stride)."""

PIECE = 25
"""Frames (0.5 s) that are decoded to sound at once. It is a preview's length, and a cancel waits for one piece."""

DECODING_COST = 0.2
"""Cost of decoding a frame to sound, in steps of the decode loop (musicgen-small on 2 cores). For progress only."""

REPORT_S = 0.05
"""Least seconds between two progress reports. A small model takes thousands of steps a second."""


@dataclass(frozen=True)
class Take:
    """A stem to be generated: one row of a batch."""

    name: str
    role: Role
    prompt: str
    seed: int


class Rendering:
    """One song while it is rendered. stems: the finished ones, by name. record: its part of `run.json`."""

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
        self.stems = {take.name: finished[take.name] for take in takes if take.name in finished}
        self.record: dict[str, Any] = {"prompts": {take.name: take.prompt for take in takes}, "recovered": []}
        self._progress = progress
        self._fraction = 0.0
        self._started = time.perf_counter()
        self._first_audio_s: float | None = None
        self._steps, self._steps_s = 0, 0.0
        self._guide: NDArray[np.float32] | None = None
        self._reported_at = 0.0

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
        self._reported_at = time.perf_counter()
        fraction, counts = 1.0 if figures else self._fraction, (len(self.stems), len(self.takes))
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
        """Check the settings against the model, compute the guiding chroma, and record the attempt."""
        from harmonia_lab.audio_engines.musicgen.sampling import Sampling  # noqa: PLC0415

        settings = self.settings
        Sampling(settings.use_sampling, settings.temperature, settings.top_k, settings.top_p).check(
            model.musicgen.lm.card
        )
        self._guide, self.record["guidance"] = self._guidance(model)
        self.record |= {"windowSeconds": effort.window_s, "batch": effort.batch, "ranOn": str(model.device)}

    def generate(self, model: LoadedModel, takes: list[Take], effort: Effort) -> None:
        """Make tokens and sound for one batch."""
        rate = model.frame_rate
        frames = math.ceil(self.plan.seconds * rate)
        window = min(round(effort.window_s * rate), round(model.musicgen.max_duration * rate))
        self._require_memory(model, len(takes), min(frames, window))
        names = ", ".join(take.name for take in takes)
        sounds = [_StemSound(model, take, self._report_preview) for take in takes]
        share = len(takes) / len(self.takes)
        before = len(self.stems) / len(self.takes)
        decoding = DECODING_COST * len(takes) * frames

        def advance(steps: int, of: int) -> None:
            done = steps + DECODING_COST * sum(sound.frames for sound in sounds)
            self._fraction = max(self._fraction, min(1.0, before + share * done / (of + decoding)))

        from torch.cuda import current_stream  # noqa: PLC0415

        total, decoding_s = 1, 0.0

        def on_step(view: StepView) -> None:
            nonlocal total, decoding_s
            self.cancel.raise_if_cancelled()
            total = view.total
            # audiocraft's own loop exposes no codes before its end.
            while model.decoder.running != "reference" and view.frames - sounds[0].frames >= PIECE:
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
                self.report("Generating...", instrument=names)

        self.report("Generating...", instrument=names)
        begun = time.perf_counter()
        codes = self._tokens(model, takes, frames, window, on_step)
        self._steps, self._steps_s = self._steps + total, self._steps_s + time.perf_counter() - begun - decoding_s
        for row, (take, sound) in enumerate(zip(takes, sounds, strict=True)):
            while sound.frames < frames:
                self.cancel.raise_if_cancelled()
                piece = codes[row : row + 1, :, sound.frames : sound.frames + PIECE]
                sound.push(piece, last=sound.frames + PIECE >= frames)
                advance(total, total)
                self.report("Decoding...", instrument=take.name)
            stem = self.stems[take.name] = sound.stem(self.plan.seconds)
            self.report("Rendered", finished=stem)

    def _tokens(
        self, model: LoadedModel, takes: list[Take], frames: int, window: int, on_step: Callable[[StepView], None]
    ) -> Tensor:
        """Return the batch's codes, [B, K, frames]."""
        import torch  # noqa: PLC0415

        from harmonia_lab.audio_engines.musicgen.windows import generate_windows  # noqa: PLC0415

        settings = self.settings
        stride = max(1, min(window - 1, round(window * settings.extend_stride / WINDOW_S)))
        generators = [torch.Generator(model.device).manual_seed(take.seed) for take in takes]
        padding = _fixed_padding(model.musicgen.lm, [take.prompt for take in self.takes])
        # Our own loop sets its precision itself.
        autocast = model.musicgen.autocast if model.decoder.running == "reference" else nullcontext()
        with padding, self._conditions(model, takes) as conditions_at, autocast, torch.no_grad():
            return generate_windows(
                model.decoder,
                conditions_at,
                frames=frames,
                window=window,
                stride=stride,
                prompt=self._continued(model, frames, window),
                on_step=on_step,
                generators=generators,
                use_sampling=settings.use_sampling,
                temp=settings.temperature,
                top_k=settings.top_k,
                top_p=settings.top_p,
                cfg_coef=settings.cfg_coef,
                two_step_cfg=settings.two_step_cfg,
            )

    @contextmanager
    def _conditions(self, model: LoadedModel, takes: list[Take]) -> Iterator[Callable[[int], Sequence[Any]]]:
        """Yield a function that returns audiocraft's conditions for the window that starts at a frame.

        The conditions are the prompts, and the guiding chroma from that frame on. The chroma's patch of the model is
        undone when the next window's conditions are made, and at the end.
        """
        from harmonia_lab.audio_engines.musicgen.melody_guidance import chroma_rate, guided_by_chroma  # noqa: PLC0415

        lm = model.musicgen.lm
        with ExitStack() as guides:

            def at(start: int) -> Sequence[Any]:
                guides.close()
                attributes, _ = model.musicgen._prepare_tokens_and_attributes([take.prompt for take in takes], None)  # noqa: SLF001
                if self._guide is not None:
                    first = round(start / model.frame_rate * chroma_rate(lm))
                    ahead = np.roll(self._guide, -first, axis=0)
                    # Drums have no pitch to follow.
                    guide = [None if take.role == "drums" else ahead for take in takes]
                    guides.enter_context(guided_by_chroma(lm, attributes, guide))
                return list(attributes)

            yield at

    def _guidance(self, model: LoadedModel) -> tuple[NDArray[np.float32] | None, str]:
        """Return the guiding chroma [frames, 12] of the whole song, or None, and its source for the record."""
        conditioner, settings = model.melody_conditioner, self.settings
        if conditioner is None:
            if settings.guidance == "plan" or settings.melody is not None:
                raise InvalidRequest(
                    "This MusicGen model has no melody conditioner: it can't follow a plan or a recording.",
                    hint="Choose a melody model (melody, melody-large, stereo-melody), or guidance=none.",
                    details={"fields": ["guidance" if settings.melody is None else "melody"]},
                )
            return None, "none: this model has no melody conditioner"
        if settings.melody is not None:
            return _recorded_chroma(settings.melody, conditioner), f"the recording {settings.melody.name}"
        if settings.guidance == "none":
            return None, "none"
        extractor = conditioner.chroma
        hop_s, window_s = (samples / extractor.sample_rate for samples in (extractor.winhop, extractor.winlen))
        frames = math.ceil(self.plan.seconds / hop_s) + conditioner.chroma_len
        return plan_chroma(self.plan, frames, hop_s=hop_s, window_s=window_s, argmax=extractor.argmax), "the plan"

    def _continued(self, model: LoadedModel, frames: int, window: int) -> Tensor | None:
        """Return the codes [1, K, frames] of the recording that the song continues; None without a recording."""
        path = self.settings.continue_from
        if path is None:
            return None
        import torch  # noqa: PLC0415
        from audiocraft.data.audio_utils import convert_audio  # noqa: PLC0415

        seconds = min(CONTINUED_S, window / model.frame_rate / 2)
        audio, rate = read_recording(path, field="continue_from", last_s=seconds)
        channels = int(model.musicgen.audio_channels)
        wav = torch.from_numpy(convert_channels(audio, channels))[None].to(model.device)
        with torch.inference_mode():
            encoded, _ = model.musicgen.compression_model.encode(convert_audio(wav, rate, model.sample_rate, channels))
        codes: Tensor = encoded[..., : round(seconds * model.frame_rate)].clone()
        if codes.shape[-1] >= frames:
            raise InvalidRequest(
                f"The song ({self.plan.seconds:g} s) is not longer than the recording {path.name} that it continues.",
                hint="Ask for a longer song.",
                details={"fields": ["continue_from", "seconds"]},
            )
        self.record["continuedSeconds"] = codes.shape[-1] / model.frame_rate
        return codes

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

    def _report_preview(self, preview: Preview) -> None:
        if self._first_audio_s is None:
            self._first_audio_s = time.perf_counter() - self._started
        if preview.audio.shape[1]:
            self.report("Generating...", instrument=preview.stem, preview=preview)


class _StemSound:
    """The sound of one stem, decoded piece by piece. frames: decoded so far."""

    def __init__(self, model: LoadedModel, take: Take, on_preview: Callable[[Preview], None]) -> None:
        from harmonia_lab.audio_engines.musicgen.encodec_stream import CodecStream  # noqa: PLC0415

        self._stream = CodecStream(model.musicgen.compression_model)
        self._take, self._on_preview = take, on_preview
        self._pieces: list[NDArray[np.float32]] = []
        self._samples = 0
        self.frames = 0

    def push(self, codes: Tensor, *, last: bool) -> None:
        """Decode the next frames, codes [1, K, T], and pass their sound to on_preview."""
        piece = self._stream.push(codes, last=last)[0].float().cpu().numpy()
        self._pieces.append(piece)
        self.frames += codes.shape[-1]
        self._on_preview(Preview(self._take.name, self._samples, piece, self._stream.sample_rate))
        self._samples += piece.shape[1]

    def stem(self, seconds: float) -> Stem:
        audio = np.concatenate(self._pieces, axis=1)[:, : round(seconds * self._stream.sample_rate)]
        return Stem(self._take.name, self._take.role, np.ascontiguousarray(audio), self._stream.sample_rate)


def _recorded_chroma(path: Path, conditioner: Any) -> NDArray[np.float32]:
    """Return the chroma [frames, 12] of a recording, by the conditioner's own extractor."""
    import torch  # noqa: PLC0415
    from audiocraft.data.audio_utils import convert_audio  # noqa: PLC0415

    audio, rate = read_recording(path, field="melody")
    with torch.inference_mode():
        wav = convert_audio(torch.from_numpy(convert_channels(audio, 1))[None], rate, conditioner.sample_rate, 1)
        chroma = conditioner.chroma(wav.to(conditioner.chroma.fbanks.device))[0]
    recorded: NDArray[np.float32] = chroma.float().cpu().numpy()
    return recorded


@contextmanager
def _fixed_padding(lm: Any, prompts: list[str]) -> Iterator[None]:
    """Pad every prompt as in one batch of all `prompts`.

    audiocraft's cross attention attends to the padding (zeros, which dilute the text). Without this, a stem would sound
    different in a smaller batch.
    """

    def padding(tokenizer: Any) -> Callable[..., Any]:
        longest = tokenizer(prompts, return_tensors="pt", padding=True)["input_ids"].shape[1]
        return lambda entries, **_: tokenizer(entries, return_tensors="pt", padding="max_length", max_length=longest)

    with ExitStack() as padded:
        for conditioner in lm.condition_provider.conditioners.values():
            if hasattr(conditioner, "t5_tokenizer"):
                padded.enter_context(replaced(conditioner, t5_tokenizer=padding(conditioner.t5_tokenizer)))
        yield
