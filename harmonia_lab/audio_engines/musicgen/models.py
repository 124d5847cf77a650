"""MusicGen in memory: loading in the background, a cache of the loaded models, unloading.

Owns the device, the precision, and the lifetime of loaded models. The files are found and checked by `checkpoints.py`;
`engine.py` and `rendering.py` generate with the models.
"""

from __future__ import annotations

import importlib.metadata
import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from harmonia_lab.audio_engines.devices import check_device
from harmonia_lab.audio_engines.musicgen.checkpoints import Checkpoint
from harmonia_lab.audio_engines.musicgen.memory import (
    available_bytes,
    free_memory,
    is_out_of_memory,
    out_of_memory,
)
from harmonia_lab.audio_engines.musicgen.settings import Dtype
from harmonia_lab.audio_engines.musicgen.weight_files import unavailable
from harmonia_lab.engines.base import CancelToken
from harmonia_lab.errors import HarmoniaError, InvalidRequest

__all__ = ["MODELS", "Choice", "LoadedModel", "ModelCache", "resolve_device", "set_precision"]

POLL_S = 0.05

_log = logging.getLogger(__name__)

_ALLOCATING = ("reading the weights", "preparing the decoder")
"""Statuses in which a model takes memory. Before them files are only opened, and there is nothing to free."""


@dataclass(frozen=True)
class Choice:
    """A checkpoint and how to load it. device: auto, cpu, mps, cuda or cuda:N. decoder: a mode of `decoder.Decoder`.

    dtype: auto is float32 on a CPU and on Metal, float16 on another GPU.
    """

    checkpoint: Checkpoint = field(hash=False)
    device: str = "auto"
    dtype: Dtype = "auto"
    decoder: str = "auto"


@dataclass(frozen=True)
class LoadedModel:
    """A model in memory. musicgen: audiocraft's MusicGen. decoder: a `decoder.Decoder` of its language model.

    device: a torch.device. digest: of the checkpoint's files. notes: what was done to use them. device_check: what was
    found of the GPU, for the record; None for a model that was to run on the CPU.
    """

    choice: Choice
    musicgen: Any
    decoder: Any
    device: Any
    dtype: str
    digest: dict[str, str]
    notes: tuple[str, ...] = ()
    device_check: dict[str, Any] | None = None

    @property
    def codec_device(self) -> Any:
        """The torch.device of the codec: the model's, or the CPU beside Metal."""
        return next(self.musicgen.compression_model.parameters()).device

    @property
    def sample_rate(self) -> int:
        """Hz."""
        return int(self.musicgen.sample_rate)

    @property
    def frame_rate(self) -> float:
        """Frames, and so steps of the decode loop, per second of audio."""
        return float(self.musicgen.frame_rate)

    @property
    def melody_conditioner(self) -> Any | None:
        """The ChromaStemConditioner of audiocraft; None if the model takes no melody."""
        from harmonia_lab.audio_engines.musicgen.melody_guidance import melody_conditioner  # noqa: PLC0415

        return melody_conditioner(self.musicgen.lm)

    def cache_bytes(self, prompts: int, frames: int) -> int:
        """Return the bytes of the KV caches for `prompts` prompts, each with its null prompt, over `frames` frames."""
        from harmonia_lab.audio_engines.musicgen.cuda_graph_step import round_up  # noqa: PLC0415
        from harmonia_lab.audio_engines.musicgen.kv_cache import cache_bytes  # noqa: PLC0415

        positions = frames + self.musicgen.lm.num_codebooks + 1
        if self.melody_conditioner is not None:
            positions += self.melody_conditioner.chroma_len
        if self.device.type == "cuda":
            positions = round_up(positions)
        return cache_bytes(self.musicgen.lm, 2 * prompts, positions)

    def record(self) -> dict[str, Any]:
        """Return what is needed to reproduce a song, as plain JSON values."""
        import torch  # noqa: PLC0415

        names = {"cuda": torch.cuda.get_device_name, "mps": lambda _: "Apple Metal (mps), codec on the CPU"}
        return {
            "digest": self.digest,
            **({"checkpointNotes": list(self.notes)} if self.notes else {}),
            "device": names.get(self.device.type, str)(self.device),
            **({"deviceCheck": self.device_check} if self.device_check is not None else {}),
            "dtype": self.dtype,
            "threads": torch.get_num_threads(),
            "decoderRunning": self.decoder.running,
            "decoderNote": self.decoder.reason,
            "packings": dict(self.decoder.packings),
            "torch": torch.__version__,
            "audiocraft": importlib.metadata.version("audiocraft"),
        }


class _Entry:
    """A model that is loaded or being loaded. done: loading has ended, with a model or an error."""

    def __init__(self) -> None:
        self.status = "starting"
        self.done = threading.Event()
        self.model: LoadedModel | None = None
        self.error: HarmoniaError | None = None
        self.users = 0


