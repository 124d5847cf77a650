"""`make security`: run the whole suite, and write what the table of users found into `docs/security.md`."""

import sys
import tempfile
from pathlib import Path

import pytest

from tests.security.matrix import cells, prepare, table
from tests.security.page import PAGE, page
from tests.server.conftest import serving


def main():
    with tempfile.TemporaryDirectory() as folder, serving(Path(folder)) as server:
        prepare(server)
        found = cells(server)
    PAGE.write_text(page(found))
    broken = [cell for cell in found if cell.broken]
    sys.stdout.write(f"{table(found)}\n{len(found)} cells, {len(broken)} of them broken\n")
    suites = ["tests/security", "tests/server/test_connections.py", "tests/server/test_engine_io.py"]
    suites += ["tests/server/test_auth.py", "tests/server/test_fuzz.py", "tests/server/test_cost.py"]
    suites += [f"tests/server/test_{name}.py" for name in ("sharing", "revocations", "keys", "audit")]
    return 1 if broken else pytest.main(["-q", "-m", "stress or not stress", *suites])


if __name__ == "__main__":
    sys.exit(main())
