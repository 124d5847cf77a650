"""`docs/security.md`, made of the committed data: the table of users, as it was last found.

Owns the data's form. A row of `cells` is a `Cell` as a list: [what, user, let_in, answered, said].
"""

import dataclasses
import json
import time
from pathlib import Path

from harmonia_lab.engines.probes import git_commit, host
from tests.security.matrix import Cell, table

ROOT = Path(__file__).parents[2]
COMMITTED, PAGE = ROOT / "benchmarks" / "security.json", ROOT / "docs" / "security.md"

HEAD = """\
# Who gets in

Made by `make security` from `benchmarks/security.json`, which it writes. It asks a running server for everything: each
command and each route, as the generation's owner, as users with whom it is shared (to hear it, or to control it too),
as an admin, as another user, with a token of the owner's that was revoked or has expired, as a listener who is invited
to a listening test, and without a token. "in": the user got what the command or route is about; in brackets the
answer's code. `make test` asks the same, and fails if a cell differs.

The generation has ended, so its owner's cancel and retry are let in and then refused; to another user, there is no such
generation. The lists of `jobs:subscribe:user`, `GET /api/generations`, `GET /api/shared` and `GET /api/sounds` are the
user's own; `DELETE /api/sounds/…` asks for a sound of the owner's, which is nobody else's, an admin's neither.
`/metrics` is open on this machine alone. `/` and its files are [the page](page.md), which is the same for everybody and
shows what the other rows let its user see. A listener has the owner's name and a token of the role `listener:ID`, which
opens that listening test and its sounds, and nothing else; no other token opens a test, an admin's neither. The test's
page is the same for every test, and says nothing.
"""


REDIS = """\
## The Redis that servers share

| who | what happens |
|---|---|
| without the password, or with a wrong one | Redis refuses; the server doesn't start, and doesn't tell the password |
| a server with another key for tokens than the others | doesn't start |
| a server over `redis://` to another machine | doesn't start without `?insecure=yes`: nothing would be encrypted |
| a server that was taken for dead | is refused at its next write |
| whoever reads logs, errors, `repr` or `harmonia doctor` | sees neither user nor password |

[servers.md](servers.md#nobody-in) says what is in Redis; tests/store/test_redis_journal.py and
tests/server/test_shared_servers.py hold each row.
"""

CLUSTER = """\
## The Dask cluster that makes songs

| who | what happens |
|---|---|
| a lab with a `tcp://` scheduler elsewhere, also in a Client or Cluster object | refuses, and says what to do |
| without the lab's secret at its port for workers, or with another one | is cut off, and hears nothing |
| the same with the secret, but without a certificate of the cluster's authority | can't connect, where there is TLS |
| a worker with a song that was given to another one | is told that it is over; nothing it says counts |
| a worker that names files outside the song's folder | the song fails; nothing is written there |
| whoever reads tasks, scheduler events, the dashboard's data and logs | sees no words of a song, nor its id |

Whoever reaches a scheduler's port can run programs on every worker. What Dask has of a song is a random name, the lab's
address and the lab's secret. [cluster.md](cluster.md#nobody-else) says more; tests/backends/cluster/test_security.py,
test_wire.py and test_losses.py hold each row.
"""


def data_of(found):
    """Return what is committed of a run."""
    return {
        "date": time.strftime("%Y-%m-%d"),
        "host": {name: host()[name] for name in ("cpu", "cores", "python", "platform")},
        "commit": git_commit(),
        "cells": [list(dataclasses.astuple(cell)) for cell in found],
    }


def write(data):
    """Write data and page."""
    cells = ",\n".join(f"  {json.dumps(cell)}" for cell in data["cells"])
    head = "".join(f' "{name}": {json.dumps(value)},\n' for name, value in data.items() if name != "cells")
    COMMITTED.write_text(f'{{\n{head} "cells": [\n{cells}\n ]\n}}\n')
    PAGE.write_text(page(data))


def committed():
    return json.loads(COMMITTED.read_text())


def cells_of(data):
    return [Cell(*cell) for cell in data["cells"]]


def page(data):
    found = cells_of(data)
    broken = sum(cell.broken for cell in found)
    end = f"{len(found)} cells, {broken} of them let somebody in or left a message unanswered."
    made = f"Python {data['host']['python']}; commit {data['commit']}; {data['date']}."
    return f"{HEAD}\n{table(found)}\n\n{end}\n\n{made}\n\n{REDIS}\n{CLUSTER}"
