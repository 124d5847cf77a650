"""One accelerated model: its methods replaced, its weights packed, and its own loop where ours can't serve a call.

Owns when weights are packed again, the lock around the model's own loop, and the warning with the reason. What a
model's weights are, and which calls are served, is for the subclasses.
"""

from __future__ import annotations

import threading
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

from torch import Tensor

from harmonia_lab.audio_engines.musicgen.acceleration.hooks import MethodHook, NotServed, replaced_by_others
from harmonia_lab.audio_engines.musicgen.acceleration.weight_stamps import WeightStamp
from harmonia_lab.audio_engines.musicgen.memory import is_out_of_memory
from harmonia_lab.errors import HarmoniaError

__all__ = ["ServedModel"]

Packed = TypeVar("Packed")


class ServedModel(ABC, Generic[Packed]):
    """A model whose methods are replaced by ours. owner: the module that has them.

    mode: auto, fast or int8; see `accelerate`. peers: whose loop serves what ours can't, as a genitive. loop: what ours
    decodes with, fast or int8. reason: why theirs served the latest call, or will serve the next one; "" if ours did.
    """

    peers: str

    def __init__(self, owner: Any, mode: str) -> None:
        self.owner, self.mode, self.loop, self.reason = owner, mode, _loop(mode), ""
        self._hooks: list[MethodHook] = []
        self._said: set[str] = set()
        self._packing, self._theirs = threading.Lock(), threading.RLock()
        self._packed: Packed | None = None
        self._stamp: WeightStamp | None = None

    @property
    def installed(self) -> bool:
        """Whether the owner has our methods."""
        return bool(self._hooks)

    @abstractmethod
    def check_model(self, *, called: bool) -> None:
        """Raise NotServed if our loop can't decode with the model as it is now. called: as for `packed`."""

    @abstractmethod
    def weights(self) -> Sequence[Tensor]:
        """Return the tensors that are packed."""

    @abstractmethod
    def pack(self) -> Packed:
        """Return what our loop reads, made from the model as it is now; and set `loop`."""

    def install(self, methods: dict[str, Callable[..., Any]]) -> None:
        """Replace methods of the owner. Raise NotServed if somebody has replaced one of them already."""
        for name in methods:
            if replaced_by_others(self.owner, name):
                raise NotServed(f"its method {name} has been replaced")
        self._hooks = [MethodHook(self.owner, name, method, self) for name, method in methods.items()]
        for hook in self._hooks:
            hook.install()

    def remove(self) -> None:
        """Put back the owner's methods, and free the packed weights."""
        for hook in self._hooks:
            hook.remove()
        self._hooks = []
        self.release()

    def release(self) -> None:
        """Free the packed weights. A generation that uses them keeps them until its end."""
        with self._packing:
            self._packed, self._stamp = None, None

    def set_mode(self, mode: str) -> None:
        """Decode in this mode from the next call on."""
        if mode != self.mode:
            self.mode, self.loop = mode, _loop(mode)
            self.release()

    def packed(self, *, called: bool = True) -> Packed:
        """Return the packed weights of the model as it is now. Raise NotServed if there can be none.

        called: whether this is for a call, under the autocast that it finds; otherwise for calls to come, under the
        peer's.
        """
        with self._packing:
            self.check_model(called=called)
            tensors = self.weights()
            if self._packed is None or self._stamp is None or not self._stamp.matches(tensors):
                self._packed = None  # freed before the new ones are made
                self._stamp = WeightStamp(tensors)
                self._packed = self._pack()
            self.reason = ""
            return self._packed

    def _pack(self) -> Packed:
        try:
            return self.pack()
        except HarmoniaError as error:
            raise NotServed(str(error)) from error
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            raise NotServed("there is not enough memory for a packed copy of its weights") from error

    def fall_back(self, reason: object, theirs: Callable[[], Any]) -> Any:
        """Return what the model's own loop returns; one call at a time, since its state is the model's."""
        self.warn(str(reason), stacklevel=5)
        with self._theirs:
            return theirs()

    def warn(self, reason: str, stacklevel: int) -> None:
        """Keep the reason, and warn of it once. stacklevel: 2 names the line that called this method."""
        self.reason = reason
        if reason not in self._said:
            self._said.add(reason)
            warnings.warn(f"{self.peers} own loop generates, not Harmonia Lab's: {reason}.", stacklevel=stacklevel)


def _loop(mode: str) -> str:
    return "int8" if mode == "int8" else "fast"
