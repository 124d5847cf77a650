"""Every command and route for every kind of user: who is let in, and whether each message is answered.

Owns the table: what each kind of user may get, cell by cell, and what was found. `python -m tests.security` writes
`docs/security.md`; test_matrix.py holds it to the code.
"""

import asyncio
import json
import time
from dataclasses import dataclass

import aiohttp
import jwt

from harmonia_lab.protocol.commands import COMMANDS
from harmonia_lab.protocol.models import SongRequest
from tests.server.conftest import Ear
from tests.waiting import PATIENCE_S, until

USERS = ("owner", "controller", "viewer", "admin", "other", "expired", "revoked", "nobody")
"""owner: of the generation. controller, viewer: users with whom the owner shares it. other: a user with a good token.
expired: the owner's token, too late. revoked: the owner's token, revoked. nobody: no token."""
OWNER, CONTROLLER, VIEWER, ADMIN, OTHER, EXPIRED, REVOKED, NOBODY = USERS
CONNECTED = (OWNER, CONTROLLER, VIEWER, ADMIN, OTHER)
CONTROLS, HEARS = (OWNER, CONTROLLER, ADMIN), (OWNER, CONTROLLER, VIEWER, ADMIN)

ONE = "/api/generations/song"
OPEN = ("GET /healthz", "GET /readyz", "GET /asyncapi.json", "GET /metrics")
"""Routes that anybody may call. `/metrics` asks for an admin beyond this machine."""

ROUTES = (
    "GET /api/generations",
    "POST /api/generations",
    f"GET {ONE}",
    f"DELETE {ONE}",
    f"GET {ONE}/shares",
    f"POST {ONE}/shares",
    f"DELETE {ONE}/shares",
    "GET /api/shared",
    "POST /api/tokens/revoke",
    *(f"GET {ONE}/{file}" for file in ("audio", "midi", "overview", "stems", "stems/1-piano.flac")),
    *OPEN,
)

ALLOWED = {
    **dict.fromkeys(("join-generation", "job:subscribe"), HEARS),
    # Ended generations can't be cancelled or tried again; whether that is said is what tells who was let in.
    **dict.fromkeys(("cancel-generation", "retry-generation"), CONTROLS),
    **dict.fromkeys(("share-generation", "unshare-generation"), (OWNER,)),
    **dict.fromkeys(("leave-generation", "job:unsubscribe", "start-generation"), CONNECTED),
    **dict.fromkeys(("jobs:subscribe:user", "jobs:unsubscribe:user", "refresh-token"), CONNECTED),
    **dict.fromkeys(("jobs:subscribe:admin", "jobs:unsubscribe:admin"), (ADMIN,)),
    **dict.fromkeys(("GET /api/generations", "POST /api/generations", "GET /api/shared"), CONNECTED),
    **{route: HEARS for route in ROUTES if ONE in route},
    f"DELETE {ONE}": CONTROLS,
    f"GET {ONE}/shares": (OWNER, ADMIN),
    **dict.fromkeys((f"POST {ONE}/shares", f"DELETE {ONE}/shares"), (OWNER,)),
    "POST /api/tokens/revoke": (ADMIN,),
    **dict.fromkeys(OPEN, USERS),
}
"""Who gets what the command or route is about. The lists of `jobs:subscribe:user` and of HTTP are the user's own."""

BODIES = {
    "POST /api/generations": {"narrative": "A small boat goes home.", "seconds": 1},
    f"POST {ONE}/shares": {"userId": "zoe"},
    "POST /api/tokens/revoke": {"userId": "zoe"},
}
"""By route; `DELETE /shares` has its user in the query."""

PAYLOADS = {
    "start-generation": {"narrative": "A small boat goes home.", "seconds": 1},
    "refresh-token": None,  # the user's own token
    **{name: {"jobId": "song"} for name in ("job:subscribe", "job:unsubscribe")},
    **{name: {"generationId": "song"} for name in ("cancel-generation", "retry-generation", "join-generation")},
    **{name: {"generationId": "song", "userId": "zoe"} for name in ("share-generation", "unshare-generation")},
    "leave-generation": "song",
}


@dataclass(frozen=True)
class Cell:
    """What one kind of user got. let_in: whether that was somebody's song, list or right. answered: at all."""

    what: str
    user: str
    let_in: bool
    answered: bool
    said: str

    @property
    def broken(self):
        return not self.answered or self.let_in != (self.user in ALLOWED[self.what])


