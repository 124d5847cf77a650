"""Outputs of cells: how one is published, replaced later, and folded into one.

Owns the calls to IPython, which is loaded only here and only when something is shown.
"""

from __future__ import annotations

from html import escape
from typing import Any

__all__ = ["Still", "display_object", "folded", "publish"]


class Still:
    """One output as a value, for front ends that ask a value for its `_repr_mimebundle_`."""

    def __init__(self, bundle: dict[str, Any]) -> None:
        self._bundle = bundle

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, Any]:
        del include, exclude
        return self._bundle


def display_object(shown: Any) -> None:
    """Show a value in the running cell, as IPython's `display` does."""
    from IPython.display import display  # noqa: PLC0415 - see the module's head

    display(shown)  # type: ignore[no-untyped-call]  # IPython has no types here


def publish(bundle: dict[str, Any], display_id: str, *, update: bool = False) -> None:
    """Publish an output of the running cell, or replace the one with that id, whatever thread or cell runs."""
    from IPython.display import publish_display_data  # noqa: PLC0415 - see the module's head

    publish_display_data(  # type: ignore[no-untyped-call]  # IPython has no types here
        bundle, transient={"display_id": display_id}, update=update
    )


def folded(words: dict[str, Any], picture: dict[str, Any]) -> dict[str, Any]:
    """Return one output of two, for front ends that show one: the picture becomes part of the HTML."""
    png = picture.get("image/png")
    if png is None:
        return words
    image = f'<img alt="{escape(picture["text/plain"])}" style="max-width: 100%" src="data:image/png;base64,{png}">'
    return words | {"text/html": f"{words['text/html']}\n{image}"}
