"""The figures of comparisons that docs/batches.md quotes are those that are kept, and these reach what they must."""

from pathlib import Path

import pytest

from benchmarks.comparisons import runs, studies, table
from benchmarks.comparisons.__main__ import main
from harmonia_lab.analysis.charts import ratios

ROOT = Path(__file__).parents[2]
SIMULATED, STUDIES = table.read_simulations(), table.read_studies()


def kept(part, method, **where):
    found = [row for row in SIMULATED if row["part"] == part and row["method"] == method]
    return [row for row in found if all(row[name] == value for name, value in where.items())]


def test_the_docs_quote_the_kept_figures():
    text = (ROOT / "docs" / "batches.md").read_text()
    for row in table.quoted_rows(SIMULATED, STUDIES):
        assert row in text, f"`python -m benchmarks.comparisons table --quoted` prints:\n{row}"


def test_the_text_beside_the_figures_quotes_them_too():
    text = " ".join((table.RESULTS.parent / "README.md").read_text().split())
    shares = [100 * study["any"] / study["studies"] for study in STUDIES["relabelled"]]
    assert f"claims any difference: {min(shares):.1f} to {max(shares):.1f} %" in text
    assert f"in {100 * kept('planted', 'sign flips', n=10, noise='spread .05')[0]['found']:.1f} % of studies" in text
    assert f"in {100 * kept('planted', 'sign flips', noise='spread .15')[0]['found']:.0f} %. If only" in text
    assert f"{STUDIES['runs']} songs" in text
    assert "(load {} to {})".format(*STUDIES["load"][::2]) in text
    assert f"so their spread ({STUDIES['spreads']['cpu_s']:.3f})" in text
    assert f"there {STUDIES['splits']['without_1']} splits have a Welch interval without 1" in text


def test_ten_thousand_trials_stand_behind_each_coverage():
    rows = kept("coverage", "sign flips")
    assert {(row["n"], row["noise"]) for row in rows} == {
        (n, noise) for n in (5, 10, 20, 30, 50) for noise in ("lognormal .1", "lognormal .3", "t3", "spikes")
    }
    assert min(row["trials"] for row in SIMULATED) >= 10_000
    for row in rows + kept("coverage", "typical runs") + kept("coverage", "Welch"):
        assert row["covered"] >= 0.93, row
    assert {row["level"] for row in rows if row["n"] == 5} == {0.9375}
    for row in kept("blocks", "sign flips") + kept("blocks", "typical runs"):
        assert row["covered"] >= 0.93, row


def test_a_planted_difference_is_found_and_false_claims_are_rare():
    for spread in ("spread .03", "spread .05"):
        assert kept("planted", "sign flips", n=10, noise=spread)[0]["found"] >= 0.94
        assert kept("planted", "typical runs", n=20, noise=f"{spread}, spikes")[0]["found"] >= 0.95
    assert max(row["false"] for row in kept("columns", "primary 4 %, max-T 1 %")) <= 0.07


def test_real_runs_of_one_configuration_seldom_differ():
    assert STUDIES["runs"] >= 400
    for study in STUDIES["relabelled"]:
        assert study["studies"] >= 400
        assert study["any"] / study["studies"] <= 0.07
    assert STUDIES["splits"]["splits"] == 40
    assert STUDIES["splits"]["any"] <= 5


def test_the_kept_runs_give_the_kept_figures_again():
    rows = studies.read_rows(table.RESULTS / "runs.csv")
    assert len(rows) == STUDIES["runs"]
    assert set(rows["host"]) == {"one machine"}
    assert studies.spreads(rows) == STUDIES["spreads"]
    assert studies.relabelled(rows, 3, 10, "mean")["any"] <= 1
    first, second = rows.iloc[:12], rows.iloc[12:24]
    found = studies.compare(first, second, studies.COMPARED, primary="cpu_s")
    assert found.method == "welch"  # the halves have no block in common
    assert any("One side ran after the other" in warning for warning in found.warnings)
    assert ratios(found).axes


def test_simulations_are_kept_beside_those_of_other_parts(tmp_path, capsys):
    file = tmp_path / "some.jsonl"
    for given in (["columns", file, "--n", "8"], ["coverage", file, "--n", "5"], ["columns", file, "--n", "8"]):
        assert main(["simulate", *map(str, given), "--trials", "20"]) == 0
    lines = file.read_text().splitlines()
    assert len(lines) == 3 + 8
    assert '"trials": 20' in capsys.readouterr().out


def test_the_table_has_a_row_for_each_method(capsys):
    assert main(["table"]) == 0
    printed = capsys.readouterr().out
    assert "| sign flips; AR(1) .6 |" in printed
    assert "| first against second half of 24 | 40 |" in printed


@pytest.mark.stress
def test_runs_continue_their_file(tmp_path):
    file = tmp_path / "runs.csv"
    assert main(["runs", str(file), "--blocks", "1"]) == 0
    with file.open("a") as half:
        half.write("1,half a block\n")
    assert main(["runs", str(file), "--blocks", "2"]) == 0
    rows = studies.read_rows(file)
    assert list(rows.columns) == list(runs.KEPT)
    assert rows["block"].tolist() == [0, 0, 1, 1]
    assert rows["cpu_s"].notna().all()
