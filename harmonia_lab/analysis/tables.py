"""Tables for papers and pages: what is measured, with n, intervals, machine and versions beneath.

Owns the layout as Markdown, LaTeX, HTML and plain text, and the summary of runs by configuration. `compare.py` owns
what the figures of a comparison are.
"""

from __future__ import annotations

import html
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from harmonia_lab.analysis.circumstances import machine_lines
from harmonia_lab.analysis.frames import work_frame
from harmonia_lab.analysis.run_columns import completed, numbers, unit_of
from harmonia_lab.errors import InvalidRequest

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["DEFAULT_COLUMNS", "Table", "columns_of", "figure", "summary", "units_for_people"]

DEFAULT_COLUMNS = (
    "total_work_s", "metadata_work_s", "tokens_per_second", "audio_work_s", "audio_work_real_time_factor", "plan_s",
    "render_s", "mix_s", "write_s", "steps_per_second", "audio_cpu_s", "cpu_s", "time_to_first_token_s",
    "time_to_first_audio_s", "metadata_load_s", "audio_load_s", "metadata_pss_peak_bytes", "audio_pss_peak_bytes",
    "metadata_rss_peak_bytes", "audio_rss_peak_bytes", "metadata_gpu_allocated_peak_bytes",
    "audio_gpu_allocated_peak_bytes", "metadata_gpu_used_peak_bytes", "audio_gpu_used_peak_bytes",
)  # fmt: skip
"""Columns shown by default: work without loading first, then loading and memory."""

MISSING = "–"

_LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "|": r"\textbar{}", '"': "''", "→": r"$\rightarrow$", "µ": r"$\mu$", "·": r"$\cdot$", "–": "--", "−": "$-$",
    "×": r"$\times$", "≥": r"$\geq$", "≤": r"$\leq$", "±": r"$\pm$", "√": r"$\surd$", "…": r"\ldots{}", "’": "'",
    "\n": " ",
}  # fmt: skip
"""Characters that mean something to LaTeX, or that its usual fonts lack."""

_LATIN = re.compile(
    "[\\x00-\\x7e\u00a1-\u0125\u0128-\u0137\u0139-\u013e\u0141-\u0148\u014a-\u0165\u0168-\u017e‘’“”†•–—…€™]*"
)
"""What pdfLaTeX sets in the encoding T1, as tried with TeX Live 2022, a letter at a time."""


@dataclass(frozen=True, eq=False)
class Table:
    """frame: the figures. shown: the same as text, one column for each that is printed. beneath: lines at the foot."""

    frame: pd.DataFrame
    shown: pd.DataFrame
    beneath: tuple[str, ...] = ()

    def to_markdown(self) -> str:
        """Return a table in GitHub's Markdown, and the lines beneath."""
        rows = [self._head(), *self._cells()]
        escaped = [[_one_line(cell).replace("\\", "\\\\").replace("|", "\\|") for cell in row] for row in rows]
        widths = [max(3, *(len(row[at]) for row in escaped)) for at in range(len(escaped[0]))]
        lines = [f"| {' | '.join(c.ljust(w) for c, w in zip(row, widths, strict=True))} |" for row in escaped]
        sides = ["-" * width if at == 0 else "-" * (width - 1) + ":" for at, width in enumerate(widths)]
        return "\n".join([lines[0], f"| {' | '.join(sides)} |", *lines[1:], *self._paragraphs("\n")]) + "\n"

    def to_latex(self) -> str:
        r"""Return a `table` for LaTeX with the packages booktabs and graphicx; `\input` it.

        One that is wider than the text is made smaller until it fits. The lines beneath are set small. The first line
        says, as a comment, what its letters need besides.
        """
        rows = [" & ".join(map(_latex, row)) + r" \tabularnewline" for row in [self._head(), *self._cells()]]
        columns = "l" + "r" * (self.shown.shape[1] - 1)
        lines = [
            r"\begin{table}", r"\centering",
            r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%",
            rf"\begin{{tabular}}{{{columns}}}", r"\toprule", rows[0], r"\midrule", *rows[1:], r"\bottomrule",
            r"\end{tabular}}", *(rf"\par\smallskip{{\footnotesize {_latex(line)}\par}}" for line in self.beneath),
            r"\end{table}", "",
        ]  # fmt: skip
        text = "\n".join(lines)
        needs = [r"\usepackage{booktabs,graphicx}"]
        if not text.isascii():
            needs.append(r"\usepackage[T1]{fontenc}")
        if not _LATIN.fullmatch(text):
            needs[1:] = ["LuaLaTeX or XeLaTeX, and a font that has its letters"]
        return f"% needs {', '.join(needs)}\n{text}"

    def to_html(self) -> str:
        """Return a table of class `harmonia-table` and a paragraph for each line beneath; without script and style."""
        # Over the rows' names there is no heading: an empty one would be read out.
        head = "".join(f"<th>{html.escape(cell)}</th>" if cell else "<td></td>" for cell in self._head())
        rows = ("".join(f"<td>{html.escape(cell)}</td>" for cell in row) for row in self._cells())
        body = "".join(f"<tr>{row}</tr>" for row in rows)
        notes = "".join(f"<p>{html.escape(line)}</p>" for line in self.beneath)
        return f'<table class="harmonia-table"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{notes}'

    _repr_html_ = to_html

    def __str__(self) -> str:
        rows = [self._head(), *self._cells()]
        widths = [max(len(row[at]) for row in rows) for at in range(len(rows[0]))]
        lines = ["  ".join(_aligned(row, widths)).rstrip() for row in rows]
        return "\n".join([*lines, *self._paragraphs("")])

    __repr__ = __str__

    def _head(self) -> list[str]:
        return [str(name) for name in self.shown.columns]

    def _cells(self) -> list[list[str]]:
        return [[str(cell) for cell in row] for row in self.shown.itertuples(index=False)]

    def _paragraphs(self, between: str) -> list[str]:
        return ["", *(line + between for line in self.beneath)] if self.beneath else []


