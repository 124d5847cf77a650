"""Text that comes from outside: the types of every string in the protocol's models, and text made fit to be printed.

Owns which characters are text. Control characters (Unicode's Cc), lone surrogates, and U+FFFD, which stands for bytes
that could not be decoded, are not. All others are: the joiners of Persian, Hindi and emoji, soft hyphens and byte order
marks are of category Cf, as are the bidirectional controls, which only `printable` takes out.

A string of a model is one of:
- `Annotated[str, Field(…), ONE_LINE]`: a title, a genre. Tabs and line ends become a space, the ends are stripped;
  blank text is refused.
- `Annotated[str, Field(…), LINES]`: a narrative, lyrics. Tabs and line ends are kept; blank text is left to the model.
- `Told`: what Harmonia Lab says itself, perhaps with another program's words in it, such as a status or an error.
- `UserName`, `GenerationId`, or another type with a pattern.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Annotated, Any

from pydantic import AfterValidator, Field, ValidationInfo, ValidatorFunctionWrapHandler, WrapValidator

from harmonia_lab.protocol.counts import GIVEN

__all__ = [
    "LINES",
    "ONE_LINE",
    "GenerationId",
    "LocalPath",
    "Told",
    "UserName",
    "is_name",
    "lines",
    "one_line",
    "printable",
    "printable_lines",
]

_LINE_ENDS = re.compile("\r\n|[\n\r\v\f\x85\u2028\u2029]")
"""The ends of lines that a pasted text may have; vertical tabs and form feeds come from word processors."""

_SPACES = re.compile("[\t\n\r\v\f\x85\u2028\u2029]+")
_NO_TEXT = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffd]")
_NOT_TOLD = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")
_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
"""Characters that move a cursor, set a colour, or reverse the rest of the line, and what can't be encoded."""

_FILLERS = "\u115f\u1160\u2800\u3164\uffa0"
"""Letters and symbols without ink."""


def one_line(text: str) -> str:
    """Return `text` on one line, without space at its ends. Raise ValueError, which says what is wrong, if it is blank
    or holds what is no text."""
    line = _SPACES.sub(" ", text).strip()
    _check(line)
    if not any(map(_has_ink, line)):
        raise ValueError("is blank. Write a word, or leave it out")
    return line


def lines(text: str) -> str:
    """Return `text` with its tabs and lines, whatever ends these. Raise ValueError if it holds what is no text."""
    text = _with_plain_line_ends(text)
    _check(text)
    return text


def _with_plain_line_ends(text: str) -> str:
    return _LINE_ENDS.sub(lambda end: end[0] if end[0] in "\r\n" else "\n", text)


def printable(text: str) -> str:
    """Return `text` on one line, with a space for each character that a terminal obeys instead of printing it."""
    return _UNPRINTABLE.sub(" ", text)


def printable_lines(text: str) -> str:
    """Return `text` as `printable` does, with its lines."""
    return "\n".join(map(printable, text.split("\n")))


def is_name(text: str) -> bool:
    """Return whether `text` can name a user: one line that is not blank, as it is. Nothing is stripped from a name."""
    return not (_NO_TEXT.search(text) or _SPACES.search(text)) and any(map(_has_ink, text))


def _has_ink(character: str) -> bool:
    return unicodedata.category(character) not in ("Zs", "Zl", "Zp", "Cf", "Cc") and character not in _FILLERS


def _check(text: str) -> None:
    if _NO_TEXT.search(text):
        raise ValueError("holds control characters or undecodable bytes: it is no text. Give it as UTF-8 text")


def _check_type(value: Any) -> None:
    # Pydantic would read bytes as UTF-8, and quote them in the error.
    if not isinstance(value, str):
        binary = ", not a binary attachment" if isinstance(value, bytes | bytearray | memoryview) else ""
        raise ValueError(f"should be a string{binary}")  # noqa: TRY004 - pydantic collects ValueErrors


def _one_line(value: Any, handler: ValidatorFunctionWrapHandler, info: ValidationInfo) -> Any:
    _check_type(value)
    # Earlier versions took what is refused now; what they wrote is opened all the same.
    return handler(printable(value) if info.context is GIVEN else one_line(value))


def _lines(value: Any, handler: ValidatorFunctionWrapHandler, info: ValidationInfo) -> Any:
    _check_type(value)
    if info.context is GIVEN:
        return handler(_NOT_TOLD.sub(" ", _with_plain_line_ends(value)))
    return handler(lines(value))


def _told(text: str) -> str:
    return _NOT_TOLD.sub(" ", text) if _NOT_TOLD.search(text) else text


def _named(name: str) -> str:
    if not is_name(name):
        raise ValueError("is no user's name: it is blank, or has a character that can't be printed")
    return name


ONE_LINE = WrapValidator(_one_line)
LINES = WrapValidator(_lines)
Told = Annotated[str, AfterValidator(_told)]
"""A control character becomes a space: who reads it may print it. Nothing is refused."""
LocalPath = Annotated[str, "path"]
"""A path of this machine, exactly as it is. It never comes from a client and is not sent to one."""
UserName = Annotated[str, Field(min_length=1, max_length=128, strict=True), AfterValidator(_named)]
"""As in a token's `sub`."""
GenerationId = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
