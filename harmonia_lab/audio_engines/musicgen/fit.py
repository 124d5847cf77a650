"""The memory that a MusicGen model needs, before it is loaded.

Owns the estimate, from the shapes of opened weights or from a released model's name, and the refusal that says what
fits. How much memory there is, `memory.py` says. Imports nothing heavy.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from harmonia_lab.audio_engines.musicgen.memory import out_of_memory

__all__ = ["Need", "need_of", "need_of_name", "need_of_shape", "require_room"]

_SHAPES = {"small": (1024, 24), "medium": (1536, 48), "large": (2048, 48), "melody": (1536, 48)}
"""Width and layers of the released models (random_checkpoint.py has the same)."""

_T5_BASE, _ENCODEC = 109_628_544, 59_000_000
"""Parameters of T5-base's encoder, and of the released codec."""

_ON_GPU = 600 * 2**20
"""Bytes of a GPU that torch's context, libraries and recorded graphs take."""


@dataclass(frozen=True)
class Need:
    """Bytes. weights: of all parts. packed: the decoder's own copies. cache: keys and values of one prompt's window.

    other: what the device takes besides.
    """

    weights: int
    packed: int
    cache: int
    other: int = 0

    @property
    def total(self) -> int:
        return self.weights + self.packed + self.cache + self.other

    def __str__(self) -> str:
        packed = f", {_gb(self.packed)} their packed copy" if self.packed else ""
        return f"{_gb(self.total)} ({_gb(self.weights)} weights{packed}, {_gb(self.cache)} keys and values)"


def need_of(files: Any, device: str, dtype: str, decoder: str) -> Need:
    """Return what opened files (`model_files.ModelFiles`) need. device: cpu or cuda…. dtype: of the transformer."""
    state: Mapping[str, Any] = files.weights
    matrices = [t for name, t in state.items() if name.startswith("transformer.") and t.dim() == 2]
    cross = [t.numel() for name, t in state.items() if name.endswith("cross_attention.in_proj_weight")]
    heads = sum(t.numel() for name, t in state.items() if name.startswith("linears."))
    tables = sum(t.numel() for name, t in state.items() if name.startswith("emb."))
    inside = sum(t.numel() for t in state.values())
    transformer = sum(t.numel() for t in matrices)
    parts = [_size(files.codec), _size(files.text)]
    half = bool(matrices) and _is_half(matrices[0])
    lm = files.config["transformer_lm"]
    codebooks = int(lm.get("n_q", 4))
    window = _positions(float(files.config["dataset"].get("segment_duration", 30)), codebooks, files.config)
    return _need(
        transformer=transformer,
        packable=transformer - sum(cross) * 2 // 3 + heads,  # of cross attention, the queries' third alone
        other=inside - transformer + sum(parts),
        copies=tables + heads,
        cache=int(lm["num_layers"]) * 2 * 2 * window * int(lm["dim"]),
        half=half,
        device=device,
        dtype=dtype,
        decoder=decoder,
    )


def need_of_name(name: str, device: str = "cpu", dtype: str = "auto", decoder: str = "auto") -> Need | None:
    """Return what a released model (`checkpoints.NAMES`) needs; None for another name."""
    words = name.removeprefix("facebook/musicgen-").split("-")
    scale = next((word for word in ("large", "medium", "small", "melody") if word in words), None)
    if scale is None:
        scale = "small" if name == "stereo" else None
    if scale is None or not {*words} <= {"stereo", "melody", "small", "medium", "large"}:
        return None
    width, layers = _SHAPES[scale]
    return need_of_shape(
        width=width,
        layers=layers,
        codebooks=8 if "stereo" in words else 4,
        melody="melody" in words,
        device=device,
        dtype=dtype,
        decoder=decoder,
    )


def need_of_shape(
    *,
    width: int,
    layers: int,
    codebooks: int,
    melody: bool,
    card: int = 2048,
    device: str = "cpu",
    dtype: str = "auto",
    decoder: str = "auto",
) -> Need:
    """Return what a model of this shape needs, with T5-base, the released codec, and weights stored in float16."""
    heads, tables = codebooks * card * width, codebooks * (card + 1) * width
    transformer = layers * width * width * (12 if melody else 16)
    positions = 1500 + codebooks + 1 + (235 if melody else 0)
    return _need(
        transformer=transformer,
        packable=transformer - (0 if melody else layers * 2 * width * width) + heads,
        other=heads + tables + 768 * width + _T5_BASE + _ENCODEC,
        copies=tables + heads,
        cache=layers * 2 * 2 * positions * width,
        half=True,
        device=device,
        dtype=dtype,
        decoder=decoder,
    )


def require_room(need: Need, available: int, name: str, device: str, decoder: str) -> None:
    """Raise AudioError (MUSICGEN_MEMORY) if `need` is more than the bytes that are available, with what fits."""
    if need.total <= available:
        return
    offers = [
        f"{other} ({_gb(size.total)})"
        for other in ("large", "medium", "small")
        if (size := need_of_name(other, device, decoder=decoder)) is not None and size.total <= available
    ]
    if need.packed and need.total - need.packed <= available:
        offers.insert(0, f"this model with decoder=reference ({_gb(need.total - need.packed)}, slower)")
    if device.startswith("cuda"):
        offers.append("this model with device=cpu, if the machine has the memory")
    where = "the GPU" if device.startswith("cuda") else "this machine or its limits"
    raise out_of_memory(
        f"MusicGen {name} would take about {need}, and {where} has {_gb(available)} left.",
        hint=f"What fits: {', '.join(offers)}." if offers else "No MusicGen model fits: close what else uses memory.",
        model=name,
        needed_bytes=need.total,
        available_bytes=available,
        fits=offers,
    )


def _need(
    *,
    transformer: int,
    packable: int,
    other: int,
    copies: int,
    cache: int,
    half: bool,
    device: str,
    dtype: str,
    decoder: str,
) -> Need:
    """Return bytes from numbers of values. packable: of the matrices that a CPU packs. copies: float32 regroupings."""
    on_gpu = device.startswith("cuda")
    chosen = ("float16" if on_gpu else "float32") if dtype == "auto" else dtype
    width = 4 if chosen == "float32" else 2
    packed = 0
    if decoder != "reference":
        packed = copies * 4
        if device.startswith("cpu"):
            packed += packable * (1 if decoder == "int8" else 2 if half else 4)
    return Need(transformer * width + other * 4, packed, cache * width, _ON_GPU if on_gpu else 0)


def _positions(seconds: float, codebooks: int, config: Mapping[str, Any]) -> int:
    melody = "self_wav" in (config.get("conditioners") or {})
    return round(50 * seconds) + codebooks + 1 + (round(7.8125 * seconds) + 1 if melody else 0)


def _size(part: Any) -> int:
    """Return the number of values of a codec or a text encoder that was opened; a usual one where it wasn't."""
    weights = getattr(part, "weights", None)
    if isinstance(weights, Mapping):
        return sum(t.numel() for t in weights.values())
    folder = getattr(part, "folder", None)
    if folder is None:
        return 0
    from harmonia_lab.audio_engines.musicgen.weight_files import weight_files  # noqa: PLC0415

    return sum(path.stat().st_size for path in weight_files(folder) if path.is_file()) // 4


def _is_half(matrix: Any) -> bool:
    import torch  # noqa: PLC0415

    return matrix.dtype == torch.float16 or bool(torch.equal(matrix.half().float(), matrix.float()))


def _gb(count: int) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 5e7 else f"{count / 1e6:.1f} MB"
