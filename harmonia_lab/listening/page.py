"""The listener's page: one file that holds the test and its sounds, or the same page without them, for a server.

Owns the page's head and what is put into it; its script is `page.js`, its looks are `page.css`. Texts reach the page as
JSON, and it shows them as text, never as markup. What a sound is stays in the key.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harmonia_lab.player.modules import joined

__all__ = ["offline_page", "served_page", "served_policy"]

_HERE = Path(__file__).parent

_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="referrer" content="no-referrer">
{policy}<link rel="icon" href="data:,">
<title>Listening test</title>
<style>{style}</style>
</head>
<body>
<main><h1>Listening test</h1><noscript><p>This test needs JavaScript.</p></noscript></main>
{data}
<script type="module">{script}</script>
</body>
</html>
"""
_OFFLINE = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"


def offline_page(test: Mapping[str, Any], sounds: Mapping[str, bytes]) -> bytes:
    """Return the page with the test (`ListeningDesign.for_listeners`) and all its sounds, by stimulus."""
    # Inside a script element, only "<" could end it; base64 has none.
    plain = json.dumps(test).replace("<", "\\u003c")
    parts = [f'<script type="application/json" id="test">{plain}</script>']
    parts += [
        f'<script type="text/plain" id="{name}">{base64.b64encode(sound).decode()}</script>'
        for name, sound in sounds.items()
    ]
    return _page(f'<meta http-equiv="Content-Security-Policy" content="{_OFFLINE}">\n', "\n".join(parts))


def served_page() -> bytes:
    """Return the page that asks its server for the test and the sounds: the same for every test."""
    return _page("", '<script type="text/plain" id="served">yes</script>')


def served_policy() -> str:
    """Return the Content-Security-Policy of `served_page`, which allows its own script and style, by digest."""
    style, script = _digest(_style()), _digest(_script())
    return (
        f"default-src 'none'; img-src data:; style-src 'sha256-{style}'; script-src 'sha256-{script}';"
        " connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


def _digest(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _page(policy: str, data: str) -> bytes:
    return _PAGE.format(policy=policy, style=_style(), data=data, script=_script()).encode()


def _style() -> str:
    return (_HERE / "page.css").read_text("utf-8")


def _script() -> str:
    return joined(_HERE / "page.js")
