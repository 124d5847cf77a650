"""Things pass through few functions: the counts that `docs/architecture.md` quotes, taken by `docs/walks.py`."""

import importlib.util
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "docs" / "walks.py"
spec = importlib.util.spec_from_file_location("walks", SCRIPT)
walks = sys.modules["walks"] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(walks)


@pytest.mark.parametrize("name", walks.WALKS)
def test_a_walk_passes_through_few_functions(name, tmp_path):
    run, most = walks.WALKS[name]
    walk = run(tmp_path)
    assert all(walk.values()), walk
    assert 1 < walks.count(walk) <= most, walk
