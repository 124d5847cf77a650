"""A method of one object, replaced by a function, and put back exactly.

Owns what copies and pickles of the object get in its place. Which methods are replaced is for `served_model.py`.
Imports nothing heavy.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from types import MethodType
from typing import Any

__all__ = ["MethodHook", "NotServed", "replaced_by_others"]

_ABSENT: Any = object()


class NotServed(Exception):
    """Our loop can't serve this model or this call. The message is the reason."""


class MethodHook:
    """Stands in the `__dict__` of `owner` under the name of a method of its class, and calls `function`.

    A deep copy of the owner, or an unpickled one, has its class's own method there: copies don't share the packed
    weights, and pickles load where this package isn't installed. served: the model that `function` belongs to.
    """

    def __init__(self, owner: Any, name: str, function: Callable[..., Any], served: Any) -> None:
        functools.update_wrapper(self, MethodType(getattr(type(owner), name), owner))
        self.owner, self.name, self.function, self.served = owner, name, function, served
        self._before = owner.__dict__.get(name, _ABSENT)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.function(*args, **kwargs)

    def __reduce__(self) -> tuple[Any, ...]:
        return getattr, (self.owner, self.name)  # as a bound method is reduced, and found before the state is restored

    def install(self) -> None:
        """Put the hook into the owner's `__dict__`, past `nn.Module.__setattr__`."""
        self.owner.__dict__[self.name] = self

    def remove(self) -> None:
        """Put back what was there, unless somebody has replaced the hook since."""
        attributes = self.owner.__dict__
        if attributes.get(self.name) is not self:
            return
        if self._before is _ABSENT:
            del attributes[self.name]
        else:
            attributes[self.name] = self._before


def replaced_by_others(owner: Any, name: str) -> bool:
    """Return whether `owner` has a method of its own under `name`: neither its class's nor a hook."""
    own = owner.__dict__.get(name)
    if own is None or isinstance(own, MethodHook):
        return False
    # A copy of an accelerated object holds its class's method, bound.
    return getattr(own, "__self__", None) is not owner or own.__func__ is not getattr(type(owner), name)
