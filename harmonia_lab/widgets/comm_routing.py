"""Where the kernel handles a message that a page sends to one of our widgets: in the subshell that the page names.

Owns a correction of ipykernel 7.4. For each comm, ipykernel remembers the subshell of the request during which
something was last published on it, and handles the page's next message there, not where the page asked. A panel
publishes from a thread, which belongs to no request: ipykernel then takes the kernel's last request of any kind. After
a page was reloaded, that often was the widget manager's own, which asks for all states in a subshell and then deletes
the subshell; ipykernel refused every click ("Unknown subshell_id") until another request came. And a widget that a cell
had shown, such as a form, got no click while another cell ran.
"""

from __future__ import annotations

from typing import Any

__all__ = ["use_requested_subshell"]


def use_requested_subshell(*widgets: Any) -> None:
    """Make the kernel handle these widgets' messages in the subshell that the page names, else in the main shell.

    JupyterLab names one of its own for widgets, so that clicks are handled while a cell runs. Other kernels, and
    ipykernel before 7.4, do so already: there this changes nothing.
    """
    for widget in widgets:
        if hasattr(widget.comm, "_reply_subshell_for"):
            widget.comm._reply_subshell_for = _requested_subshell  # noqa: SLF001 - ipykernel has no public setting


def _requested_subshell(_data: object, requested: str | None) -> str | None:
    return requested
