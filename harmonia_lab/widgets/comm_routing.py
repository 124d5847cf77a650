"""Where the kernel handles what a page sends to one of our widgets: where the page asked for it to be handled.

Owns a correction of ipykernel 7.4, which remembers for each comm the subshell of the request during which something was
last published on it, and takes the page's next message there instead. A panel publishes from a thread, which belongs to
no request: ipykernel then counts the last request of anybody. After a page was reloaded that one often was the widget
manager's own, which asked for all states by a subshell that it deleted right after; every click was then refused
("Unknown subshell_id") until some other request came. And what was shown by a cell, like a form, heard no click while
another cell ran.
"""

from __future__ import annotations

from typing import Any

__all__ = ["handle_where_asked"]


def handle_where_asked(*widgets: Any) -> None:
    """From then on their messages are handled in the subshell that the page names, else in the main shell. JupyterLab
    names one of its own for widgets: a click is then heard beside a busy cell as well.

    Other kernels, and ipykernel before 7.4, do so already: nothing is changed there.
    """
    for widget in widgets:
        if hasattr(widget.comm, "_reply_subshell_for"):
            widget.comm._reply_subshell_for = _as_asked  # noqa: SLF001 - there is no public way to say it


def _as_asked(_data: object, asked: str | None) -> str | None:
    return asked
