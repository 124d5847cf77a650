"""Studies as they were made on a busy machine: nothing is claimed of equal songs, and planted work is found."""

from pathlib import Path

import pytest

from benchmarks.studies.__main__ import planted_factor
from harmonia_lab.study import StudyReport

FOLDER = Path(__file__).parents[2] / "benchmarks" / "studies"


@pytest.fixture(scope="module")
def equal():
    return StudyReport(FOLDER / "equal-2026-11-28")


@pytest.fixture(scope="module")
def planted():
    return StudyReport(FOLDER / "planted-2026-11-28")


def test_equal_songs_differ_in_no_column_though_others_loaded_the_machine(equal):
    (comparison,) = equal.comparisons()
    assert equal.incomplete() == {}
    assert len(comparison.table) > 8
    assert not comparison.table["differs"].any()
    assert any("Other programs used" in warning for warning in comparison.warnings)


def test_equal_songs_have_equal_bytes(equal):
    rows = [row for row in equal.folder.rows().rows() if row["status"] == "completed" and row["block"] is not None]
    by_block = {}
    for row in rows:
        by_block.setdefault(row["block"], set()).add(row["checksum"])
    assert len(by_block) == 40
    assert all(len(checksums) == 1 for checksums in by_block.values())


def test_a_tenth_of_work_that_was_planted_is_found_and_lies_within_the_interval(planted):
    row = planted.compare().table.loc["cpu_s"]
    assert row["differs"]
    assert row["low"] < planted_factor(planted) < row["high"]
    assert 1.09 < planted_factor(planted) < 1.12


def test_the_songs_of_both_configurations_have_the_order_that_was_drawn(planted):
    drawn = [(block.number, name) for block in planted.record.blocks for name in block.order]
    rows = planted.folder.rows().rows()
    assert [(row["block"], row["configuration"]) for row in rows if row["block"] is not None] == drawn
