"""Diffusers' music pipelines as an `AudioEngine`: the whole mix at once, from the song's words and numbers.

Owns loading, the call, and what the record says of it. `pipelines.py` has what each pipeline takes, `watching.py` the
progress and the cancel, `checkpoints.py` where weights lie, `guide.py` the sound to go by.
"""

from __future__ import annotations

import copy
import importlib.metadata
import importlib.util
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from harmonia_lab.audio_engines.audiofile import recording_digests
from harmonia_lab.audio_engines.devices import may_use_gpu
from harmonia_lab.audio_engines.diffusers.checkpoints import find_checkpoint, unavailable
from harmonia_lab.audio_engines.diffusers.install import missing
from harmonia_lab.audio_engines.diffusers.pipelines import GuidingSound, Pipeline, pipeline_of
from harmonia_lab.audio_engines.diffusers.settings import DiffusersSettings
from harmonia_lab.audio_engines.diffusers.watching import PhaseShares, watch
from harmonia_lab.engines.base import AudioProgress, CancelToken, Stem
from harmonia_lab.engines.song_options import recordings_in, song_options, with_song_options
from harmonia_lab.errors import AudioError, ErrorCode, HarmoniaError, InvalidRequest
from harmonia_lab.music.plan import Part, Plan
from harmonia_lab.music.seeds import derive_seed
from harmonia_lab.protocol.sound import Followed

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["DiffusersEngine"]

TILED_FROM_S = 30.0
"""Seconds from which a sound is decoded in tiles, where the VAE can: their seams differ by 3e-7 from the whole, and a
cancel is heard between them."""


@dataclass
class _Model:
    """What an engine and those of single songs have together: the loaded pipeline, and how long its phases took. `lock`
    is held while it is loaded or used."""

    pipeline: Any = None
    shares: PhaseShares = field(default_factory=PhaseShares)
    lock: threading.Lock = field(default_factory=threading.Lock)


