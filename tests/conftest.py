"""What tests of several rooms share."""

import pytest

from harmonia_lab.bench.javascript import installed_packages

PACKAGES = {"@asyncapi/parser": "3.6.3", "socket.io-client": "4.8.4", "typescript": "5.9.3"}


@pytest.fixture(scope="session")
def javascript():
    """A folder from which Node.js finds the guide's client, the TypeScript compiler and AsyncAPI's own parser."""
    return installed_packages(PACKAGES)
