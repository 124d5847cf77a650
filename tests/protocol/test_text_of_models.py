"""Every string of every model is of a type that says which text it takes; what is no text is refused or cleaned."""

import types
import typing

import pytest
from pydantic import ValidationError
from pydantic.fields import FieldInfo

from harmonia_lab.errors import InvalidRequest
from harmonia_lab.protocol import commands, events, job_events, metadata, models
from harmonia_lab.protocol.codec import decode
from harmonia_lab.protocol.counts import GIVEN
from harmonia_lab.protocol.event_codec import decode_event
from harmonia_lab.protocol.models import Share, SongMetadata, parse_request
from harmonia_lab.protocol.text import LINES, ONE_LINE, LocalPath, Told, UserName
from harmonia_lab.protocol.wire_model import WireModel
from tests.protocol.test_models import METADATA
from tests.protocol.test_text import BLANK, NO_TEXT, ORDINARY

MODULES = (metadata, models, commands, events, job_events)


def classes():
    found = {cls for module in MODULES for cls in vars(module).values() if isinstance(cls, type)}
    return [cls for cls in found if issubclass(cls, WireModel)]


def has_rule(marks):
    rules = (LINES, ONE_LINE, Told.__metadata__[-1], LocalPath.__metadata__[-1], UserName.__metadata__[-1])
    return any(mark in rules for mark in marks) or any(
        isinstance(mark, FieldInfo) and any(getattr(part, "pattern", None) for part in mark.metadata) for mark in marks
    )


def plain_strings(annotation, marks=()):
    """The places in a type where a bare `str` stands: no rule says which text it takes."""
    if typing.get_origin(annotation) is typing.Annotated:
        inner, *more = typing.get_args(annotation)
        return plain_strings(inner, (*marks, *more))
    if annotation is str:
        return [] if has_rule(marks) else ["str"]
    if annotation is dict or typing.get_origin(annotation) is dict:
        return plain_strings(typing.get_args(annotation)[1])
    if typing.get_origin(annotation) in (typing.Union, types.UnionType, list, tuple):
        return [place for part in typing.get_args(annotation) for place in plain_strings(part)]
    return []


def test_no_string_of_a_model_is_without_a_rule():
    found = [
        f"{cls.__name__}.{name}"
        for cls in classes()
        for name, annotation in typing.get_type_hints(cls, include_extras=True).items()
        if name in cls.model_fields and plain_strings(annotation)
    ]
    assert found == []
    assert len(classes()) > 40


def test_that_search_would_find_one():
    assert plain_strings(str | None)
    assert plain_strings(list[str])
    assert plain_strings(typing.Annotated[str, models.Field(max_length=3)] | None)
    assert plain_strings(dict[str, str])
    assert not plain_strings(dict[str, Told])


FIELDS = ("title", "genre", "key")


@pytest.mark.parametrize("text", NO_TEXT)
@pytest.mark.parametrize("field", [*FIELDS, "lyrics"])
def test_metadata_with_control_characters_is_refused_without_them(field, text):
    with pytest.raises(InvalidRequest) as caught:
        parse_request(metadata=METADATA | {field: text})
    assert "no text" in str(caught.value)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("text", BLANK)
@pytest.mark.parametrize("change", [{"title": 0}, {"genre": 0}, {"mood": 0}], ids=lambda change: next(iter(change)))
def test_blank_metadata_is_refused(change, text):
    value = {name: [text] if name == "mood" else text for name in change}
    with pytest.raises(InvalidRequest, match="is blank"):
        parse_request(metadata=METADATA | value)


@pytest.mark.parametrize("text", ORDINARY.values(), ids=ORDINARY)
def test_ordinary_text_is_taken_in_every_field(text):
    request = parse_request(narrative=text, metadata=METADATA | {"title": text, "lyrics": text, "mood": [text]})
    assert (request.narrative, request.metadata.title, request.metadata.lyrics) == (text, text, text)
    assert Share(user_id=text, role="viewer").user_id == text


def test_lines_of_a_narrative_are_kept_whatever_ends_them():
    assert parse_request(narrative="one\r\ntwo\u2028three\fend").narrative == "one\r\ntwo\nthree\nend"


@pytest.mark.parametrize(
    ("name", "payload"),
    [
        ("start-generation", {"narrative": b"a secret story"}),
        ("start-generation", {"narrative": "n", "metadata": METADATA | {"title": b"a secret story"}}),
        ("start-generation", {"narrative": "n", "seconds": b"a secret story"}),
        ("start-generation", {"narrative": "n", "instruments": [b"a secret story"]}),
        ("start-generation", b"a secret story"),
        ("join-generation", b"a secret story"),
        ("share-generation", {"generationId": "g", "userId": b"a secret story"}),
        ("refresh-token", {"token": b"a secret story"}),
    ],
)
def test_a_binary_attachment_is_refused_without_its_words(name, payload):
    with pytest.raises(InvalidRequest) as caught:
        decode(name, payload)
    assert "secret" not in f"{caught.value} {caught.value.details}"


def test_instruments_of_metadata_may_be_names_as_those_of_a_request():
    metadata = SongMetadata.model_validate(METADATA | {"instruments": ["bass", {"name": "piano", "role": "lead"}]})
    assert [(each.name, each.role) for each in metadata.instruments] == [("bass guitar", "bass"), ("piano", "lead")]


def test_what_an_earlier_version_took_is_opened_clean():
    old = METADATA | {"title": "\x1b[31m", "lyrics": "la\x00la\n\x9b2J", "genre": " ", "mood": [""]}
    metadata = SongMetadata.model_validate(old, context=GIVEN)
    assert (metadata.title, metadata.lyrics, metadata.genre) == (" [31m", "la la\n 2J", " ")
    with pytest.raises(ValidationError):
        SongMetadata.model_validate(old)


def test_a_client_prints_no_code_that_a_server_sent():
    failed = {"id": "g", "error": "no \x1b[2J", "code": "INTERNAL", "recoverable": False, "seq": 1}
    assert decode_event("job:failed", failed).error == "no  [2J"


def test_a_file_name_that_is_no_utf8_can_be_sent():
    info = events.ErrorInfo(code="STORAGE_FULL", message="caf\udce9.flac cannot be written.", recoverable=True)
    assert '"caf .flac cannot be written."' in info.to_json()