class DiffusersEngine:
    """An `AudioEngine` that generates with ACE-Step or Stable Audio 3.

    model: a short name ("acestep"), a hub id whose snapshot is in the cache, or a folder in diffusers' layout. Raises
    InvalidRequest for an unknown name or setting, AudioError (AUDIO_UNAVAILABLE) where diffusers is not installed, the
    checkpoint isn't here, or the folder is none.
    """

    name = "diffusers"
    song_options = song_options(DiffusersSettings)

    def __init__(self, model: str = "acestep", settings: DiffusersSettings | None = None) -> None:
        self.settings = settings or DiffusersSettings()
        if absent := missing():
            raise unavailable(
                f"diffusers is not installed: {', '.join(absent)} missing.", "run: harmonia setup diffusers"
            )
        self.checkpoint = find_checkpoint(model)
        self.checkpoint.here()  # before stage 1 has written a song that can't be played
        self.uses_gpu = may_use_gpu(self.settings.device)
        self._model = _Model()
        self._song: dict[str, Any] = {}
        self._recordings: dict[str, str] = {}
        """SHA-256 of those that one song's options name, by option."""

    def for_song(self, options: Mapping[str, Any]) -> DiffusersEngine:
        """Return an engine with a song's own settings, on the same model. Raises InvalidRequest."""
        settings = with_song_options(self.settings, options)
        pipeline_of(self.checkpoint.pipeline).check(settings)
        song, recordings = copy.copy(self), recording_digests(recordings_in(settings))
        vars(song).update(settings=settings, _recordings=recordings, _song={})
        return song

    @property
    def follows(self) -> frozenset[Followed]:
        """What of a plan the checkpoint's pipeline is given."""
        return pipeline_of(self.checkpoint.pipeline).follows

    def prepare(self) -> None:
        """Load on a CPU in the background, while stage 1 runs; on a GPU stage 1 may need the memory."""
        if not self.uses_gpu:
            threading.Thread(target=self._prepare, name="harmonia-prepare", daemon=True).start()

    def render(
        self,
        parts: Sequence[Part],
        plan: Plan,
        seeds: Mapping[str, int],
        progress: Callable[[AudioProgress], None],
        cancel: CancelToken,
        finished: Mapping[str, Stem],  # noqa: ARG002 - one stem is all there is
    ) -> list[Stem]:
        """Return one stem of role "mix", float32 [2, samples], at the pipeline's sample rate.

        Raises InvalidRequest, AudioError (AUDIO_UNAVAILABLE, AUDIO_ERROR), or Cancelled: within a denoising step, or a
        block of the text encoder or the decoder.
        """
        if plan.metadata is None or not parts:
            raise InvalidRequest("diffusers renders from words: the plan must have its metadata, and a part at least.")
        seed = derive_seed(seeds[parts[0].name], "mix")
        with self._model.lock:
            progress(AudioProgress(0.0, "Loading the model...", total=1))
            try:
                audio, rate, figures = self._generate(plan, seed, progress, cancel)
            except HarmoniaError:
                raise
            except Exception as error:  # noqa: BLE001 - diffusers raises many kinds
                cancel.raise_if_cancelled()
                raise _failure(error) from None
        progress(AudioProgress(1.0, "Rendered", None, 1, 1, figures=figures))
        return [Stem("mix", "mix", audio, rate)]

    def identity(self) -> dict[str, Any]:
        """Return model, source, pipeline, licence, whether the weights are random, and settings. No file is read."""
        return {
            "engine": self.name,
            "model": self.checkpoint.name,
            "source": self.checkpoint.source,
            "pipeline": self.checkpoint.pipeline,
            "licence": self.checkpoint.licence,
            "weights": "random" if self.checkpoint.random else "trained",
            "settings": self.settings.to_json(),
            **({"recordings": self._recordings} if self._recordings else {}),
        }

    def record(self) -> dict[str, Any]:
        """Return `identity`, versions, and of the latest song the arguments of the call."""
        return {
            **self.identity(),
            "versions": {name: importlib.metadata.version(name) for name in ("diffusers", "transformers", "torch")},
            **self._song,
        }

    def close(self) -> None:
        """Free the model's memory. Nothing runs between songs."""
        with self._model.lock:
            self._model.pipeline = None
        import gc  # noqa: PLC0415
        import sys  # noqa: PLC0415

        gc.collect()
        if (torch := sys.modules.get("torch")) is not None and torch.cuda.is_available():
            torch.cuda.empty_cache()

    def _prepare(self) -> None:
        try:
            with self._model.lock:
                self._load()
        except Exception:  # noqa: BLE001 - `render` raises it
            return

    def _device(self) -> str:
        if self.settings.device != "auto":
            return self.settings.device
        import torch  # noqa: PLC0415

        return "cuda" if torch.cuda.is_available() else "cpu"

    def _load(self) -> Any:
        """Return the pipeline, from its folder alone: no code of a checkpoint's is run, and nothing is fetched."""
        if self._model.pipeline is not None:
            return self._model.pipeline
        folder = self.checkpoint.here()
        import diffusers  # noqa: PLC0415
        import torch  # noqa: PLC0415

        device = self._device()
        if device.startswith("cuda") and not torch.cuda.is_available():
            raise unavailable(f"There is no device {device}.", "Choose device=auto or cpu.")
        chosen = "bfloat16" if device.startswith("cuda") else "float32"
        dtype = getattr(torch, chosen if self.settings.dtype == "auto" else self.settings.dtype)
        loader = getattr(diffusers, self.checkpoint.pipeline).from_pretrained
        options: dict[str, Any] = {"local_files_only": True, "use_safetensors": True, "dtype": dtype}
        if importlib.util.find_spec("accelerate") is None:
            options["low_cpu_mem_usage"] = False  # else it asks for that package in each song's output
        with _without_bars():
            pipeline = loader(str(folder), **options)
        pipeline.set_progress_bar_config(disable=True)
        self._model.pipeline = pipeline.to(device)
        return self._model.pipeline

    def _generate(
        self, plan: Plan, seed: int, progress: Callable[[AudioProgress], None], cancel: CancelToken
    ) -> tuple[NDArray[np.float32], int, dict[str, float]]:
        """Return audio [channels, samples], its rate in Hz, and columns of the run log."""
        from harmonia_lab.audio_engines.diffusers.guide import guiding_sound  # noqa: PLC0415 - scipy comes with it

        began = time.perf_counter()
        known = pipeline_of(self.checkpoint.pipeline)
        pipeline = self._load()
        cancel.raise_if_cancelled()
        rate = int(pipeline.vae.config.sampling_rate)
        sound = guiding_sound(plan, self.settings, rate, cancel)
        guide = None if sound is None else GuidingSound(_tensor(sound), self.settings.strength)
        distilled = _is_distilled(pipeline)
        arguments = known.arguments(plan, self.settings, distilled=distilled, guide=guide)
        self._song = {"call": {name: value for name, value in arguments.items() if name not in ("src_audio", "audio")}}
        self._song |= {
            "seed": seed,
            "distilled": distilled,
            "ranOn": str(pipeline.device),
            "dtype": str(pipeline.dtype),
        }
        audio, figures = self._call(pipeline, known, arguments, plan, seed, progress, cancel)
        figures["time_to_first_audio_s"] = round(time.perf_counter() - began, 6)
        return audio, rate, figures

    def _call(
        self,
        pipeline: Any,
        known: Pipeline,
        arguments: dict[str, Any],
        plan: Plan,
        seed: int,
        progress: Callable[[AudioProgress], None],
        cancel: CancelToken,
    ) -> tuple[NDArray[np.float32], dict[str, float]]:
        import torch  # noqa: PLC0415

        _tile(pipeline.vae, plan.seconds >= TILED_FROM_S)
        called = _guided(pipeline, known) if {"src_audio", "audio"} & arguments.keys() else pipeline

        def report(fraction: float, status: str) -> None:
            progress(AudioProgress(fraction, status, "mix", 0, 1))

        devices = [pipeline.device] if pipeline.device.type == "cuda" else []
        steps = arguments["num_inference_steps"]
        with (
            watch(pipeline, steps, self._model.shares, cancel, report) as watched,
            torch.random.fork_rng(devices=devices),
        ):
            torch.manual_seed(seed)  # a cover encodes its sound with a draw from torch's own stream
            report(0.0, "Encoding the words...")
            generator = torch.Generator(device=pipeline.device).manual_seed(seed)
            made = called(**arguments, generator=generator, callback_on_step_end=watched.step).audios
        cancel.raise_if_cancelled()
        self._model.shares = watched.shares()
        audio = made[0].float().cpu().numpy()
        if not bool(torch.isfinite(made[0]).all()):
            raise AudioError(
                f"The model made sound that isn't numbers, in {str(pipeline.dtype).removeprefix('torch.')}.",
                code=ErrorCode.AUDIO_ERROR,
                hint="Try dtype=float32 or bfloat16.",
            )
        speed = watched.steps_per_second
        return audio, {} if speed is None else {"steps_per_second": round(speed, 3)}