def token_of(server, user):
    if user == NOBODY:
        return None
    if user == EXPIRED:
        claims = jwt.decode(server.token("ann"), options={"verify_signature": False})
        past = {"iat": int(time.time()) - 7200, "exp": int(time.time()) - 3600}
        return jwt.encode(claims | past, (server.lab.home / "token.key").read_bytes(), "HS256")
    if user == REVOKED:
        revoked = server._tokens.issue("ann")
        server.revoke(token_id=revoked.token_id)
        return revoked.token
    names = {OWNER: "ann", CONTROLLER: "con", VIEWER: "vic", ADMIN: "root", OTHER: "bob"}
    return server.token(names[user], roles=("admin",) if user == ADMIN else ())


def prepare(server):
    """Make the song that the table is about, ann's."""
    server.lab.submit_request(
        SongRequest(narrative="A small boat goes home.", seconds=1, generation_id="song"),
        user="ann",
    ).result(PATIENCE_S)
    until(lambda: server.lab.journal.state("song").over)
    server.lab.share("song", "con", "controller")
    server.lab.share("song", "vic", "viewer")


def cells(server):
    """Return every cell of the table."""
    return asyncio.run(_cells(server))


async def _cells(server):
    found = []
    for user in USERS:
        found += [await _commands(server, user, name) for name in COMMANDS] if user in CONNECTED else []
        if user not in CONNECTED:
            found += await _refused_handshake(server, user)
        async with aiohttp.ClientSession() as session:
            found += [await _route(server, session, user, route) for route in ROUTES]
    return found


async def _commands(server, user, name):
    token = token_of(server, user)
    async with Ear(server, token=token) as ear:
        payload = {"token": token} if name == "refresh-token" else PAYLOADS.get(name)
        ack = await asyncio.wait_for(ear.ask(name, payload), PATIENCE_S)
        heard = json.dumps([payload for _, payload in ear.heard], default=str)
    code = "ok" if ack["ok"] else ack["error"]["code"]
    words = json.dumps(ack) + heard
    if name in ("leave-generation", "job:unsubscribe") and user == OTHER:
        assert "ann" not in words, words
    if name in ("cancel-generation", "retry-generation"):
        # To a stranger, the generation doesn't exist; a viewer may only hear it; to its owner, it has ended.
        refused = "There is no generation" in words or "to hear it" in words
        return Cell(name, user, not refused, True, code)
    if user == OTHER:
        assert "song-generation" not in words or name.startswith(("start", "jobs:")), words
    return Cell(name, user, ack["ok"], True, code)


async def _refused_handshake(server, user):
    """A token that is missing or has expired gets no socket, so no command: what the client sends is not handled."""
    token = token_of(server, user)
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(f"{server.url}/socket.io/?EIO=4&transport=websocket") as socket,
    ):
        await socket.receive()
        await socket.send_str("40" + (json.dumps({"token": token}) if token else ""))
        said = await socket.receive_str(timeout=PATIENCE_S)
        refused = said.startswith("44") and '"UNAUTHORIZED"' in said
        for number, name in enumerate(COMMANDS):
            await socket.send_str(f"42{number}" + json.dumps([name, PAYLOADS.get(name)]))
        heard = []
        while (message := await socket.receive(timeout=PATIENCE_S)).type is aiohttp.WSMsgType.TEXT:
            heard.append(message.data)
    let_in = any(text.startswith(("42", "43")) for text in heard)
    return [Cell(name, user, let_in, refused, "UNAUTHORIZED") for name in COMMANDS]


async def _route(server, session, user, route):
    method, path = route.split()
    token = token_of(server, user)
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    body = json.dumps(BODIES[route]) if route in BODIES else None
    query = "?userId=zoe" if route == f"DELETE {ONE}/shares" else ""
    async with session.request(method, server.url + path + query, headers=headers, data=body) as answer:
        text = (await answer.read()).decode(errors="replace")
    if path == "/api/generations" and method == "GET" and user == OTHER:
        assert '"userId":"ann"' not in text, text
    # 409: the owner's own song, which has ended.
    return Cell(route, user, answer.status in (200, 202, 409), True, str(answer.status))


def table(found):
    """Return the table as Markdown."""
    said = {(cell.what, cell.user): cell for cell in found}
    lines = ["| | " + " | ".join(USERS) + " |", "|---" * (len(USERS) + 1) + "|"]
    for what in ALLOWED:
        row = [said[what, user] for user in USERS]
        lines.append(f"| `{what}` | " + " | ".join(_shown(cell) for cell in row) + " |")
    return "\n".join(lines)


def _shown(cell):
    return f"{'**BROKEN** ' if cell.broken else ''}{'in' if cell.let_in else 'refused'} ({cell.said})"