class ModelCache:
    """Loaded models by choice. Before another one is loaded, all that are not in use are evicted."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._entries: dict[Choice, _Entry] = {}

    def begin(self, choice: Choice) -> None:
        """Start loading in the background, unless the model is loaded or loading. Return at once."""
        self._entry(choice, users=0)

    @contextmanager
    def lease(self, choice: Choice, cancel: CancelToken, report: Callable[[str], None]) -> Iterator[LoadedModel]:
        """Yield the loaded model, which is not evicted while the context is open. report gets the status of loading.

        Raise AudioError (MUSICGEN_UNAVAILABLE, MUSICGEN_MEMORY, NETWORK_TEMPORARY), InvalidRequest, or Cancelled within
        0.1 s of a cancel. Loading can't be interrupted: it continues in its thread, and the next song uses the model.
        """
        loaded = self.peek(choice) is not None
        entry = self._entry(choice, users=1)
        try:
            if not loaded:
                report(entry.status)  # at least once, even if loading ends before the first poll
            while not entry.done.wait(POLL_S):
                cancel.raise_if_cancelled()
                report(entry.status)
            if entry.error is not None:
                raise entry.error
            assert entry.model is not None
            yield entry.model
        finally:
            with self._lock:
                entry.users -= 1

    def loaded(self) -> list[Choice]:
        with self._lock:
            return [choice for choice, entry in self._entries.items() if entry.model is not None]

    def peek(self, choice: Choice) -> LoadedModel | None:
        """Return the model if it is loaded."""
        with self._lock:
            entry = self._entries.get(choice)
            return entry.model if entry is not None else None

    def unload(self, choice: Choice | None = None, *, keep: Choice | None = None) -> None:
        """Drop `choice`, or every model but `keep`, unless it is in use. Return torch's cached memory to the device.

        `keep` frees the buffers that it keeps from song to song.
        """
        with self._lock:
            self._drop([choice] if choice is not None else list(self._entries), keep)
        free_memory()  # here, where no local variable refers to a model

    def disown(self, choice: Choice) -> None:
        """Forget a model that a stuck thread uses: the next song loads one of its own."""
        with self._lock:
            self._entries.pop(choice, None)

    def _drop(self, choices: list[Choice], keep: Choice | None = None) -> None:
        for choice in choices:
            entry = self._entries.get(choice)
            if entry is None or not entry.done.is_set() or entry.users:
                continue
            if choice != keep:
                del self._entries[choice]
            elif entry.model is not None:
                entry.model.decoder.release()

    def _entry(self, choice: Choice, users: int) -> _Entry:
        with self._lock:
            entry = self._entries.get(choice)
            if entry is None or entry.error is not None:
                self._drop(list(self._entries))  # models need not fit in memory together
                entry = self._entries[choice] = _Entry()
                # A daemon, since the interpreter must not wait for gigabytes when it exits.
                threading.Thread(target=self._load, args=(choice, entry), name="harmonia-load", daemon=True).start()
            entry.users += users
            return entry

    def _load(self, choice: Choice, entry: _Entry) -> None:
        try:
            entry.model = _load(choice, lambda status: setattr(entry, "status", status))
        except HarmoniaError as error:
            entry.error = error
        except Exception as error:  # noqa: BLE001 - audiocraft, transformers and the hub's client raise anything
            entry.error = _explained(error, choice)
        finally:
            if entry.error is not None:
                entry.error.__cause__ = entry.error.__context__ = entry.error.__traceback__ = None  # they hold tensors
                if entry.status in _ALLOCATING:
                    free_memory()
            entry.done.set()


MODELS = ModelCache()
"""The process's cache: two labs in a notebook share it."""


def resolve_device(asked: str) -> Any:
    """Return a torch.device. Raise InvalidRequest, or AudioError (MUSICGEN_UNAVAILABLE) if there is no such device."""
    import torch  # noqa: PLC0415

    check_device(asked, metal=True)
    metal = torch.backends.mps.is_available()
    if asked == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "mps" if metal else "cpu")
    device = torch.device(asked)
    if device.type == "mps" and not metal:
        raise unavailable(
            f"The device mps was asked for, but torch {torch.__version__} finds no GPU of Apple's.",
            "Choose device=cpu or auto. Metal needs a Mac with Apple's own processor.",
        )
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        seen = torch.cuda.device_count()
        raise unavailable(
            f"The device {asked} was asked for, but torch {torch.__version__} sees {seen} CUDA devices.",
            "Choose device=cpu or auto, or install the GPU's driver and a CUDA build of torch.",
        )
    return device


