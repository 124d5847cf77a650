"""Answers come back as the page wrote them, whatever a mailbox or a hand did to them is said by file and line."""

import copy
import json

import pytest

from benchmarks.listening.simulations import design_of
from harmonia_lab.errors import InvalidRequest
from harmonia_lab.listening.answers import MAX_BYTES, parse_answers, read_answers
from tests.listening.songs import answered


@pytest.fixture
def design():
    return design_of(3)


@pytest.fixture
def plain(design):
    return answered(design, "ann", lambda shown: 0)


def test_an_answer_set_is_read_and_written_as_it_is(plain):
    answers = parse_answers(plain)
    assert (answers.listener, answers.complete, len(answers.answers)) == ("ann", True, 5)
    assert parse_answers(json.loads(json.dumps(answers.to_json()))) == answers


BROKEN = {
    "harmoniaAnswers is missing": lambda p: p.pop("harmoniaAnswers"),
    "version is 9": lambda p: p.update(harmoniaAnswers=9),
    "attempt is no 24 hex digits": lambda p: p.update(attempt="../../etc/passwd"),
    "seed is no whole number": lambda p: p.update(seed=-1),
    "seed is no whole number of": lambda p: p.update(seed=True),
    "no boolean": lambda p: p.update(complete="yes"),
    "listener is no text": lambda p: p.update(listener="x" * 129),
    "answered twice": lambda p: p["answers"].append(p["answers"][0]),
    "none of the sounds": lambda p: p["answers"][0].update(choice="s999"),
    "a choice or ratings": lambda p: p["answers"][0].pop("choice"),
    "isn't between": lambda p: p["answers"][0].update(seconds=float("nan")),
    "ratings are not those": lambda p: p["answers"][0].update(ratings={"s999": 5}),
    "order is missing": lambda p: p["answers"][0].pop("order"),
}


@pytest.mark.parametrize("why", BROKEN)
def test_what_is_wrong_with_an_answer_set_is_said(plain, why):
    broken = copy.deepcopy(plain)
    BROKEN[why](broken)
    with pytest.raises(InvalidRequest, match=why):
        parse_answers(broken)


@pytest.mark.parametrize("value", [None, [], "text", 5, {"harmoniaAnswers": 1}])
def test_other_json_is_no_answer_set(value):
    with pytest.raises(InvalidRequest, match="is no answer set"):
        parse_answers(value)


def test_files_folders_and_lines_are_read_and_what_is_none_is_named(tmp_path, plain):
    (tmp_path / "one.json").write_text(json.dumps(plain), encoding="utf-8-sig")  # as Windows' editor saves it
    (tmp_path / "two.jsonl").write_text(f"{json.dumps(plain)}\n\nnot json\n")
    (tmp_path / "three.json").write_bytes(b"x" * (MAX_BYTES + 1))
    (tmp_path / "notes.txt").write_text("ask Bob")
    sets, unread = read_answers(tmp_path)
    assert [each.where for each in sets] == ["one.json", "two.jsonl, line 1"]
    assert len(unread) == 2
    assert any("two.jsonl, line 3 is no JSON" in each for each in unread)
    assert any("three.json has 262,145 bytes" in each for each in unread)
    with pytest.raises(InvalidRequest, match="isn't there"):
        read_answers(tmp_path / "nowhere")


def test_a_name_that_moves_a_cursor_is_made_harmless(plain):
    assert parse_answers(plain | {"listener": "ann\x1b[2J\u202e "}).listener == "ann [2J"
