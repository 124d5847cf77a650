"""The comparison of two versions: two processes that stay up, one file that is continued."""

import json

import pytest

from benchmarks.lyrics.__main__ import main
from benchmarks.lyrics.compare import ROOT
from harmonia_lab.testing import SONG_METADATA, FakeOllama

STORIES = [
    {"kind": "fable", "narrative": "A fox jumps for the grapes.", "extra": 1},
    {"kind": "news", "narrative": "The ferry stops.", "names": []},
]


@pytest.fixture
def stories(tmp_path):
    path = tmp_path / "stories.jsonl"
    path.write_text("".join(f"{json.dumps(story)}\n" for story in STORIES))
    return path


@pytest.fixture
def ollama(monkeypatch):
    with FakeOllama(lambda _: SONG_METADATA.model_dump_json(by_alias=True)) as server:
        monkeypatch.setenv("OLLAMA_HOST", server.url)
        yield server


def test_both_versions_write_every_story_and_none_is_written_again(tmp_path, stories, ollama, capsys):
    out = tmp_path / "songs.jsonl"
    command = ["compare", str(out), "--before", str(ROOT), "--narratives", str(stories), "--engine", "ollama", "--cold"]
    assert main(command) == 0
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    heads, blocks = [r for r in rows if "versions" in r], [r for r in rows if "songs" in r]
    assert [head["versions"].keys() for head in heads] == [{"before", "after"}]
    assert "host" not in heads[0]["circumstances"]["host"]
    assert [block["narrative"] for block in blocks] == [story["narrative"] for story in STORIES]
    for block in blocks:
        assert sorted(block["order"]) == ["after", "before"]
        for song in block["songs"].values():
            assert song["metadata"]["title"] == SONG_METADATA.title
            assert song["sung"]
    assert "| titles that another song has | 1 | 1 |" in capsys.readouterr().out
    chats = len(ollama.chats)
    assert main(command) == 0
    assert out.read_text().splitlines() == [json.dumps(row) for row in rows]  # nothing is left to make
    assert len(ollama.chats) == chats
    assert main(["table", str(out), "--list", "--json", str(tmp_path / "figures.json")]) == 0
    assert json.loads((tmp_path / "figures.json").read_text())["after"]["n_songs"] == 2


def test_a_missing_file_of_narratives_is_said_and_starts_nothing(tmp_path, capsys):
    assert main(["compare", str(tmp_path / "out.jsonl"), "--narratives", str(tmp_path / "none.jsonl")]) == 2
    assert "none.jsonl holds no narratives" in capsys.readouterr().err
    assert not (tmp_path / "out.jsonl").exists()