def set_precision(musicgen: Any, dtype: str) -> None:
    """Prepare audiocraft's MusicGen for decoding in `dtype` (float32, float16, bfloat16), without gradients.

    As in audiocraft on a GPU, only the transformer gets the precision; the rest of the language model is float32.
    audiocraft autocasts to float16 on every GPU. Here the autocast has the precision asked for, or is off for float32,
    and on Metal, where it gives garbled sound.
    """
    import torch  # noqa: PLC0415
    from audiocraft.utils.autocast import TorchAutocast  # noqa: PLC0415

    lm = musicgen.lm
    for part in (lm.emb, lm.linears, lm.out_norm, lm.condition_provider):
        part.float()
    lm.transformer.to(getattr(torch, dtype))
    for parameter in [*musicgen.lm.parameters(), *musicgen.compression_model.parameters()]:
        parameter.requires_grad_(requires_grad=False)
    kinds = {"device_type": musicgen.device.type, "dtype": getattr(torch, dtype)}
    metal = musicgen.device.type == "mps"
    musicgen.autocast = TorchAutocast(enabled=dtype != "float32" and not metal, **kinds)
    if metal:
        for conditioner in lm.condition_provider.conditioners.values():
            conditioner.autocast = TorchAutocast(enabled=False)


def _load(choice: Choice, report: Callable[[str], None]) -> LoadedModel:
    report("importing audiocraft")
    from harmonia_lab.audio_engines.musicgen.audiocraft_standins import load_audiocraft  # noqa: PLC0415

    load_audiocraft()
    import torch  # noqa: PLC0415

    from harmonia_lab.audio_engines.musicgen.device_check import check_model, is_switched_off  # noqa: PLC0415
    from harmonia_lab.audio_engines.musicgen.loading import open_model  # noqa: PLC0415

    if tuple(map(int, torch.__version__.split(".")[:2])) < (2, 6):
        raise unavailable(
            f"torch {torch.__version__} opens checkpoints in a way that can run programs.",
            "Install torch 2.6 or later.",
        )
    device = resolve_device(choice.device)
    dtype = ("float16" if device.type == "cuda" else "float32") if choice.dtype == "auto" else choice.dtype
    if device.type == "cpu" and dtype != "float32":
        raise InvalidRequest(f"A CPU computes in float32, not {dtype}.", hint="Leave dtype at auto.")
    report("checking the files")
    files = open_model(choice.checkpoint.source, report, name=choice.checkpoint.name)
    loaded = _allocate(choice, files, device, dtype, report)
    if device.type == "cpu" or is_switched_off():
        return loaded
    report(f"comparing {device} with the CPU")
    check = check_model(loaded.musicgen.lm, loaded.decoder.weights)
    if check.fault:
        _log.warning("%s. MusicGen runs on the CPU.", check.fault)
        del loaded
        free_memory()
        report(f"{check.fault}. Loading it on the CPU")
        loaded = _allocate(choice, files, torch.device("cpu"), "float32", report)
    return replace(loaded, device_check=check.to_json())


def _allocate(choice: Choice, files: Any, device: Any, dtype: str, report: Callable[[str], None]) -> LoadedModel:
    """Return the model of opened files on a torch.device. Raise AudioError (MUSICGEN_MEMORY) where it doesn't fit."""
    from harmonia_lab.audio_engines.musicgen.decoder import Decoder  # noqa: PLC0415
    from harmonia_lab.audio_engines.musicgen.finite import require_finite_weights  # noqa: PLC0415
    from harmonia_lab.audio_engines.musicgen.fit import need_of, require_room  # noqa: PLC0415
    from harmonia_lab.audio_engines.musicgen.loading import build  # noqa: PLC0415

    name = choice.checkpoint.name
    need = need_of(files, device.type, dtype, choice.decoder)
    require_room(need, available_bytes(device), name, device.type, choice.decoder)
    report(_ALLOCATING[0])
    musicgen = build(files, choice.checkpoint.source, str(device))
    set_precision(musicgen, dtype)
    require_finite_weights(musicgen.compression_model, "the codec's", dtype)
    report(_ALLOCATING[1])
    decoder = Decoder(musicgen.lm, choice.decoder)
    return LoadedModel(choice, musicgen, decoder, device, dtype, choice.checkpoint.digest(files.paths), files.notes)


def _explained(error: Exception, choice: Choice) -> HarmoniaError:
    name = choice.checkpoint.name
    if is_out_of_memory(error):
        return out_of_memory(f"There is not enough memory to load MusicGen {name}.", model=name)
    reason = " ".join(str(error).split())[:300]
    return unavailable(
        f"{name} can't be loaded as a MusicGen model: {type(error).__name__}: {reason}",
        "Get the checkpoint again, or name another model.",
    )
