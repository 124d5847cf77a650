"""`Chart`: a matplotlib figure that a notebook shows on its own ground, light or dark.

Owns that output. No ink stands out from a white and from a dark page at once (4.5 : 1 on both leaves no grey between
them), and a notebook's theme is known in the page alone; so the page turns the picture's lightness around.
"""

from __future__ import annotations

import base64
import io
from html import escape
from typing import Any

from matplotlib.figure import Figure

__all__ = ["Chart"]

DARK = "filter: invert(1) hue-rotate(180deg)"
"""What a dark page does: white becomes black, ink becomes light, and a colour keeps its hue."""

STYLE = (
    ".hl-picture-chart { max-width: 100%; }\n"
    f':is([data-jp-theme-light="false"], .vscode-dark, [theme="dark"]) .hl-picture-chart {{ {DARK}; }}'
)


class Chart(Figure):
    """As its base class, which has everything else."""

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, Any]:
        """Return the picture for pages with a theme, and as it is for code hosts and papers."""
        del include, exclude
        buffer = io.BytesIO()
        self.savefig(buffer, format="png")
        picture = base64.b64encode(buffer.getvalue()).decode()
        told = "; ".join(dict.fromkeys(filter(None, (axes.get_ylabel() or axes.get_xlabel() for axes in self.axes))))
        image = f'<img class="hl-picture-chart" alt="Chart: {escape(told)}" src="data:image/png;base64,{picture}">'
        return {"text/html": f"<style>{STYLE}</style>{image}", "image/png": picture, "text/plain": f"Chart: {told}"}
