"""Every command and route for every kind of user: who is let in, and whether each message is answered.

Owns the table: what each kind of user may get, cell by cell, and what was found. `python -m tests.security` writes
`docs/security.md`; test_matrix.py holds it to the code.
"""

import asyncio
import json
import time
from dataclasses import dataclass, replace
from pathlib import Path

import aiohttp
import jwt
import numpy as np

from harmonia_lab.audio_engines.audiofile import wav
from harmonia_lab.listening.design import design_test
from harmonia_lab.listening.files import MadeTest
from harmonia_lab.listening.home import listener_role
from harmonia_lab.listening.sources import ComparedSong
from harmonia_lab.protocol.commands import COMMANDS
from harmonia_lab.protocol.models import SongRequest
from tests.server.conftest import Ear
from tests.waiting import PATIENCE_S, until

OWNER, VIEWER, CONTROLLER, ADMIN, OTHER, LISTENER, REVOKED, EXPIRED, NOBODY = USERS = (
    "owner", "viewer", "controller", "admin", "other", "listener", "revoked", "expired", "nobody",
)  # fmt: skip
"""owner: of the generation. viewer, controller: users with whom it is shared. other: a user with a good token.
listener: one who is invited to the listening test, under the owner's name. revoked, expired: the owner's token, too
late. nobody: no token."""

NAMES = {OWNER: "ann", VIEWER: "vic", CONTROLLER: "con", ADMIN: "root", OTHER: "bob"}
CONNECTED, SHARERS = tuple(NAMES), (VIEWER, CONTROLLER)

ONE = "/api/generations/song"
SHARES = f"{ONE}/shares"
SOUND = f"/api/sounds/sound-{'0' * 24}"
TEST_ID = "0123456789ab"
TEST = f"/api/listening/{TEST_ID}"
LISTENING = (f"GET {TEST}", f"GET {TEST}/sounds/s001", f"POST {TEST}/answers")
"""Routes of a listening test, for those who are invited to it."""

TESTS = "GET /api/listening"
PAGE_OF_TEST = f"GET /listen/{TEST_ID}"
PAGE = ("GET /", "GET /page.js", "GET /page.css")
OPEN = ("GET /healthz", "GET /readyz", "GET /asyncapi.json", "GET /metrics", *PAGE, PAGE_OF_TEST)
"""Routes that anybody may call. `/metrics` asks for an admin beyond this machine; the server's page is the
same for all, that of a listening test too, and says nothing."""

OWN_LISTS = (
    "GET /api/generations",
    "POST /api/generations",
    "GET /api/shared",
    "GET /api/sounds",
    "POST /api/sounds",
)
ENGINES = "GET /api/engines"
ROUTES = (
    *OWN_LISTS,
    f"GET {ONE}",
    f"DELETE {ONE}",
    *(f"GET {ONE}/{file}" for file in ("audio", "midi", "overview", "stems", "stems/1-piano.flac", "archive", "rows")),
    f"GET {ONE}/player",
    f"GET {SHARES}",
    f"POST {SHARES}",
    f"DELETE {SHARES}",
    f"DELETE {SOUND}",
    ENGINES,
    "POST /api/tokens/revoke",
    TESTS,
    *LISTENING,
    *OPEN,
)

ALLOWED = {
    **dict.fromkeys(("join-generation", "job:subscribe"), (OWNER, *SHARERS, ADMIN)),
    # Ended generations can't be cancelled or tried again; whether that is said is what tells who was let in.
    **dict.fromkeys(("cancel-generation", "retry-generation"), (OWNER, CONTROLLER, ADMIN)),
    **dict.fromkeys(("share-generation", "unshare-generation"), (OWNER,)),
    **dict.fromkeys(("leave-generation", "job:unsubscribe", "start-generation"), CONNECTED),
    **dict.fromkeys(("jobs:subscribe:user", "jobs:unsubscribe:user", "refresh-token"), CONNECTED),
    **dict.fromkeys(("jobs:subscribe:admin", "jobs:unsubscribe:admin"), (ADMIN,)),
    **dict.fromkeys(OWN_LISTS, CONNECTED),
    **{route: (OWNER, *SHARERS, ADMIN) for route in ROUTES if route.startswith(f"GET {ONE}")},
    f"DELETE {ONE}": (OWNER, CONTROLLER, ADMIN),
    f"GET {SHARES}": (OWNER, ADMIN),
    **dict.fromkeys((f"POST {SHARES}", f"DELETE {SHARES}"), (OWNER,)),
    f"DELETE {SOUND}": (OWNER,),
    ENGINES: CONNECTED,
    "POST /api/tokens/revoke": (ADMIN,),
    TESTS: (ADMIN,),
    **dict.fromkeys(LISTENING, (LISTENER,)),
    **dict.fromkeys(OPEN, USERS),
}
"""Who gets what the command or route is about. The lists of `jobs:subscribe:user` and of HTTP are the user's own."""

