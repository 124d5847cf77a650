"""What the tests of the client share: patience."""

import pytest


@pytest.fixture(autouse=True)
def patient(patience):
    """All of them."""
