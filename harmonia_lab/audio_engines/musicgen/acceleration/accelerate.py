"""`harmonia_lab.accelerate`: somebody's own model generates on our decode loop, by its own `generate`.

Owns the public function, which models it knows, and what it returns. Needs neither server nor language model.
"""

from __future__ import annotations

import warnings
from types import TracebackType
from typing import Any, Self

from harmonia_lab.audio_engines.musicgen.acceleration.audiocraft_import import make_importable
from harmonia_lab.audio_engines.musicgen.acceleration.hooks import MethodHook, NotServed
from harmonia_lab.audio_engines.musicgen.settings import DECODERS
from harmonia_lab.errors import InvalidRequest

__all__ = ["Acceleration", "accelerate"]

make_importable()  # a script imports this before it imports audiocraft


class Acceleration:
    """What `accelerate` did to a model. As a context manager, it puts back on leaving what was there before the call:
    the model's own loop, or an earlier acceleration.

    running: the loop that the latest call used, or the next one will: fast, int8, or reference, which is the model's
    own. reason: why that is the model's own, or "".
    """

    def __init__(self, model: str, served: Any, before: str | None, reason: str = "") -> None:
        """served: the ServedModel, or None. before: the mode in which the model was accelerated already, or None."""
        self._model, self._served, self._before, self._reason = model, served, before, reason

    @property
    def reason(self) -> str:
        if self._served is None:
            return self._reason
        return str(self._served.reason) if self._served.installed else "it is undone"

    @property
    def running(self) -> str:
        return "reference" if self.reason else str(self._served.loop)

    def undo(self) -> None:
        """Give the model its own loop back, and free the packed weights. A second time it does nothing."""
        if self._served is not None:
            self._served.remove()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._before is None:
            self.undo()
        else:
            self._served.set_mode(self._before)

    def __repr__(self) -> str:
        return f"<Acceleration of {self._model}: {self.running}{self.reason and f', since {self.reason}'}>"


def accelerate(model: Any, decoder: str = "auto") -> Acceleration:
    """Let the model's own `generate` methods run on our decode loop, with the same tokens and random state.

    model: audiocraft's MusicGen or AudioGen, its language model, or transformers' MusicgenForConditionalGeneration or
    MusicgenMelodyForConditionalGeneration. Everything but the decode loop stays theirs: conditions, windows, codec.
    decoder: "auto" serves where the tokens are the model's own, but for ties within rounding; "fast" also serves
    half precision and autocast, which round elsewhere; "int8" (CPUs) rounds the weights; "reference" changes nothing.

    Packs a copy of the weights now (2.6 s for small on 2 cores), and anew when the model's weights have changed. What
    our loop can't serve, the model's own does, and a warning says why, once for each reason. To accelerate a model
    twice is to accelerate it once. Raise InvalidRequest for something that is no model, or an unknown decoder.
    """
    if decoder not in DECODERS:
        raise InvalidRequest(f"There is no decoder {decoder!r}.", hint=f"Choose one of {', '.join(DECODERS)}.")
    name = type(model).__name__
    if not hasattr(model, "generate"):
        raise InvalidRequest(
            f"accelerate() can't take a {name}.", hint="Pass audiocraft's MusicGen or transformers' MusicGen model."
        )
    served, before = _earlier(model)
    if decoder == "reference":
        if served is not None:
            served.remove()
        return Acceleration(name, None, None, "the decoder asked for is reference")
    try:
        served = served or _served(model, decoder)
    except NotServed as reason:
        warnings.warn(f"{name} can't be accelerated: {reason}.", stacklevel=2)
        return Acceleration(name, None, None, str(reason))
    served.set_mode(decoder)
    try:
        served.packed(called=False)  # now, so that the first song doesn't wait for it
    except NotServed as reason:
        served.warn(str(reason), stacklevel=3)
    return Acceleration(name, served, before)


def _earlier(model: Any) -> tuple[Any, str | None]:
    """Return the ServedModel of an earlier acceleration and its mode, or None for both."""
    for owner, method in ((getattr(model, "lm", None), "generate"), (model, "generate"), (model, "_sample")):
        hook = getattr(owner, "__dict__", {}).get(method)
        if isinstance(hook, MethodHook) and hook.owner is owner:
            return hook.served, hook.served.mode
    return None, None


def _served(model: Any, mode: str) -> Any:
    """Return the model as a ServedModel, with our methods in place. Raise NotServed if it isn't known.

    The modules are imported here because they import torch, and because one of the two peers may not be installed.
    """
    kinds = {f"{kind.__module__}.{kind.__qualname__}" for kind in type(model).__mro__}
    of_audiocraft = "audiocraft.models.genmodel.BaseGenModel" in kinds
    if of_audiocraft or "audiocraft.models.lm.LMModel" in kinds:
        from harmonia_lab.audio_engines.musicgen.acceleration.audiocraft_lm import served_lm  # noqa: PLC0415

        return served_lm(model.lm if of_audiocraft else model, mode)
    if any(kind.startswith("transformers.") for kind in kinds):
        from harmonia_lab.audio_engines.musicgen.acceleration.transformers_musicgen import (  # noqa: PLC0415
            served_transformers,
        )

        return served_transformers(model, mode)
    raise NotServed(f"a {type(model).__name__} is not known")