PAYLOADS = {
    "start-generation": {"narrative": "A small boat goes home.", "seconds": 1},
    "refresh-token": None,  # the user's own token
    **{name: {"jobId": "song"} for name in ("job:subscribe", "job:unsubscribe")},
    **{name: {"generationId": "song"} for name in ("cancel-generation", "retry-generation", "join-generation")},
    **{name: {"generationId": "song", "userId": "zoe"} for name in ("share-generation", "unshare-generation")},
    "leave-generation": "song",
}

SOUND_FILE = wav(np.sin(np.arange(800, dtype=np.float32))[None], 8000, "PCM_16")

BODIES = {
    "/api/generations": PAYLOADS["start-generation"],
    SHARES: {"userId": "zoe"},
    "/api/sounds": SOUND_FILE,
    "/api/tokens/revoke": {"tokenId": "nobody has it"},
    f"{TEST}/answers": {
        "harmoniaAnswers": 1,
        "test": TEST_ID,
        "kind": "pairs",
        "attempt": "0" * 24,
        "listener": "",
        "seed": 0,
        "complete": False,
        "finishedAt": "",
        "answers": [],
    },
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
        token = server.token("ann")
        server.revoke(token_id=jwt.decode(token, options={"verify_signature": False})["jti"])
        return token
    if user == LISTENER:
        return server.token("ann", roles=(listener_role(TEST_ID),))
    return server.token(NAMES[user], roles=("admin",) if user == ADMIN else ())


def prepare(server):
    """Make the song that the table is about, ann's, and share it."""
    server.lab.submit_request(
        SongRequest(narrative="A small boat goes home.", seconds=1, generation_id="song"),
        user="ann",
    ).result(PATIENCE_S)
    until(lambda: server.lab.journal.state("song").over)
    sound = server.lab.sounds.part("ann")
    sound.write_bytes(SOUND_FILE)
    sound.rename(sound.with_name(SOUND.rsplit("/", 1)[-1]))
    design = design_test([ComparedSong(name, "block", Path(name)) for name in "ab"], checks=0)
    sounds = {each.id: b"a sound" for each in design.stimuli}
    facts = {each.id: {"seconds": 1.0} for each in design.stimuli}
    server.lab.listening.publish(MadeTest(replace(design, id=TEST_ID, sounds=facts), sounds))
    server.lab.share("song", "vic")
    server.lab.share("song", "con", "controller")


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
        # To a stranger, the generation doesn't exist; a viewer only hears it; to its owner, it has ended.
        refused = "There is no generation" in words or "to hear it" in words
        return Cell(name, user, not refused, True, code)
    if user == OTHER:
        assert "song-generation" not in words or name.startswith(("start", "jobs:")), words
    return Cell(name, user, ack["ok"], True, code)


async def _refused_handshake(server, user):
    """Without a token that is good now, there is no socket, so no command: what the client sends is not handled."""
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
    body = BODIES[path] if method == "POST" else None
    body = body if isinstance(body, bytes | None) else json.dumps(body)
    query = "?userId=zoe" if route == f"DELETE {SHARES}" else ""
    async with session.request(method, server.url + path + query, headers=headers, data=body) as answer:
        text = (await answer.read()).decode(errors="replace")
    if (path == "/api/generations" and method == "GET" and user != OWNER) or (
        route == "GET /api/shared" and user == OTHER
    ):
        assert '"userId":"ann"' not in text, text
    # 409: the owner's own song, which has ended.
    return Cell(route, user, answer.status in (200, 201, 202, 409), True, str(answer.status))


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
