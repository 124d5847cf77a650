"""Tables say n, interval, machine and versions, in any format, and what is missing is not 0."""

import re

import numpy as np
import pandas as pd
import pytest

from harmonia_lab.analysis.compare import compare
from harmonia_lab.analysis.tables import Table, figure, summary
from harmonia_lab.errors import InvalidRequest

MACHINE = {"cpu": "Ryzen_9 & co.", "cores": 8, "memory_bytes": 2**34, "version": "0.1.0", "python": "3.11.2"}


def runs(name, factor):
    return pd.DataFrame([
        {"status": "completed", "block": block, "configuration": name, "cpu_s": factor * (1 + block % 3 / 50),
         "audio_rss_peak_bytes": 2**30 + 2**20 * (block % 4), **MACHINE}
        for block in range(12)
    ])  # fmt: skip


COMPARED = compare(
    runs("50 % #1", 1.0), runs("x|y", 1.2), ["cpu_s", "audio_rss_peak_bytes"], primary="cpu_s", names=("50 % #1", "x|y")
)


def unescaped(text):
    return re.split(r"(?<!\\)\|", text.strip().strip("|"))


def test_markdown_has_a_cell_for_each_column_and_everything_beneath():
    lines = COMPARED.to_markdown().splitlines()
    head, rule, *rows = [line for line in lines if line.startswith("|")]
    assert len(rows) == 2
    assert {len(unescaped(line)) for line in (head, rule, *rows)} == {len(COMPARED.shown().shown.columns)}
    assert r"x\|y / 50 % #1" in head
    assert [cell.strip() for cell in unescaped(rows[0])][:6] == [
        "cpu_s, s (primary)", "1.020", "1.224", "1.200", "1.200 to 1.200", "96.04 %",
    ]  # fmt: skip
    assert unescaped(rows[1])[1].strip() == "1025"  # MiB
    for said in (
        "12 blocks",
        "Machine: Ryzen_9 & co., 8 cores, 16 GiB.",
        "Versions: Harmonia Lab 0.1.0, Python 3.11.2.",
    ):
        assert any(said in line for line in lines)


def test_latex_has_balanced_groups_as_many_cells_as_columns_and_no_bare_special_character():
    text = COMPARED.to_latex()
    for environment in ("table", "tabular"):
        assert text.count(rf"\begin{{{environment}}}") == text.count(rf"\end{{{environment}}}") == 1
    body = "\n".join(line for line in text.splitlines() if not line.startswith("%"))
    assert body.count("{%\n") == 1  # the box that makes a wide table smaller
    bare = re.sub(r"\\[\\&%$#_{}]", "", body).replace("{%\n", "{")
    assert bare.count("{") == bare.count("}")
    assert bare.count("$") % 2 == 0
    assert not re.search(r"[%#_^~–×≥]", bare)
    assert bare.isascii()
    columns = re.search(r"\\begin\{tabular\}\{([lr]+)\}", text)[1]
    rows = [line for line in text.splitlines() if line.endswith(r"\tabularnewline")]
    assert [len(re.split(r"(?<!\\)&", row)) for row in rows] == [len(columns)] * 3
    assert r"50 \% \#1" in text
    assert r"Ryzen\_9 \& co." in text


@pytest.mark.parametrize(
    ("letters", "needs"),
    [
        ('[fast] "quoted" → µ', "booktabs,graphicx}"),
        ("Łódź «fort»", "T1"),
        ("Ħal", "LuaLaTeX"),
        ("歌", "LuaLaTeX"),
    ],
)
def test_latex_says_what_its_letters_need(letters, needs):
    shown = pd.DataFrame({"": [letters], "A": ["1"]})
    comment, body = Table(shown, shown).to_latex().split("\n", 1)
    assert needs in comment
    assert ("LuaLaTeX" in comment) == (needs == "LuaLaTeX")
    assert not re.search(r'["→µ]', body)
    assert r"\\ [" not in body  # which LaTeX would take for a distance between rows


def test_html_escapes_what_the_log_says_and_has_no_script_and_style():
    text = compare(runs("a", 1.0).assign(cpu="<b>"), runs("b", 2.0).assign(cpu="<b>"), ["cpu_s"]).to_html()
    assert "<b>" not in text
    assert "&lt;b&gt;" in text
    assert "style" not in text
    assert 'class="harmonia-table"' in text


def test_the_summary_leaves_out_what_is_missing_and_says_n():
    frame = pd.concat([runs("a", 1.0), runs("b", 2.0)])
    frame["metadata_s"] = [57.0] * 2 + [np.nan] * 22
    found = summary(frame, ["metadata_s", "cpu_s"])
    rows = found.frame.set_index(["column", "configuration"])
    assert rows.loc[("metadata_s", "a"), ["n", "mean", "median"]].tolist() == [2, pytest.approx(57), 57]
    assert rows.loc[("metadata_s", "b"), "n"] == 0
    assert np.isnan(rows.loc[("metadata_s", "b"), "mean"])
    assert "metadata_s, s" in str(found)
    assert found.beneath[-1].startswith("Versions:")
    assert summary(frame).frame["column"].unique().tolist() == ["metadata_work_s", "cpu_s", "audio_rss_peak_bytes"]
    with pytest.raises(InvalidRequest, match="engine"):
        summary(frame, by="engine")


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "0"), (1.23456, "1.235"), (1234567.8, "1234568"), (0.00012346, "0.0001235"), (3e9, "3.000e+09"),
     (-12.3456, "-12.35"), (float("nan"), "–"), (None, "–")],
)  # fmt: skip
def test_figures_have_four_digits(value, text):
    assert figure(value) == text


def test_an_empty_table_is_printed_in_every_format():
    empty = Table(pd.DataFrame(), pd.DataFrame(columns=["", "n"]))
    assert empty.to_markdown().count("\n") == 2
    assert r"\bottomrule" in empty.to_latex()
    assert "<tbody></tbody>" in empty.to_html()
    assert str(empty)
