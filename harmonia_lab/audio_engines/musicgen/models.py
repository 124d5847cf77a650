"""MusicGen in memory: loading in the background, a cache with eviction, unloading.

Owns the device, the precision, and the lifetime of what was loaded. Which files those are is
`checkpoints.py`'s, what is generated with them `engine.py`'s.
"""

from __future__ import annotations

import importlib.metadata
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from harmonia_lab.audio_engines.musicgen.checkpoints import Checkpoint, unavailable
from harmonia_lab.audio_engines.musicgen.memory import free_memory, is_out_of_memory, out_of_memory
from harmonia_lab.audio_engines.musicgen.settings import Dtype, check_device
from harmonia_lab.engines.base import CancelToken
from harmonia_lab.errors import HarmoniaError, InvalidRequest

__all__ = ["MODELS", "Choice", "LoadedModel", "ModelCache", "resolve_device", "set_precision"]

POLL_S = 0.05


@dataclass(frozen=True)
class Choice:
    """What is loaded, and how. device: auto, cpu, cuda or cuda:N. dtype: auto is float32 on a CPU, float16 on a GPU.

    decoder: a mode of `decoder.Decoder`.
    """

    checkpoint: Checkpoint = field(hash=False)
    device: str = "auto"
    dtype: Dtype = "auto"
    decoder: str = "auto"


@dataclass(frozen=True)
class LoadedModel:
    """musicgen: audiocraft's MusicGen. decoder: our loop over its language model. digest: of its files.

    load_s: seconds that loading took.
    """

    choice: Choice
    musicgen: Any
    decoder: Any
    device: Any
    dtype: str
    digest: dict[str, str]
    load_s: float

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
        """The ChromaStemConditioner of audiocraft; None where the model takes no melody."""
        conditioners = self.musicgen.lm.condition_provider.conditioners
        return conditioners["self_wav"] if "self_wav" in conditioners else None  # noqa: SIM401 - ModuleDict has no get

    def cache_bytes(self, prompts: int, frames: int) -> int:
        """What the decode loop remembers for so many prompts (each with its null prompt) over so many frames."""
        from harmonia_lab.audio_engines.musicgen.cuda_graph_step import round_up  # noqa: PLC0415
        from harmonia_lab.audio_engines.musicgen.kv_cache import cache_bytes  # noqa: PLC0415
        from harmonia_lab.audio_engines.musicgen.lm_weights import compute_dtype  # noqa: PLC0415

        lm = self.musicgen.lm
        positions = frames + lm.num_codebooks + 1
        if self.melody_conditioner is not None:
            positions += self.melody_conditioner.chroma_len
        if self.device.type == "cuda":
            positions = round_up(positions)
        layers = len(lm.transformer.layers)
        return cache_bytes(layers=layers, rows=2 * prompts, width=lm.dim, positions=positions, dtype=compute_dtype(lm))

    def record(self) -> dict[str, Any]:
        """What reproducing needs; plain JSON values."""
        import torch  # noqa: PLC0415

        on_gpu = self.device.type == "cuda"
        return {
            "digest": self.digest,
            "device": torch.cuda.get_device_name(self.device) if on_gpu else "cpu",
            "dtype": self.dtype,
            "threads": torch.get_num_threads(),
            "decoderRunning": self.decoder.running,
            "decoderNote": self.decoder.reason,
            "packings": dict(self.decoder.packings),
            "torch": torch.__version__,
            "audiocraft": importlib.metadata.version("audiocraft"),
        }


class _Entry:
    """A model on its way, or there."""

    def __init__(self) -> None:
        self.status = "starting"
        self.done = threading.Event()
        self.model: LoadedModel | None = None
        self.error: HarmoniaError | None = None
        self.users = 0
        self.used_at = time.monotonic()


class ModelCache:
    """Models by choice. capacity: how many stay loaded; those used longest ago go first, those in use never."""

    def __init__(self, capacity: int = 1) -> None:
        self._capacity = capacity
        self._lock = threading.Lock()
        self._entries: dict[Choice, _Entry] = {}

    def begin(self, choice: Choice) -> None:
        """Starts loading in the background, unless that happened already. Returns at once."""
        self._entry(choice, users=0)

    @contextmanager
    def lease(self, choice: Choice, cancel: CancelToken, report: Callable[[str], None]) -> Iterator[LoadedModel]:
        """The model, loaded; it stays so inside. report: gets a status while it loads.

        Raises AudioError (MUSICGEN_UNAVAILABLE, MUSICGEN_MEMORY), InvalidRequest; Cancelled within 0.1 s. The load
        itself can't be interrupted: it goes on in its thread, and the next song finds the model there.
        """
        there = self.peek(choice) is not None
        entry = self._entry(choice, users=1)
        try:
            if not there:
                report(entry.status)  # however fast the load is
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
                entry.used_at = time.monotonic()

    def loaded(self) -> list[Choice]:
        with self._lock:
            return [choice for choice, entry in self._entries.items() if entry.model is not None]

    def peek(self, choice: Choice) -> LoadedModel | None:
        """The model if it is loaded."""
        with self._lock:
            entry = self._entries.get(choice)
            return entry.model if entry is not None else None

    def unload(self, choice: Choice | None = None, *, keep: Choice | None = None) -> None:
        """Drops `choice`, or every model but `keep`, unless it is in use; gives back what torch holds for reuse.

        What stays gives up the buffers that it keeps from song to song.
        """
        self._drop(choice, keep)
        free_memory()  # once no name here refers to a model any longer

    def _drop(self, choice: Choice | None, keep: Choice | None) -> None:
        with self._lock:
            for each in [choice] if choice is not None else list(self._entries):
                entry = self._entries.get(each)
                if entry is None or not entry.done.is_set() or entry.users:
                    continue
                if each != keep:
                    del self._entries[each]
                elif entry.model is not None:
                    entry.model.decoder.release()

    def _entry(self, choice: Choice, users: int) -> _Entry:
        with self._lock:
            entry = self._entries.get(choice)
            if entry is None or (entry.error is not None):
                self._make_room()
                entry = self._entries[choice] = _Entry()
                # A daemon: an interpreter that ends must not wait for gigabytes.
                threading.Thread(target=self._load, args=(choice, entry), name="harmonia-load", daemon=True).start()
            entry.users += users
            return entry

    def _make_room(self) -> None:
        """Before loading, so that two models need not fit at once."""
        idle = [choice for choice, entry in self._entries.items() if entry.done.is_set() and not entry.users]
        idle.sort(key=lambda choice: self._entries[choice].used_at)
        for choice in idle[: max(0, len(self._entries) - self._capacity + 1)]:
            del self._entries[choice]

    def _load(self, choice: Choice, entry: _Entry) -> None:
        try:
            entry.model = _load(choice, lambda status: setattr(entry, "status", status))
        except HarmoniaError as error:
            entry.error = error
        except Exception as error:  # noqa: BLE001 - audiocraft, transformers and the hub's client raise what they like
            entry.error = _explained(error, choice)
        finally:
            if entry.error is not None:
                entry.error.__cause__ = entry.error.__context__ = entry.error.__traceback__ = None  # they hold tensors
                free_memory()
            entry.done.set()