def summary(
    frame: pd.DataFrame, columns: Sequence[str] | None = None, by: str = "configuration", *, beneath: Sequence[str] = ()
) -> Table:
    """Return what completed runs took, for each column and each value of `by`: n, mean, median, middle half, extremes.

    The mean is geometric, as in `compare`; it is missing where a value is zero or less. Missing values are left out,
    not counted as 0. beneath: lines for the foot, above machine and versions. Raises InvalidRequest for an unknown
    column.
    """
    import pandas as pd  # noqa: PLC0415 - slow to import, as in frames.py

    runs = completed(work_frame(frame))
    if by not in runs:
        raise InvalidRequest(f"There is no column {by!r}.", hint="See `frame.columns`.")
    rows, texts = [], []
    for column in columns_of([runs], columns):
        scale, unit = units_for_people(unit_of(frame, column))
        for group, members in runs.groupby(by, sort=False, dropna=False):
            values = numbers(members, column)
            values = values[~np.isnan(values)]
            moments = _moments(values)
            rows.append({"column": column, by: group, "unit": unit_of(frame, column), "n": len(values)} | moments)
            label = f"{column}, {unit}" if unit else column
            parts = [figure(moments.get(name), scale) for name in ("mean", "median", "low", "high", "least", "most")]
            half, extremes = (f"{parts[at]} to {parts[at + 1]}" if len(values) else MISSING for at in (2, 4))
            texts.append([label, str(group), str(len(values)), *parts[:2], half, extremes])
    names = ["column", by, "unit", "n", "mean", "median", "low", "high", "least", "most"]
    heads = ["", by, "n", "geometric mean", "median", "middle half", "extremes"]
    foot = (*beneath, *machine_lines([runs]))
    return Table(pd.DataFrame(rows, columns=names), pd.DataFrame(texts, columns=heads), foot)


def columns_of(frames: Sequence[pd.DataFrame], asked: Sequence[str] | None) -> list[str]:
    """Return the columns asked for, each once, or those of `DEFAULT_COLUMNS` with numbers in a frame.

    Raises InvalidRequest for one that a frame lacks, or that holds no numbers.
    """
    if isinstance(asked, str):
        asked = [asked]
    if asked is None:
        here = [name for name in DEFAULT_COLUMNS if all(name in frame for frame in frames)]
        return [name for name in here if not all(np.isnan(numbers(frame, name)).all() for frame in frames)]
    for name in asked:
        if any(name not in frame for frame in frames):
            where = " in both" if len(frames) > 1 else ""
            raise InvalidRequest(f"There is no column {name!r}{where}.", hint="See `frame.columns`.")
        if all(len(frame[name].dropna()) and np.isnan(numbers(frame, name)).all() for frame in frames):
            raise InvalidRequest(f"The column {name!r} holds no numbers.", hint="Name a column of durations or sizes.")
    return list(dict.fromkeys(asked))


def units_for_people(unit: str, typical: float = 1.0) -> tuple[float, str]:
    """Return the factor and the name of the unit in which people read a column, of which `typical` is a value: MiB or
    GiB for bytes, ms for short times."""
    if unit == "bytes":
        return (2.0**-30, "GiB") if typical >= 10 * 2**30 else (2.0**-20, "MiB")
    return (1000.0, "ms") if unit == "s" and 0 < typical < 0.1 else (1.0, unit)


def figure(value: float | None, scale: float = 1.0) -> str:
    """Return a number with four significant digits, without an exponent where it is of everyday size."""
    if value is None or not np.isfinite(value):
        return MISSING
    value = float(value) * scale
    if value and not 1e-4 <= abs(value) < 1e7:
        return f"{value:.3e}"
    digits = 0 if not value else max(0, 3 - int(np.floor(np.log10(abs(value)))))
    return f"{value:.{digits}f}"


def _moments(values: np.ndarray) -> dict[str, float]:
    if not len(values):
        return {}
    low, middle, high = np.percentile(values, [25, 50, 75])
    found = {"median": middle, "low": low, "high": high, "least": values.min(), "most": values.max()}
    if values.min() > 0:
        found["mean"] = np.exp(np.log(values).mean())
    return {name: float(value) for name, value in found.items()}


def _latex(text: str) -> str:
    return re.sub("|".join(map(re.escape, _LATEX)), lambda found: _LATEX[found[0]], text)


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _aligned(row: Sequence[str], widths: Sequence[int]) -> list[str]:
    return [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
