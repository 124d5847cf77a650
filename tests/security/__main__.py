"""`make security`: ask for everything as everybody, write `benchmarks/security.json` and `docs/security.md`, and run
the suites of tokens, connections, floods and fuzzing."""

import sys
import tempfile
from pathlib import Path

import pytest

from tests.security.matrix import cells, prepare, table
from tests.security.page import data_of, write
from tests.server.conftest import serving


def main():
    with tempfile.TemporaryDirectory() as folder, serving(Path(folder)) as server:
        prepare(server)
        found = cells(server)
    write(data_of(found))
    broken = [cell for cell in found if cell.broken]
    sys.stdout.write(f"{table(found)}\n{len(found)} cells, {len(broken)} of them broken\n")
    suites = ["tests/security", "tests/server/test_connections.py", "tests/server/test_engine_io.py"]
    suites += ["tests/server/test_auth.py", "tests/server/test_fuzz.py", "tests/server/test_cost.py"]
    suites += [f"tests/server/test_{name}.py" for name in ("sharing", "revocations", "keys", "settings", "audit")]
    return 1 if broken else pytest.main(["-q", "-m", "stress or not stress", *suites])


if __name__ == "__main__":
    sys.exit(main())
