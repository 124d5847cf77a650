"""Whether a song is for a child: what a text says of its listener.

Owns the patterns (other words of audience, such as "children's", are in `words.txt`).
"""

from __future__ import annotations

import re

__all__ = ["child_words"]

_AGE = (
    r"(?:\d|1[0-2]|two|three|four|five|six|seven|eight|nine|ten|zwei|drei|vier|fünf|sechs|dos|tres|deux|trois|quatre"
    r"|cinq)"
)
_CHILD = (
    r"(?:son|daughter|nephew|niece|grandson|granddaughter|boy|girl|kid|child|twins|tochter|sohn|enkel(?:in)?|fille|fils"
    r"|hij[ao])"
)
_LISTENER = (
    rf"little (?:boy|girl|ones?)|toddlers?|baby|babies|newborn|bebé|bébé|kids?|grandkids|children|preschoolers?"
    rf"|kindergart\w+|{_AGE}[- ]years?[- ]olds?"
)
_VERB = r"(?:,? is|,? turns|,? aged?|,? ist|,? de|,|,? tiene| \()"
_AFTER_AGE = r"(?= years?| ans| años| jahre| and| und|[),.;!?]|$)"
_FOR_CHILD = re.compile(
    rf"\b(?:for|para|pour|für) (?:[\w’']+ ){{0,2}}?(?:{_LISTENER})\b"
    rf"|\b{_CHILD}(?: [\w’']+)?{_VERB} ?{_AGE}\b{_AFTER_AGE}"
    rf"|\b(?:he|she)(?:['’]s| is| turns| just turned) {_AGE}\b(?=[),.;!?])",
    re.IGNORECASE,
)
_OURS = re.compile(
    r"\b(?:my|our) (?:little (?:girl|boy|one)|kindergarten\w*|(?:first|second|third) graders|preschoolers|toddlers?)\b",
    re.IGNORECASE,
)
_SONG = re.compile(r"\b(?:songs?|lullaby|tune|lied|canción|chanson|sing)\b", re.IGNORECASE)


def child_words(text: str, *, wished: bool) -> str:
    """Return the words that say that the listener is a child of twelve at most; empty if none do.

    wished: the text holds other wishes. Else it must speak of a song: many stories have children in them.
    """
    sung = bool(_SONG.search(text))
    match = (_FOR_CHILD.search(text) if wished or sung else None) or (_OURS.search(text) if sung else None)
    return match[0] if match else ""