MODELS = ModelCache()
"""One for the process: two labs in a notebook share it."""


def resolve_device(asked: str) -> Any:
    """A torch device. Raises InvalidRequest, or AudioError (MUSICGEN_UNAVAILABLE) for one that is not there."""
    import torch  # noqa: PLC0415

    check_device(asked)
    if asked == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    device = torch.device(asked)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        seen = torch.cuda.device_count()
        raise unavailable(
            f"The device {asked} was asked for, but torch {torch.__version__} sees {seen} CUDA devices.",
            "Choose device=cpu or auto, or install the GPU's driver and a CUDA build of torch.",
        )
    return device


def set_precision(musicgen: Any, dtype: str) -> None:
    """Prepare audiocraft's MusicGen for decoding in `dtype` (float32, float16, bfloat16), without gradients.

    As audiocraft has it on a GPU, the precision is the transformer's, and the rest of the language model stays in
    float32. audiocraft autocasts to float16 on every GPU; here float32 means float32, and bfloat16 bfloat16.
    """
    import torch  # noqa: PLC0415
    from audiocraft.utils.autocast import TorchAutocast  # noqa: PLC0415

    lm = musicgen.lm
    for part in (lm.emb, lm.linears, lm.out_norm, lm.condition_provider):
        part.float()
    lm.transformer.to(getattr(torch, dtype))
    for parameter in [*musicgen.lm.parameters(), *musicgen.compression_model.parameters()]:
        parameter.requires_grad_(requires_grad=False)
    enabled = dtype != "float32"
    kinds = {"device_type": musicgen.device.type, "dtype": getattr(torch, dtype)} if enabled else {}
    musicgen.autocast = TorchAutocast(enabled=enabled, **kinds)


def _load(choice: Choice, report: Callable[[str], None]) -> LoadedModel:
    started = time.perf_counter()
    report("importing audiocraft")
    from harmonia_lab.audio_engines.musicgen.audiocraft_standins import load_audiocraft  # noqa: PLC0415

    load_audiocraft()
    import torch  # noqa: PLC0415
    from audiocraft.models.musicgen import MusicGen  # noqa: PLC0415

    from harmonia_lab.audio_engines.musicgen.decoder import Decoder  # noqa: PLC0415

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
    choice.checkpoint.check()
    report("reading the weights")
    musicgen = MusicGen.get_pretrained(choice.checkpoint.source, device=str(device))
    set_precision(musicgen, dtype)
    report("preparing the decoder")
    decoder = Decoder(musicgen.lm, choice.decoder)
    digest = choice.checkpoint.digest()
    return LoadedModel(choice, musicgen, decoder, device, dtype, digest, time.perf_counter() - started)


def _explained(error: Exception, choice: Choice) -> HarmoniaError:
    name, folder = choice.checkpoint.name, choice.checkpoint.folder
    if is_out_of_memory(error):
        return out_of_memory(f"There is not enough memory to load MusicGen {name}.", model=name)
    said = " ".join(str(error).split())[:300]
    libraries = {type_.__module__.partition(".")[0] for type_ in type(error).__mro__}
    from_hub = bool(libraries & {"huggingface_hub", "httpx", "httpx2", "requests", "urllib3"})
    if folder is None and (from_hub or isinstance(error, OSError)):
        return unavailable(
            f"{name} is not on this machine, and the model hub that has it can't be reached: {said}",
            "Check the connection, and the name; or give a folder: --audio-model FOLDER",
        )
    if folder is not None and (from_hub or isinstance(error, OSError)):
        return unavailable(
            f"{name} needs a text encoder that is not in it, and the model hub that has it can't be reached: {said}",
            f"Save the text encoder and its tokenizer (transformers' save_pretrained) in {folder / 't5'}.",
        )
    return unavailable(
        f"{name} can't be loaded as a MusicGen model: {type(error).__name__}: {said}",
        "Get the checkpoint again, or name another model.",
    )
