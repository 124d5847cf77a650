"""What the tests of the client share: patience."""

import pytest

from harmonia_lab.client import Client
from tests.waiting import PATIENCE_S


@pytest.fixture(autouse=True)
def patience(monkeypatch):
    """A machine that is busy with other things may take longer to answer than people wait."""
    monkeypatch.setitem(Client.__init__.__kwdefaults__, "ack_timeout_s", PATIENCE_S)
    monkeypatch.setitem(Client.__init__.__kwdefaults__, "connect_timeout_s", PATIENCE_S)