@contextmanager
def _without_bars() -> Iterator[None]:
    """Keep both libraries' bars, and their warnings to developers, out of the output while a checkpoint is loaded."""
    import diffusers.utils.logging as ours  # noqa: PLC0415
    import transformers.utils.logging as theirs  # noqa: PLC0415

    shown = [library for library in (ours, theirs) if library.is_progress_bar_enabled()]
    for library in shown:
        library.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # of torch, on how diffusers builds its decoder
            yield
    finally:
        for library in shown:
            library.enable_progress_bar()


def _tensor(sound: NDArray[np.float32]) -> Any:
    import torch  # noqa: PLC0415

    return torch.from_numpy(sound)


def _is_distilled(pipeline: Any) -> bool:
    """Return whether the checkpoint was made to do without guidance: it says so in its configuration."""
    turbo = getattr(pipeline.transformer.config, "is_turbo", None)
    return bool(turbo if turbo is not None else getattr(pipeline.scheduler.config, "stochastic_sampling", False))


def _tile(vae: Any, wanted: bool) -> None:
    switch = getattr(vae, "enable_tiling" if wanted else "disable_tiling", None)
    if switch is not None and hasattr(vae, "tile_latent_min_length"):  # SAME has the method, and no tiles
        switch()


def _guided(pipeline: Any, known: Pipeline) -> Any:
    """Return the pipeline that takes a sound to go by, made of the same parts."""
    if known.guided_class == type(pipeline).__name__:
        return pipeline
    import diffusers  # noqa: PLC0415

    guided = getattr(diffusers, known.guided_class)(**pipeline.components)
    guided.set_progress_bar_config(disable=True)
    return guided


def _failure(error: Exception) -> AudioError:
    """Return the error to raise instead of one of diffusers' or torch's, without its frames and so their tensors."""
    said = " ".join(str(error).split())[:300]
    if "out of memory" in said.lower():
        return AudioError(
            "There was not enough memory for diffusers to generate this.",
            code=ErrorCode.AUDIO_ERROR,
            hint="Ask for a shorter song, a smaller model, or device=cpu.",
        )
    return AudioError(
        f"diffusers failed while it generated: {type(error).__name__}: {said}",
        code=ErrorCode.AUDIO_ERROR,
        hint="Try again; where it comes back, `harmonia doctor` checks the installation.",
    )
