"""What is served at `/` is what the sources build; small, and with no way to put a text on the page as markup."""

import re

import pytest

from harmonia_lab.server.page import FILES
from page.build import SOURCES, build, check_types

MOST_BYTES = 250_000


def test_the_committed_files_are_the_sources_build(tmp_path):
    build(tmp_path)
    built = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    assert built == {file.name: file.read_bytes() for file in FILES.iterdir()}, "run `make page`"
    assert sum(map(len, built.values())) <= MOST_BYTES


def test_no_source_writes_markup_or_style_or_leads_elsewhere():
    markup = re.compile(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|\bFunction\(")
    for path in SOURCES.glob("*.ts"):
        code = path.read_text()
        assert not markup.search(code), path
        assert '"style"' not in code, path
        assert not re.search(r"https?://", code), path
        assert code.startswith("// ") or path.name == "css.d.ts", path
        assert len(code.splitlines()) <= 400, path
    assert "example from which to write a front end" in (SOURCES / "main.ts").read_text()
    assert not re.search(r"<script(?![^>]*src=)|<style|\son\w+=|style=", (FILES / "index.html").read_text())


@pytest.mark.stress
def test_the_sources_agree_with_the_wires_types(tmp_path):
    assert check_types(tmp_path) == ""
