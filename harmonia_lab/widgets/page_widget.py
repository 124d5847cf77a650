"""`PageWidget`: an anywidget of which a page keeps its code once, and nothing large when it is closed.

Owns how the code reaches the page, and what is freed. The sources are given as text: of a path, anywidget makes an
object that refers to every widget of the class for ever (its issue #929).
"""

from __future__ import annotations

from typing import ClassVar

import anywidget
import traitlets

__all__ = ["PageWidget"]


class PageWidget(anywidget.AnyWidget):
    """A subclass sets `_esm` to `once_a_page(path)`, and `_code` to a trait whose default is `joined(path)`, both of
    `player/modules.py`."""

    _code = traitlets.Unicode().tag(sync=True)
    large: ClassVar[tuple[str, ...]] = ()
    """Names of traits whose values are bytes that a closed widget needs no more."""

    def close(self) -> None:
        """Remove the widget from every page. Idempotent."""
        if self.comm is not None:
            # JupyterLab (4.6) keeps the model of a widget that is closed, with all its values, and ipywidgets those
            # before the last message. An empty style sheet leaves the page's own, which other widgets need, as it is.
            with self.hold_sync():
                self._css = self._code = ""
                for name in self.large:
                    setattr(self, name, b"")
            self.send_state("_code")
        super().close()
