"""`study.html`: the study on one page that needs no network and plays its songs.

Owns what stands on the page; its looks are in `study.html` beside this file. Texts that a person or a model wrote are
escaped, and the page's policy lets no script run but the one of its chart (`player/runs_page.js`), by its digest, and
sounds in the folder beside. Figures are SVG inside `data:` addresses; where no script runs, they are all there is.
"""

from __future__ import annotations

import base64
import hashlib
import html
import importlib.resources
import io
import json
import warnings
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harmonia_lab.analysis.run_points import RunPoints, run_points
from harmonia_lab.errors import HarmoniaError
from harmonia_lab.player.modules import PLAYER_JS, joined, runs_style
from harmonia_lab.player.page import ListeningSong, PageSounds, has_digest, json_in_page, sounds_of_page
from harmonia_lab.player.song import files_of
from harmonia_lab.storage import write_bytes
from harmonia_lab.study.reproduction import Reproduction
from harmonia_lab.study.result import StudyResult

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from harmonia_lab.analysis.compare import Comparison

__all__ = ["write_page"]

MAX_STORY = 600
"""Characters of a story that the page shows; `study.json` has the whole."""


def write_page(report: StudyResult, again: Reproduction | None) -> Path:
    """Write the page into the study's folder, and return its path. again: what came out as before.

    Raises StorageError.
    """
    template = importlib.resources.files("harmonia_lab.study").joinpath("study.html").read_text(encoding="utf-8")
    comparisons = report.comparisons()
    points = run_points(report.frame_by_configuration(), report.primary, "configuration", report.folder.path)
    script = joined(PLAYER_JS.with_name("runs_page.js"))
    parts = {
        "STYLE": runs_style(),
        "SCRIPT": f'<script type="module">{script}</script>',
        "TITLE": _text(report.record.design["name"]),
        "DESIGN": _design(report),
        "RESULT": _result(report, comparisons) + _again(again),
        "FIGURES": _figures(report, comparisons),
        "DETAILS": _details(report),
        "DATA": _data(report, comparisons),
    }
    digest = hashlib.sha256(json.dumps([template, parts, points.values]).encode()).hexdigest()
    if has_digest(report.folder.page, digest):
        return report.folder.page  # to encode the songs of a large study takes a minute
    sounds = _sounds(report.folder.page, points)
    where, more = ("beside", " 'self' file:") if sounds.beside else ("here", "")
    policy = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    parts |= {
        "HEAD": f'<meta name="content-digest" content="{digest}">\n<meta name="sounds" content="{where}">',
        "POLICY": f"script-src 'sha256-{policy}'{more}",
        "WHERE": _where(sounds.beside),
        "RUNS": json_in_page(points.values | {"songs": sounds.songs}),
        "SOUNDS": sounds.scripts,
    }
    for name, content in parts.items():
        template = template.replace(f"<!--{name}-->", content)
    write_bytes(report.folder.page, template.encode())
    return report.folder.page


def _sounds(page: Path, points: RunPoints) -> PageSounds:
    """Return the songs with their sounds. A run whose song can't be read any more has none from then on."""
    songs = list[ListeningSong]()
    for run in points.values["runs"]:
        song = None if run["song"] is None else _song(points, run["song"])
        run["song"] = None if song is None else len(songs)
        if song is not None:
            songs.append(song)
    return sounds_of_page(page, songs)


def _song(points: RunPoints, number: int) -> ListeningSong | None:
    """Return a song for the page, without the folders of this machine; None if it can't be read any more."""
    try:
        facts = points.song(number)
        about = [[name, points.folders[number].name if name == "Folder" else value] for name, value in facts["about"]]
        return ListeningSong(facts | {"about": about}, files_of(points.folders[number]))
    except HarmoniaError:
        return None


def _where(beside: Path | None) -> str:
    if beside is None:
        return "The songs' sounds are in this page, without stems: <code>lab.listen(folder)</code> plays those."
    return f"The songs' sounds are in the folder <code>{_text(beside.name)}</code> beside this page: copy both."


def _design(report: StudyResult) -> str:
    design, record = report.record.design, report.record
    again = f" It repeats {_text(record.again)}." if record.again else ""
    claim = "the ratio of geometric means" if design["claim"] == "mean" else "the ratio of typical runs"
    cells = [
        (name, _engines(record.engines.get(name) or {}), json.dumps(given, ensure_ascii=False))
        for name, given in design["configurations"].items()
    ]
    return (
        f"<p>{len(record.blocks)} blocks; in each, every configuration made one song of the same story, seed and"
        f" length, in an order drawn with seed {design['order_seed']}. The primary column, named before the first"
        f" song, is <code>{_text(report.primary)}</code>; claimed is {claim}; ratios from"
        f" {design['smallest_ratio']:g} on matter.{again}</p>"
        + _table(("configuration", "engines", "parameters"), cells)
    )


