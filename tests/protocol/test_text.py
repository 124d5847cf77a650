"""What is text, what is refused or cleaned, and what a terminal is given."""

import pytest

from harmonia_lab.protocol.text import is_name, one_line, printable

ORDINARY = {
    "Persian with a non-joiner": "می\u200cخواهم",
    "Hindi with a joiner": "क्\u200dष",
    "a family of emoji": "👩\u200d👩\u200d👧\u200d👦",
    "England's flag, in tags": "🏴\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f",
    "a soft hyphen": "Donau\u00addampf",
    "a byte order mark": "\ufeffA story",
    "Hebrew with a mark": "שלום\u200f!",
    "a Japanese name": "山田\u3000太郎",
    "a private character": "\ue000",
}
BLANK = ["", " ", "\t\n", "\u00a0\u3000", "\u200b\u200d", "\ufeff", "\u2800\u3164"]
NO_TEXT = ["a\x00b", "\x1b[31mred", "a\x7f", "\x9b31m", "caf\udce9", "caf\ufffd", "bell\a"]


@pytest.mark.parametrize("text", ORDINARY.values(), ids=ORDINARY)
def test_ordinary_text_passes_as_it_is(text):
    assert one_line(text) == text
    assert printable(text) == text
    assert is_name(text)


def test_a_line_is_one_line():
    assert one_line("  The\tlong\r\nway\u2028home \n") == "The long way home"


@pytest.mark.parametrize("text", BLANK)
def test_blank_text_is_refused(text):
    with pytest.raises(ValueError, match="is blank"):
        one_line(text)
    assert not is_name(text)


@pytest.mark.parametrize("text", NO_TEXT)
def test_what_is_no_text_is_refused(text):
    with pytest.raises(ValueError, match="no text"):
        one_line(text)
    assert not is_name(text)


def test_a_name_is_not_changed_so_that_no_two_users_become_one():
    assert is_name(" ann ")
    assert not is_name("ann\nbob")


def test_a_terminal_gets_no_code_and_no_reversed_line():
    assert printable("\x1b]0;owned\x07 \x9b2J a\rb \u202ecba") == " ]0;owned   2J a b  cba"
    printable("caf\udce9").encode()
