"""`docs/security.md`: the table of users, as it was last found."""

from pathlib import Path

from tests.security.matrix import table

PAGE = Path(__file__).parents[2] / "docs" / "security.md"

HEAD = """\
# Who gets in

Made by `make security`, which asks a running server for everything: each command and each route, as the generation's
owner, as users with whom the owner shares it (controller, viewer), as an admin, as another user, with the owner's token
after its time, with one that was revoked, and without a token. "in": the user got what the command or route is about;
in brackets the answer's code. `make test` asks the same, and fails if a cell differs.

The generation has ended, so its owner's cancel and retry are let in and then refused; a viewer may not, and to another
user, there is no such generation. The lists of `jobs:subscribe:user`, `GET /api/generations` and `GET /api/shared` are
the user's own. `/metrics` is open on this machine alone.
"""


def page(found):
    broken = sum(cell.broken for cell in found)
    end = f"{len(found)} cells, {broken} of them let somebody in or left a message unanswered."
    return f"{HEAD}\n{table(found)}\n\n{end}\n"
