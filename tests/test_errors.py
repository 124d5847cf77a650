"""The table of codes is whole, and an error says what a caller needs."""

import pytest

from harmonia_lab import errors
from harmonia_lab.errors import (
    CODES,
    AudioError,
    Cancelled,
    ErrorCode,
    HarmoniaError,
    InvalidRequest,
    MetadataError,
    Refused,
    StorageError,
    error_of,
)


def test_every_code_has_a_row_with_a_meaning():
    assert set(CODES) == set(ErrorCode)
    assert all(row.meaning.endswith(".") for row in CODES.values())


def test_every_error_class_has_its_own_code_and_is_exported():
    classes = [c for c in vars(errors).values() if isinstance(c, type) and issubclass(c, HarmoniaError)]
    assert len({c.default_code for c in classes}) == len(classes)
    assert {c.__name__ for c in classes} <= set(errors.__all__)


def test_an_error_reads_as_what_happened_and_what_to_do():
    error = InvalidRequest("bpm 10 is too slow.", hint="Choose 40 to 220.", details={"fields": ["bpm"]})
    assert str(error) == "bpm 10 is too slow. Choose 40 to 220."
    assert (error.code, error.recoverable, error.details) == (ErrorCode.INVALID_PAYLOAD, False, {"fields": ["bpm"]})


def test_a_cancel_carries_its_reason():
    assert Cancelled("timeout").reason == "timeout"
    assert "timeout" in str(Cancelled("timeout"))


@pytest.mark.parametrize("kind", [InvalidRequest, MetadataError, AudioError, StorageError, Refused, HarmoniaError])
def test_another_processs_error_is_of_the_kind_that_it_was_there(kind):
    error = error_of(str(kind.default_code), "It failed.", hint="Try again.", details={"fields": ["x"]})
    assert type(error) is kind
    assert (error.code, str(error), error.details) == (kind.default_code, "It failed. Try again.", {"fields": ["x"]})


def test_a_code_from_another_time_is_internal():
    assert error_of("LOST_IN_SPACE", "?").code is ErrorCode.INTERNAL
