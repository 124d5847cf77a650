"""`LiveChart`: the widget of `RunChart`, for pages with a kernel.

Owns its trait and its sources; `runs.js` is its front end.
"""

from __future__ import annotations

from pathlib import Path

import traitlets

from harmonia_lab.player.modules import joined, once_a_page, runs_style
from harmonia_lab.widgets.page_widget import PageWidget

__all__ = ["LiveChart"]

_SCRIPT = Path(__file__).with_name("runs.js")

STILL_IS_HIDDEN = ".jp-OutputArea:has(.hl-runs) .jp-OutputArea-child:has(.hl-runs-still) { display: none; }"
"""The cell's still chart shows the same."""


class LiveChart(PageWidget):
    """runs: what `analysis.run_points.run_points` says."""

    _esm = once_a_page(_SCRIPT)
    _code = traitlets.Unicode(joined(_SCRIPT)).tag(sync=True)
    _css = f"{runs_style()}\n{STILL_IS_HIDDEN}\n.hl-runs {{ padding: 0.3rem 0.5rem; }}"
    runs = traitlets.Dict().tag(sync=True)

    def __repr__(self) -> str:
        """Return what a page without a kernel shows in place of the chart."""
        return f"{len(self.runs.get('runs', []))} runs"