def _engines(engines: dict[str, Any]) -> str:
    return "; ".join(
        " ".join(filter(None, [stage["engine"], str(stage["model"]) if stage.get("model") else ""]))
        for stage in engines.values()
        if stage
    )


def _result(report: StudyResult, comparisons: Sequence[Comparison]) -> str:
    parts = []
    for comparison in comparisons:
        parts += [f"<h3>{_text(comparison.names[1])} over {_text(comparison.names[0])}</h3>", comparison.to_html()]
    missing = [f"block {m.block}, {m.configuration}: [{m.error.code}] {m.error.message}" for m in report.missing]
    if missing:
        parts.append(f"<h3>Songs that could not be made</h3>{_list(missing)}")
    return "".join(parts)


def _again(again: Reproduction | None) -> str:
    return f"<h3>Against {_text(again.before)}</h3>{_list(again.lines())}" if again else ""


def _figures(report: StudyResult, comparisons: Sequence[Comparison]) -> str:
    from harmonia_lab.analysis import charts  # noqa: PLC0415 - takes half a second

    primary, frame = report.primary, report.frame_by_configuration()
    if not (frame["status"] == "completed").any():
        return "<p>No run has completed.</p>"
    every = _figure(lambda: charts.blocks(frame, primary, by="configuration"),
                    f"{primary} of every run; a line joins the runs of one block")  # fmt: skip
    parts = [f'<div data-runs="">{every}</div>']
    parts += [
        _figure(partial(charts.ratios, comparison), f"Ratios, {comparison.names[1]} over {comparison.names[0]}")
        for comparison in comparisons
    ]
    if len(comparisons) > 1:
        parts.append(
            _figure(lambda: charts.forest(comparisons), f"{primary}: every other configuration over the first")
        )
    parts.append(_figure(lambda: charts.spread(frame, primary, by="configuration"), f"{primary} in the order of runs"))
    parts.append(_figure(lambda: charts.stage_latency(frame, by="configuration"), "Steps of a song"))
    return "".join(parts)


def _figure(draw: Callable[[], Figure], caption: str) -> str:
    import matplotlib as mpl  # noqa: PLC0415 - as above

    buffer = io.BytesIO()
    with mpl.rc_context({"svg.hashsalt": "harmonia", "svg.fonttype": "none"}), warnings.catch_warnings():
        # The browser writes the texts, with its own fonts.
        warnings.filterwarnings("ignore", "Glyph .* missing from")
        draw().savefig(buffer, format="svg", metadata={"Date": None})
    picture = base64.b64encode(buffer.getvalue()).decode()
    alt = html.escape(caption, quote=True)
    return (
        f'<figure><img alt="{alt}" src="data:image/svg+xml;base64,{picture}"><figcaption>{_text(caption)}</figcaption>'
        "</figure>"
    )


def _details(report: StudyResult) -> str:
    design, record = report.record.design, report.record
    stories = [_shortened(story.get("narrative") or f"metadata given: {story['metadata']['title']}")
               for story in design["stories"]]  # fmt: skip
    order = [(str(b.number), str(b.story), str(b.seed), f"{b.seconds:g}", ", ".join(b.order)) for b in record.blocks]
    code = f"Harmonia Lab {record.version}" + (f", commit {record.git_commit}" if record.git_commit else "")
    packages = report.folder.packages()
    return (
        f"<h3>Stories</h3><ol>{''.join(f'<li>{_text(story)}</li>' for story in stories)}</ol>"
        f"<details><summary>Blocks and their drawn order</summary>"
        f"{_table(('block', 'story', 'seed', 'seconds', 'order'), order)}</details>"
        f"<h3>Code</h3><p>{_text(code)}; begun {_text(record.created_at)}.</p>"
        f"<details><summary>Installed packages</summary>{_list(f'{n}=={v}' for n, v in (packages or [{}])[0].items())}"
        "</details>"
    )


def _data(report: StudyResult, comparisons: Sequence[Comparison]) -> str:
    """Return the figures as JSON inside a script element that no browser runs. Only "<" could end that element."""
    text = json.dumps({"result": report.to_json(comparisons) | {"out": None}, "rows": report.folder.rows().rows()})
    return f'<script type="application/json" id="data">{text.replace("<", chr(92) + "u003c")}</script>'


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    heads = "".join(f"<th>{_text(cell)}</th>" for cell in head)
    body = "".join(f"<tr>{''.join(f'<td>{_text(cell)}</td>' for cell in row)}</tr>" for row in rows)
    return f"<table><thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table>"


def _list(items: Iterable[str]) -> str:
    return f"<ul>{''.join(f'<li>{_text(item)}</li>' for item in items)}</ul>"


def _shortened(text: str) -> str:
    return text if len(text) <= MAX_STORY else f"{text[:MAX_STORY]} …"


def _text(value: Any) -> str:
    """Return the value as text in a page: no markup, and no character that reverses what stands beside it."""
    return f"<bdi>{html.escape(str(value))}</bdi>"
