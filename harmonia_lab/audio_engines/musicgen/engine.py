"""MusicGen through audiocraft: an `AudioEngine` that renders from a text prompt, with the plan as a guide.

Owns the prompt and the seed of each stem, and the attempts when memory runs out. `rendering.py` renders one song,
`settings.py` has the settings, `checkpoints.py` and `models.py` the models, `memory.py` the estimates of memory.
"""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from harmonia_lab.audio_engines.audiofile import recording_digests
from harmonia_lab.audio_engines.devices import may_use_gpu
from harmonia_lab.audio_engines.musicgen.checkpoints import find_checkpoint, smaller_checkpoint
from harmonia_lab.audio_engines.musicgen.install import missing
from harmonia_lab.audio_engines.musicgen.memory import (
    Effort,
    available_bytes,
    efforts,
    is_out_of_memory,
    out_of_memory,
)
from harmonia_lab.audio_engines.musicgen.models import MODELS, Choice, resolve_device
from harmonia_lab.audio_engines.musicgen.prompts import prompt
from harmonia_lab.audio_engines.musicgen.rendering import WINDOW_S, Rendering
from harmonia_lab.audio_engines.musicgen.settings import Dtype, Settings
from harmonia_lab.audio_engines.musicgen.takes import Take
from harmonia_lab.engines.base import AudioProgress, CancelToken, Remedy, Stem
from harmonia_lab.engines.song_options import recordings_in, song_options, with_song_options
from harmonia_lab.errors import AudioError, ErrorCode, HarmoniaError, InvalidRequest
from harmonia_lab.music.plan import Part, Plan
from harmonia_lab.music.seeds import derive_seed
from harmonia_lab.protocol.sound import Followed

__all__ = ["MusicGenEngine"]

_WIDER: dict[str, Dtype] = {"float16": "bfloat16", "bfloat16": "float32"}
"""Precision in which numbers overflowed → the one to try. (bfloat16 has float32's range in float16's memory.)"""

STAGE_1_BYTES = 8 * 2**30
"""GPU memory for stage 1: a language model of 8 G parameters in 4 bits, and its context."""


