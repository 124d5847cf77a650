"""The joined modules: each source once, nothing that a browser would have to fetch, and small."""

import re
import shutil
import subprocess

import pytest

import harmonia_lab
from harmonia_lab.player.modules import PLAYER_JS, joined, once_a_page, script

PACKAGE = PLAYER_JS.parents[1]
SOURCES = [path for path in PACKAGE.rglob("*.js") if path.parent.name != "page_files"]
"""Without the page's, which is built: `tests/page` looks at what it is built from."""

NAMES = (
    "player/page.js", "player/runs_page.js", "player/summary.js", "widgets/listen.js", "widgets/runs.js",
    "widgets/panel.js",
)  # fmt: skip
ENTRIES = [PACKAGE / name for name in NAMES]


@pytest.mark.parametrize("path", ENTRIES, ids=NAMES)
def test_a_joined_module_is_one_module_that_a_javascript_engine_accepts(path, tmp_path):
    code = joined(path)
    assert not re.search(r"^import ", code, re.MULTILINE)
    for name in ("class Deck", "class Waveform", "function mount("):
        assert code.count(name) == 1
    node = shutil.which("node")
    if node is None:
        pytest.skip("there is no Node.js on this machine")
    (tmp_path / "joined.mjs").write_text(code)
    subprocess.run([node, "--check", tmp_path / "joined.mjs"], check=True)


def test_no_source_leads_to_another_site_or_writes_markup():
    for path in SOURCES:
        code = path.read_text()
        assert not re.search(r"innerHTML|insertAdjacentHTML|document\.write|\beval\(", code), path
        assert {*re.findall(r"https?://[^\"' ]*", code)} <= {"http://www.w3.org/2000/svg"}, path
        assert len(code.splitlines()) <= 400, path


def test_no_template_spans_lines_whose_indentation_joining_would_take_away():
    for path in SOURCES:
        for line in path.read_text().splitlines():
            if not line.lstrip().startswith("//"):
                assert line.count("`") % 2 == 0, (path, line)


def test_a_widgets_module_is_small_since_a_page_never_forgets_it():
    text = once_a_page(ENTRIES[-1])
    assert "Symbol.for" in text
    assert len(text) < 500
    assert harmonia_lab.__file__ not in text


@pytest.mark.parametrize("name", ["summary.js", "runs_page.js"])
def test_the_script_of_an_output_is_no_module(name, tmp_path):
    code = script(PLAYER_JS.with_name(name))
    assert not re.search(r"^(import|export) ", code, re.MULTILINE)
    node = shutil.which("node")
    if node is None:
        pytest.skip("there is no Node.js on this machine")
    (tmp_path / "script.cjs").write_text(code, encoding="utf-8")
    subprocess.run([node, "--check", tmp_path / "script.cjs"], check=True)
