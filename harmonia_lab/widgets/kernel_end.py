"""The moment at which a Jupyter kernel is told to exit, before it ends its child processes.

Owns that hook. A notebook that papermill runs to its end exits so, with songs that nobody waits for, and so does
"Restart": the renderers are killed first, which must not be taken for their own failure.
"""

from __future__ import annotations

import contextlib
import sys
import weakref
from collections.abc import Callable
from typing import Any

__all__ = ["when_kernel_ends"]


def when_kernel_ends(callback: Callable[[], object]) -> None:
    """Call `callback`, a bound method, when this process's kernel is told to exit, if its object still lives then.

    Do nothing outside a kernel.
    """
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    if shell is None or getattr(shell, "kernel", None) is None:
        return
    method = weakref.WeakMethod(callback)

    def told(change: Any) -> None:
        living = method()
        if living is not None and change["new"]:
            with contextlib.suppress(Exception):  # the kernel must exit all the same
                living()

    # ipykernel sets this trait when it has read the request, in the thread that then ends the children.
    shell.observe(told, "exit_now")