class MusicGenEngine:
    """An `AudioEngine` that generates with MusicGen.

    model: a name ("small", "melody", "stereo-medium", …), a hub id, or a checkpoint folder. `prepare` and `render` load
    the model. Raises InvalidRequest for an unknown name or setting, AudioError (MUSICGEN_UNAVAILABLE) where the folder
    lacks files or MusicGen is not installed.
    """

    name = "musicgen"
    song_options = song_options(Settings)

    def __init__(self, model: str = "small", settings: Settings | None = None) -> None:
        self.settings = settings or Settings()
        absent = missing()
        if absent:
            raise AudioError(
                f"MusicGen is not installed: {', '.join(absent)} missing.",
                code=ErrorCode.MUSICGEN_UNAVAILABLE,
                hint="run: harmonia setup musicgen",
            )
        self.checkpoint = find_checkpoint(model)
        self.uses_gpu = may_use_gpu(self.settings.device, metal=True)
        self._choice = Choice(self.checkpoint, self.settings.device, self.settings.dtype, self.settings.decoder)
        self._now = self._ran = self._choice  # `_ran`: or its twin on the CPU, where only that had the memory
        self._next: Choice | None = None
        """What `recover` has chosen for the next rendering, and for no other."""
        self._lock = threading.Lock()
        self._song: dict[str, Any] = {}
        self._recordings: dict[str, str] = {}
        """SHA-256 of those that one song's options name, by option."""

    def for_song(self, options: Mapping[str, Any]) -> MusicGenEngine:
        """Return an engine with a song's own settings, on the same model. Raises InvalidRequest, for a recording that
        can't be read and for a melody to a model that follows none, too."""
        settings = with_song_options(self.settings, options)
        recordings = recording_digests(recordings_in(settings))
        if "melody" in recordings:
            self._check_takes_melody()
        song = copy.copy(self)
        vars(song).update(settings=settings, _recordings=recordings, _song={}, _next=None, _lock=threading.Lock())
        return song

    def _check_takes_melody(self) -> None:
        from harmonia_lab.audio_engines.musicgen.inventory import takes_melody  # noqa: PLC0415 - only for melodies

        if takes_melody(self.checkpoint) is False:
            raise InvalidRequest(
                f"The model {self.checkpoint.name} follows no melody.",
                hint="Choose a melody model (melody, melody-large, stereo-melody), or leave melody out.",
                details={"fields": ["melody", "audio_model"]},
            )

    @property
    def follows(self) -> frozenset[Followed]:
        """What the latest song was given of its plan: the prompt's words, and chroma where that guided the model."""
        own_words = self.settings.prompt is not None and self.settings.arrangement == "full"
        asked: set[Followed] = set() if own_words else {"prompt", "tempo", "key"}
        return frozenset(asked | ({"chroma"} if self._song.get("guidance") == "the plan" else set()))

    def prepare(self) -> None:
        """Load in the background while stage 1 runs. Return at once; `render` raises what goes wrong.

        On a GPU only the libraries are loaded, since stage 1 may need the memory; a model that is loaded already is
        unloaded if it leaves less than 8 GiB.
        """
        threading.Thread(target=self._prepare, name="harmonia-prepare", daemon=True).start()

    def render(
        self,
        parts: Sequence[Part],
        plan: Plan,
        seeds: Mapping[str, int],
        progress: Callable[[AudioProgress], None],
        cancel: CancelToken,
        finished: Mapping[str, Stem],
    ) -> list[Stem]:
        """Return one stem per part with arrangement "stems", one of role "mix" with "full", at the model's sample rate.

        It reports a preview for every half second of sound, and each stem when it is finished; with `best_of`, each
        candidate when it is finished, and no previews.

        Raises InvalidRequest, AudioError (MUSICGEN_UNAVAILABLE, MUSICGEN_ERROR, MUSICGEN_MEMORY), or Cancelled:
        within a step of the decode loop, on a GPU after the steps that are launched already, or after the first step's
        compilation and recording. Where memory runs out, it makes the attempts of `memory.efforts` before it raises.
        """
        takes = self._takes(parts, plan, seeds)
        song = Rendering(takes, plan, self.settings, progress=progress, cancel=cancel, finished=finished)
        with self._lock:
            self._song = song.record
            self._now = self._next or self._choice
            ended = self._attempt_all(song)
            self._next = None
        if ended is not None:
            # It has no frames, and so no tensors: a job's handle may hold the error for long.
            raise ended
        cancel.raise_if_cancelled()
        song.report("Rendered", figures=song.figures())
        return [song.stems[take.name] for take in takes]

    def identity(self) -> dict[str, Any]:
        """Return model, source, licence, whether the weights are random, and settings. No file is read.

        Between a `recover` and the end of the rendering that follows, they are those of that rendering."""
        return self._identity(self._next or self._choice)

    def _identity(self, choice: Choice) -> dict[str, Any]:
        checkpoint = choice.checkpoint
        return {
            "engine": self.name,
            "model": checkpoint.name,
            "source": checkpoint.source,
            "licence": checkpoint.licence,
            "weights": "random" if checkpoint.random else "trained",
            **({"randomWeights": checkpoint.random} if checkpoint.random else {}),
            "settings": self.settings.to_json() | {"dtype": choice.dtype},
            **({"recordings": self._recordings} if self._recordings else {}),
        }

    def record(self) -> dict[str, Any]:
        """Return `identity`; of the loaded model its digests, device and versions; and of the latest song the prompts,
        sections, joins and ending, the guidance, the candidates, warnings, and what was tried when memory ran out."""
        model = MODELS.peek(self._ran)
        return {**self._identity(self._now), **(model.record() if model is not None else {}), **self._song}

    def recover(self, error: HarmoniaError, attempt: int, cancel: CancelToken) -> Remedy | None:
        """Take a smaller model after MUSICGEN_MEMORY, where `smaller_model` allows it; another precision where numbers
        overflowed; else load the model again. For the next rendering alone."""
        del attempt, cancel
        now = self._now
        if error.code == ErrorCode.MUSICGEN_MEMORY:
            smaller = smaller_checkpoint(now.checkpoint) if self.settings.smaller_model else None
            if smaller is None:
                return None
            MODELS.unload()
            self._next = replace(now, checkpoint=smaller)
            return Remedy("smaller-model", f"Memory ran out: with the model {smaller.name}...")
        if error.code != ErrorCode.MUSICGEN_ERROR:
            return None
        dtype = _WIDER.get(str(error.details.get("precision")))
        if "precision" in error.details and dtype is None:
            return None
        MODELS.unload(now)
        self._next = replace(now, dtype=dtype or now.dtype)
        if dtype is None:
            return Remedy("reload", "Loading MusicGen again...")
        return Remedy("precision", f"Numbers overflowed: in {dtype}...")

    def fresh(self) -> MusicGenEngine:
        """Return an engine with the same model and settings, which loads the model anew: the stuck thread keeps its."""
        MODELS.disown(self._now)
        return MusicGenEngine(self.checkpoint.name, self.settings)

    def close(self) -> None:
        """Free the model's memory, unless a song is using it. Nothing runs between songs."""
        MODELS.unload(self._choice)

    def _prepare(self) -> None:
        try:
            if not self._runs_on_gpu():
                MODELS.begin(self._choice)
                return
            from harmonia_lab.audio_engines.musicgen.audiocraft_standins import load_audiocraft  # noqa: PLC0415

            load_audiocraft()
            MODELS.unload(keep=self._choice)
            if MODELS.loaded() and available_bytes(resolve_device(self.settings.device)) < STAGE_1_BYTES:
                MODELS.unload()
        except (HarmoniaError, ImportError, OSError):
            return  # `render` raises it

    def _runs_on_gpu(self) -> bool:
        return bool(resolve_device(self.settings.device).type != "cpu")

    def _takes(self, parts: Sequence[Part], plan: Plan, seeds: Mapping[str, int]) -> list[Take]:
        if plan.metadata is None or not parts:
            raise InvalidRequest("MusicGen renders from words: the plan must have its metadata, and a part at least.")
        own = self.settings.prompt
        if self.settings.arrangement == "full":
            seed = derive_seed(seeds[parts[0].name], "mix")
            return [Take("mix", "mix", prompt(plan.metadata, None, own), seed)]
        return [
            Take(part.name, part.instrument.role, prompt(plan.metadata, part.instrument, own), seeds[part.name], part)
            for part in parts
        ]

    def _attempt_all(self, song: Rendering) -> BaseException | None:
        """Make all attempts. Return the error that ended the song, without the frames (and tensors) that raised it."""
        failure: HarmoniaError | None = None
        freed = False
        for effort in efforts(song.most_at_once, WINDOW_S, on_gpu=self.settings.device != "cpu"):
            ended: BaseException
            try:
                if effort.on_cpu and not self._runs_on_gpu():
                    continue
                if failure is not None and freed and not effort.on_cpu and MODELS.peek(self._now) is None:
                    continue  # the model itself does not fit: smaller batches or windows are no help
                if failure is not None:
                    MODELS.unload(keep=None if effort.on_cpu else self._now)
                    freed = True
                    song.try_again(effort, failure)
                self._attempt(song, effort)
                return None  # noqa: TRY300 - success
            except BaseException as error:  # noqa: BLE001 - `render` raises it again, without its frames
                ended = _explained(error)
            if not isinstance(ended, HarmoniaError) or ended.code != ErrorCode.MUSICGEN_MEMORY:
                return ended
            failure = ended
        return failure

    def _attempt(self, song: Rendering, effort: Effort) -> None:
        choice = self._now
        if effort.on_cpu:
            choice = Choice(choice.checkpoint, "cpu", "auto", self.settings.decoder)
        loading = f"Loading MusicGen {Path(choice.checkpoint.name).name}"
        self._ran = choice
        with MODELS.lease(choice, song.cancel, lambda status: song.report(f"{loading}: {status}...")) as model:
            song.loaded(model, effort)
            todo = [row for row in song.rows if row.key not in song.done]
            batch = song.batch(model, effort)
            for start in range(0, len(todo), batch):
                song.generate(model, todo[start : start + batch], effort)
            song.choose(model)


def _explained(error: BaseException) -> BaseException:
    """Return the error to raise instead of `error`, without its frames."""
    if is_out_of_memory(error):
        return out_of_memory("There was not enough memory for MusicGen to generate this.")
    if isinstance(error, HarmoniaError) or not isinstance(error, Exception):
        error.__traceback__ = error.__context__ = error.__cause__ = None
        return error
    said = " ".join(str(error).split())[:300]
    return AudioError(
        f"MusicGen failed while it generated: {type(error).__name__}: {said}",
        code=ErrorCode.MUSICGEN_ERROR,
        hint="Try again; where it comes back, decoder=reference tells whether our decode loop is to blame.",
    )
